// Package backend is a small back end: a service client that talks to a running hub through its own doors, as any SDK would. The
// command's devices, twin, invoke, query, monitor and send are built on it, and doctor.
package backend

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/control"
	"github.com/iolite-emulator/iolite/door"
)

// tokenLife is how long the tokens that a back end makes are good for.
const tokenLife = time.Hour

// Backend is a service client with the rights of one policy.
type Backend struct {
	info   control.Info
	policy control.PolicyInfo
	tls    *tls.Config
	now    func() time.Time // the hub's clock, by which tokens expire
}

// New returns a client of the hub that info describes; roots are the CAs to trust. now is the hub's time, nil for real time.
func New(info control.Info, roots *x509.CertPool, now func() time.Time) (*Backend, error) {
	if now == nil {
		now = clock.Wall
	}
	b := &Backend{info: info, now: now, tls: &tls.Config{RootCAs: roots, ServerName: info.Hostname, MinVersion: tls.VersionTLS12}}
	for _, p := range info.Policies {
		if p.Name == "iothubowner" {
			b.policy = p
			return b, nil
		}
	}
	return nil, errors.New("the hub tells no policy iothubowner")
}

// Info returns what the back end knows of the hub.
func (b *Backend) Info() control.Info { return b.info }

// TLS returns the client configuration for the hub's TLS doors.
func (b *Backend) TLS() *tls.Config { return b.tls.Clone() }

// Address returns "host:port" of a door by the name a client would dial; an error when the door is shut.
func (b *Backend) Address(d door.Door) (string, error) {
	for _, open := range b.info.Doors {
		if open.Name == d.String() {
			return net.JoinHostPort(b.info.Hostname, strconv.Itoa(open.Port)), nil
		}
	}
	return "", fmt.Errorf("the %s door is shut", d)
}

// Token returns a SAS token of the policy for the whole hub.
func (b *Backend) Token() (string, error) {
	return auth.NewToken(b.info.Hostname, b.policy.PrimaryKey, b.policy.Name, b.now().Add(tokenLife))
}

// DeviceToken returns a SAS token for a device, signed with its key.
func (b *Backend) DeviceToken(deviceID, key string) (string, error) {
	return auth.NewToken(b.info.Hostname+"/devices/"+deviceID, key, "", b.now().Add(tokenLife))
}

// TokenFor returns a SAS token for a device or module that has a key, good for ttl on the hub's clock.
func (b *Backend) TokenFor(d Device, ttl time.Duration) (string, error) {
	resource := b.info.Hostname + "/devices/" + d.DeviceID
	if d.ModuleID != "" {
		resource += "/modules/" + d.ModuleID
	}
	return auth.NewToken(resource, d.Authentication.SymmetricKey.PrimaryKey, "", b.now().Add(ttl))
}

// trimmed cuts a text for an error message.
func trimmed(text []byte) string {
	const most = 300
	if len(text) > most {
		return strings.TrimSpace(string(text[:most])) + "..."
	}
	return strings.TrimSpace(string(text))
}

// Now returns the hub's time, by which tokens and messages expire.
func (b *Backend) Now() time.Time { return b.now() }
