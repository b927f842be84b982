package control

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// foreign says why a request is refused, or "". A page on the web can make a browser send requests here, directly or by letting its
// own name resolve to this machine (DNS rebinding), but not without telling its name in Host or Origin.
func (s *Server) foreign(r *http.Request) string {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !s.own(r.Host, local) {
		return "the host " + quote(r.Host) + " is not one that the control API answers to; --control-host adds one"
	}
	origins := r.Header.Values("Origin")
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || !s.own(u.Host, local) {
			return "a page of " + quote(origin) + " may not use the control API"
		}
	}
	return ""
}

// own reports whether hostPort names this machine as the control API is known: localhost, a loopback address, the address the
// connection came in at, or a configured name. The port does not matter: a container's may be mapped to another.
func (s *Server) own(hostPort string, local net.Addr) bool {
	host := hostPort
	if h, _, err := net.SplitHostPort(hostPort); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback() || isAddr(ip, local)
	}
	return host == "localhost" || slices.ContainsFunc(s.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

func isAddr(ip netip.Addr, a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.AddrPort().Addr().Unmap() == ip.Unmap()
}

// quote shows at most the beginning of what a stranger wrote.
func quote(s string) string {
	const most = 100
	if len(s) > most {
		s = s[:most] + "..."
	}
	return "'" + strings.ToValidUTF8(s, "?") + "'"
}
