package certs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// ErrNameNotAllowed is what errors.Is finds in the error about a name that the development CA may not, or should not,
// sign for.
var ErrNameNotAllowed = errors.New("certs: name not allowed")

// host is one name or address that a certificate is for. Exactly one field is set. It is comparable.
type host struct {
	dns  string // lower case, without a trailing dot
	addr netip.Addr
}

func (h host) String() string {
	if h.addr.IsValid() {
		return h.addr.String()
	}
	return h.dns
}

// maxName is the longest host name in octets (RFC 1035 2.3.4), maxLabel the longest part between two dots.
const maxName, maxLabel = 253, 63

// parseHost reads a DNS name, or an IP address with or without brackets and zone. It allows an underscore, which
// Docker Compose uses in service names, and refuses wildcards and everything that is not ASCII.
func parseHost(s string) (host, error) {
	if len(s) == 0 || len(s) > maxName+1 {
		return host{}, errors.New("a host name has between 1 and 253 characters")
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return host{addr: addr.Unmap().WithZone("")}, nil
	}
	if len(s) > maxName {
		return host{}, errors.New("a host name has between 1 and 253 characters")
	}
	for label := range strings.SplitSeq(s, ".") {
		if err := checkLabel(label); err != nil {
			return host{}, err
		}
	}
	return host{dns: s}, nil
}

func checkLabel(label string) error {
	if len(label) == 0 || len(label) > maxLabel {
		return errors.New("each part of a host name has between 1 and 63 characters")
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return errors.New("no part of a host name starts or ends with a hyphen")
	}
	for i := range len(label) {
		c := label[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("a host name cannot hold %q", c)
		}
	}
	return nil
}

// singleLabels are the usual names without a dot for a hub that runs on this machine or in a container. X.509 name
// constraints cannot say "any name without a dot" (RFC 5280 4.2.1.10), so a CA permits these and Options.Hosts. None of
// them is a top-level domain of the Internet, since a CA that may sign for "hub" may also sign for "www.hub".
var singleLabels = []string{
	"iolite", "iolite-hub", "iolite-emulator",
	"iothub", "iot-hub", "azure-iothub", "azure-iot-hub", "iothub-emulator", "iot-hub-emulator",
	"hub", "emulator", "dps", "eventhub", "eventhubs", "eventhubs-emulator",
}

// localDomains never resolve on the public Internet: RFC 6761 6.2 and 6.3 (test, localhost), RFC 6762 3 (local), and
// ICANN's reservation of 2024-07-29 (internal). Each permits itself and everything below it.
var localDomains = []string{"localhost", "local", "internal", "test"}

// azureDomains are the suffixes under which the services that Iolite stands in for are found: global, China, US
// Government and the former German cloud.
var azureDomains = []string{
	"azure-devices.net", "azure-devices.cn", "azure-devices.us",
	"azure-devices-provisioning.net", "azure-devices-provisioning.cn", "azure-devices-provisioning.us",
	"servicebus.windows.net", "servicebus.chinacloudapi.cn", "servicebus.usgovcloudapi.net", "servicebus.cloudapi.de",
	"blob.core.windows.net", "blob.core.chinacloudapi.cn", "blob.core.usgovcloudapi.net", "blob.core.cloudapi.de",
}

// privateRanges are the loopback, link-local and private addresses: RFC 1122 3.2.1.3, 1918, 3927, 4291, 4193.
var privateRanges = []string{
	"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
	"::1/128", "fc00::/7", "fe80::/10",
}

// confinement is what a CA's name constraints permit. The zero value permits nothing.
type confinement struct {
	everything bool // a CA without constraints
	domains    map[string]bool
	ranges     []netip.Prefix
}

// defaultConfinement is what every constrained CA permits.
func defaultConfinement() confinement {
	c := confinement{domains: map[string]bool{}}
	for _, list := range [][]string{localDomains, singleLabels, azureDomains} {
		for _, d := range list {
			c.domains[d] = true
		}
	}
	for _, r := range privateRanges {
		c.ranges = append(c.ranges, netip.MustParsePrefix(r))
	}
	return c
}

// readConfinement takes the constraints from a CA certificate's fields.
func readConfinement(domains []string, ranges []*net.IPNet) confinement {
	if len(domains) == 0 && len(ranges) == 0 {
		return confinement{everything: true}
	}
	c := confinement{domains: map[string]bool{}}
	for _, d := range domains {
		c.domains[d] = true
	}
	for _, n := range ranges {
		addr, ok := netip.AddrFromSlice(n.IP)
		ones, _ := n.Mask.Size()
		if ok {
			c.ranges = append(c.ranges, netip.PrefixFrom(addr, ones))
		}
	}
	return c
}

// allows reports whether the constraints permit a certificate for h. A permitted domain permits itself and whatever is
// below it (RFC 5280 4.2.1.10).
func (c confinement) allows(h host) bool {
	if c.everything {
		return true
	}
	if h.addr.IsValid() {
		for _, r := range c.ranges {
			if r.Contains(h.addr) {
				return true
			}
		}
		return false
	}
	for name, more := h.dns, true; more; _, name, more = strings.Cut(name, ".") {
		if c.domains[name] {
			return true
		}
	}
	return false
}

// add permits h too.
func (c *confinement) add(h host) {
	if h.addr.IsValid() {
		c.ranges = append(c.ranges, netip.PrefixFrom(h.addr, h.addr.BitLen()))
		return
	}
	c.domains[h.dns] = true
}

// isPublicSuffix reports whether everybody may register names below name, as below "com" or "co.uk".
func isPublicSuffix(name string) bool {
	suffix, icann := publicsuffix.PublicSuffix(name)
	return icann && suffix == name
}

// parseHosts reads Options.Hosts and refuses what would open the confinement to much of the Internet.
func parseHosts(names []string) ([]host, error) {
	hosts := make([]host, 0, len(names))
	for _, name := range names {
		h, err := parseHost(name)
		if err != nil {
			return nil, fmt.Errorf("certs: host %q: %w", name, err)
		}
		if h.dns != "" && isPublicSuffix(h.dns) {
			return nil, fmt.Errorf("%w: sites all over the Internet have names below %q, and the CA could sign for all of them; use %s.local or %s.internal",
				ErrNameNotAllowed, name, h.dns, h.dns)
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}
