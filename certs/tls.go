package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// What clients can make the CA do by asking for ever new names is bounded: maxLeaves certificates of about 3 KiB are
// kept, and after a first burst mintsPerSecond are made, about 0.2 ms of CPU each.
const (
	maxLeaves      = 256
	mintsPerSecond = 100
)

// errTooManyNames answers clients that ask for new names faster than certificates are made.
var errTooManyNames = errors.New("certs: clients ask for too many different host names")

// TLSConfig returns a new configuration for a TLS door: TLS 1.2 and 1.3, a certificate for whatever name or address
// the client asks for, and a request for the client's certificate that the client may ignore and that nobody has
// verified (that is auth's part). Set NextProtos before the first use, and share the value among all connections of a door.
//
// A client that asks for a name outside the CA's confinement gets the alert unrecognized_name (RFC 6066 3), the
// log a line with the remedy, and the server's handshake the error "tls: no certificates configured".
func (a *Authority) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: a.certificate,
		// Without the post-quantum hybrids: on a developer's machine they would only cost CPU on every connect.
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521},
	}
}

// certificate chooses the leaf for a handshake: ECDSA, or RSA for a client that offers no way to use ECDSA.
func (a *Authority) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	key, err := a.keyFor(hello)
	if err != nil {
		return a.refuse(hello, err)
	}
	cert, err := a.leaf(key)
	if err != nil {
		return a.refuse(hello, err)
	}
	if hello.SupportsCertificate(cert) == nil {
		return cert, nil
	}
	key.rsa = true
	rsaCert, err := a.leaf(key)
	if err != nil {
		return a.refuse(hello, err)
	}
	if hello.SupportsCertificate(rsaCert) == nil {
		return rsaCert, nil
	}
	return cert, nil // neither fits: crypto/tls finds the alert that says why
}

// refuse makes crypto/tls send unrecognized_name, by returning neither a certificate nor an error.
func (a *Authority) refuse(hello *tls.ClientHelloInfo, err error) (*tls.Certificate, error) {
	if a.warnings.AllowN(a.now(), 1) {
		a.log.Warn("TLS handshake refused", "serverName", hello.ServerName, "error", err)
	}
	return nil, nil
}

// keyFor tells which leaf the client needs: for the name it gave (SNI), or else for the address that it reached.
func (a *Authority) keyFor(hello *tls.ClientHelloInfo) (leafKey, error) {
	if hello.ServerName != "" {
		h, err := parseHost(hello.ServerName)
		if err != nil {
			return leafKey{}, fmt.Errorf("%w: %w", ErrNameNotAllowed, err)
		}
		return leafKey{host: h}, a.allows(h)
	}
	key := leafKey{unnamed: true}
	if h := localHost(hello.Conn); a.limits.allows(h) {
		key.host = h // else a client that knows us by a name is still served
	}
	return key, nil
}

// localHost is the address at which the client reached us, or the zero host if conn does not say.
func localHost(conn net.Conn) host {
	if conn == nil {
		return host{}
	}
	switch at := conn.LocalAddr().(type) {
	case nil:
		return host{}
	case *net.TCPAddr:
		return host{addr: at.AddrPort().Addr().Unmap().WithZone("")}
	default:
		ap, _ := netip.ParseAddrPort(at.String())
		return host{addr: ap.Addr().Unmap().WithZone("")}
	}
}

// leaf returns the certificate for key, kept or new.
func (a *Authority) leaf(key leafKey) (*tls.Certificate, error) {
	now := a.now()
	renewAt := later(earlier(now.Add(leafLife), a.issuer.cert.NotAfter).Add(-renewBefore), now.Add(renewBefore))
	return a.leaves.get(key, now, renewAt, func() (*tls.Certificate, error) {
		if !a.mints.AllowN(now, 1) {
			return nil, errTooManyNames
		}
		signer, err := a.signer(key)
		if err != nil {
			return nil, fmt.Errorf("certs: make a key: %w", err)
		}
		return a.mint(a.leafHosts(key), signer)
	})
}

// leafHosts lists the names that the leaf for key is for.
func (a *Authority) leafHosts(key leafKey) []host {
	switch {
	case !key.unnamed && key.host.dns == "localhost", !key.unnamed && key.host.addr.IsLoopback():
		return unique(append([]host{key.host}, loopback...))
	case !key.unnamed:
		return []host{key.host}
	case key.host == host{}:
		return a.unnamed
	default:
		return unique(append([]host{key.host}, a.unnamed...))
	}
}

var loopback = []host{
	{dns: "localhost"},
	{addr: netip.AddrFrom4([4]byte{127, 0, 0, 1})},
	{addr: netip.IPv6Loopback()},
}

// unnamedHosts lists what a client that sends no server name may mean. Java sends none for a name without a dot, so
// those names belong there, and nobody sends one for an address (RFC 6066 3); behind a published container port
// the client's address is another than the one at which the connection arrives.
func (a *Authority) unnamedHosts(more []host) []host {
	hosts := slices.Clone(loopback)
	for _, name := range singleLabels {
		hosts = append(hosts, host{dns: name})
	}
	hosts = append(hosts, more...)
	return unique(slices.DeleteFunc(hosts, func(h host) bool { return !a.limits.allows(h) }))
}

// unique drops repetitions from hosts, in place, and keeps the order.
func unique(hosts []host) []host {
	seen := make(map[host]bool, len(hosts))
	return slices.DeleteFunc(hosts, func(h host) bool {
		again := seen[h]
		seen[h] = true
		return again
	})
}
