package hub

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

// token signs a resource.
func token(t testing.TB, resource, key, policy string, expiry time.Time) string {
	t.Helper()
	text, err := auth.NewToken(resource, key, policy, expiry)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTokens(t *testing.T) {
	h, _ := newTestHub(t)
	d1, m1 := store.Key{DeviceID: "d1"}, store.Key{DeviceID: "d1", ModuleID: "m1"}
	odd, off := store.Key{DeviceID: "a#b%c"}, store.Key{DeviceID: "off"}
	for _, key := range []store.Key{d1, m1, odd, off} {
		addDevice(t, h, key)
	}
	disable(t, h, off)
	cert, err := h.Admin().CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: "cert"}, Authentication: store.Authentication{Type: store.AuthCA}})
	if err != nil {
		t.Fatal(err)
	}
	key1, key2 := DeriveKeys(d1)
	moduleKey, _ := DeriveKeys(m1)
	oddKey, _ := DeriveKeys(odd)
	offKey, _ := DeriveKeys(off)
	service := h.Policies()[1]
	later := start.Add(time.Hour)
	device := auth.Principal{DeviceID: "d1", Rights: auth.DeviceConnect, Scope: "devices/d1", Method: auth.MethodSAS, Expiry: later}
	refused := auth.Principal{}
	with := func(p auth.Principal, change func(*auth.Principal)) auth.Principal { change(&p); return p }
	for name, c := range map[string]struct {
		token string
		want  auth.Principal
	}{
		"primary key":   {token(t, "host/devices/d1", key1, "", later), device},
		"secondary key": {token(t, "host/devices/d1", key2, "", later), device},
		"any host, any case of devices": {token(t, "whatever.azure-devices.net/Devices/d1", key1, "", later),
			with(device, func(p *auth.Principal) { p.Scope = "Devices/d1" })},
		"an old api-version behind it": {token(t, "host/devices/d1/api-version=2016-11-14", key1, "", later), device},
		"a part of the device": {token(t, "host/devices/d1/messages/events", key1, "", later),
			with(device, func(p *auth.Principal) { p.Scope = "devices/d1/messages/events" })},
		"a module": {token(t, "host/devices/d1/modules/m1", moduleKey, "", later),
			with(device, func(p *auth.Principal) { p.ModuleID, p.Scope = "m1", "devices/d1/modules/m1" })},
		"an id encoded twice": {token(t, "host/devices/a%23b%25c", oddKey, "", later),
			with(device, func(p *auth.Principal) { p.DeviceID, p.Scope = "a#b%c", "devices/a%23b%25c" })},
		"a policy": {token(t, "host", service.SecondaryKey, "service", later),
			auth.Principal{Policy: "service", Rights: auth.ServiceConnect, Method: auth.MethodSAS, Expiry: later}},
		"a policy narrowed": {token(t, "sb://host/iolite/ConsumerGroups/$Default", service.PrimaryKey, "service", later),
			auth.Principal{Policy: "service", Rights: auth.ServiceConnect, Scope: "iolite/ConsumerGroups/$Default", Method: auth.MethodSAS, Expiry: later}},
		"ended less than five minutes ago": {token(t, "host/devices/d1", key1, "", start.Add(-tokenGrace)),
			with(device, func(p *auth.Principal) { p.Expiry = start.Add(-tokenGrace) })},
		"ended":                       {token(t, "host/devices/d1", key1, "", start.Add(-tokenGrace-time.Second)), refused},
		"ended policy":                {token(t, "host", service.PrimaryKey, "service", start.Add(-time.Hour)), refused},
		"another device's key":        {token(t, "host/devices/d1", oddKey, "", later), refused},
		"the device's key for module": {token(t, "host/devices/d1/modules/m1", key1, "", later), refused},
		"unknown device":              {token(t, "host/devices/nobody", key1, "", later), refused},
		"another case of the id":      {token(t, "host/devices/D1", key1, "", later), refused},
		"disabled device":             {token(t, "host/devices/off", offKey, "", later), refused},
		"a device with certificates":  {token(t, "host/devices/"+cert.DeviceID, key1, "", later), refused},
		"unknown policy":              {token(t, "host", service.PrimaryKey, "admin", later), refused},
		"another policy's key":        {token(t, "host", service.PrimaryKey, "device", later), refused},
		"a device's key for the hub":  {token(t, "host", key1, "", later), refused},
		"no token":                    {"SharedAccessSignature", refused},
		"nothing":                     {"", refused},
	} {
		got, err := h.Authenticate(ctx, Credential{Token: c.token}, store.Key{})
		if c.want == refused {
			if codeOf(err) != CodeUnauthorized {
				t.Errorf("%s: %+v, %v; want it refused", name, got, err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, principal (-want +got):\n%s", name, err, diff)
		}
	}
}

// An event hub may be called like an address of the hub. Its clients sign with the text of the key, which is good for nothing else.
func TestEventHubCalledLikeAnAddressOfTheHub(t *testing.T) {
	h, _ := newTestHub(t)
	service := h.Policies()[1]
	text := base64.StdEncoding.EncodeToString([]byte(service.PrimaryKey))
	sas := token(t, "sb://host/twins/ConsumerGroups/$Default", text, "service", start.Add(time.Hour))
	if _, err := h.Authenticate(ctx, Credential{Token: sas}, store.Key{}); codeOf(err) != CodeUnauthorized {
		t.Errorf("before there is such an event hub: %v", err)
	}
	if _, err := h.Admin().PutEventHub(ctx, "Twins", 1); err != nil {
		t.Fatal(err)
	}
	p, err := h.Authenticate(ctx, Credential{Token: sas}, store.Key{})
	if err != nil || !p.Covers("twins/ConsumerGroups/$Default/Partitions/0") || p.Covers("jobs") {
		t.Errorf("%+v, %v", p, err)
	}
	for _, name := range []string{"devices", "Messages"} {
		if _, err := h.Admin().PutEventHub(ctx, name, 1); codeOf(err) != CodeArgumentInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func disable(t testing.TB, h *Hub, key store.Key) {
	t.Helper()
	id := identity(t, h, key).Identity
	id.Status = store.Disabled
	if _, err := h.Admin().UpdateIdentity(ctx, id, "*"); err != nil {
		t.Fatal(err)
	}
}

func TestRefusedPeerLearnsNothingAndTheLogSaysWhy(t *testing.T) {
	var log bytes.Buffer
	h, _ := newTestHub(t, func(cfg *Config) { cfg.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	off := addDevice(t, h, store.Key{DeviceID: "off"}).Key
	disable(t, h, off)
	key, _ := DeriveKeys(off)
	_, err := h.Authenticate(ctx, Credential{Token: token(t, "host/devices/off", key, "", start.Add(time.Hour))}, off)
	e := h.Answer(Peer{}, err)
	if e.Text != "Unauthorized" {
		t.Errorf("text %q", e.Text)
	}
	for _, part := range []string{"the device is disabled", e.TrackingID, "deviceId=off", "category=Connections", "operation=deviceConnect"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log does not mention %q:\n%s", part, log.String())
		}
	}
}

func TestAuthenticationOffTakesEverybodyAtTheirWord(t *testing.T) {
	h, _ := newTestHub(t, func(cfg *Config) { cfg.AuthOff = true })
	key := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	p, err := h.Authenticate(ctx, Credential{}, key)
	if err != nil || p.DeviceID != "d" || p.Method != auth.MethodNone {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := h.OpenDevice(ctx, p, key, DeviceOptions{}); err != nil {
		t.Error(err)
	}
	p, err = h.Authenticate(ctx, Credential{Token: "rubbish"}, store.Key{})
	if err != nil || !p.IsPolicy() || !p.Rights.Has(auth.RegistryWrite|auth.ServiceConnect|auth.DeviceConnect) {
		t.Errorf("%+v, %v", p, err)
	}
	p, _ = h.Authenticate(ctx, Credential{}, store.Key{DeviceID: "nobody"})
	_, err = h.OpenDevice(ctx, p, store.Key{DeviceID: "nobody"}, DeviceOptions{})
	wantCode(t, err, CodeDeviceNotFound)
}

func TestPlainUserNames(t *testing.T) {
	h, _ := newTestHub(t)
	d, m := store.Key{DeviceID: "d"}, store.Key{DeviceID: "d", ModuleID: "m"}
	at := store.Key{DeviceID: "a@sas.b"}
	for _, key := range []store.Key{d, m, at} {
		addDevice(t, h, key)
	}
	later := start.Add(time.Hour)
	own := func(key store.Key) string {
		primary, _ := DeriveKeys(key)
		return token(t, "host/"+devicePath(key), primary, "", later)
	}
	service := h.Policies()[1]
	for name, c := range map[string]struct {
		user, password string
		want           string // principalName, or "" when refused
	}{
		"device":                    {"d@sas.iolite", own(d), `identity "d"`},
		"device of another hub":     {"d@sas.whatever", own(d), `identity "d"`},
		"device with an at sign":    {"a@sas.b@sas.iolite", own(at), `identity "a@sas.b"`},
		"encoded":                   {"a%40sas.b@sas.iolite", own(at), `identity "a@sas.b"`},
		"module":                    {"d/modules/m@sas.iolite", own(m), `identity "d/m"`},
		"module, short":             {"d/m@sas.iolite", own(m), `identity "d/m"`},
		"policy":                    {"service@sas.root.iolite", token(t, "host", service.PrimaryKey, "service", later), `policy "service" with scope ""`},
		"policy with its key":       {"service", service.SecondaryKey, `policy "service" with scope ""`},
		"device by a policy":        {"d@sas.iolite", token(t, "host", h.Policies()[2].PrimaryKey, "device", later), `policy "device" with scope ""`},
		"another device's token":    {"d@sas.iolite", own(at), ""},
		"the device's for a module": {"d/modules/m@sas.iolite", own(d), ""},
		"another policy's token":    {"iothubowner@sas.root.iolite", token(t, "host", service.PrimaryKey, "service", later), ""},
		"another policy's key":      {"iothubowner", service.PrimaryKey, ""},
		"no password":               {"service", "", ""},
		"nobody":                    {"", "", ""},
	} {
		p, err := h.AuthenticatePlain(ctx, c.user, c.password)
		switch {
		case c.want == "":
			if codeOf(err) != CodeUnauthorized {
				t.Errorf("%s: %v, %v; want it refused", name, principalName(p), err)
			}
		case err != nil || principalName(p) != c.want:
			t.Errorf("%s: %s, %v; want %s", name, principalName(p), err, c.want)
		}
	}
}

func FuzzPlainUser(f *testing.F) {
	for _, seed := range []string{"d@sas.iolite", "d/modules/m@sas.iolite", "service@sas.root.iolite", "service", "a%40b@sas.x", "@", "/@", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, user string) {
		if key, policy := parsePlainUser(user); policy != "" && key != (store.Key{}) {
			t.Errorf("parsePlainUser(%q) = %v and policy %q", user, key, policy)
		}
	})
}

// signer is a certificate that can sign others.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate for a common name, signed by s, or by itself when s is nil.
func (s *signer) issue(t testing.TB, name string, ca bool) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(24 * time.Hour),
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	parent := &signer{template, key}
	if s != nil {
		parent = s
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{cert, key}
}

func TestCertificates(t *testing.T) {
	var none *signer
	root := none.issue(t, "root", true)
	middle := root.issue(t, "middle", true)
	stranger := none.issue(t, "stranger", true)
	own := none.issue(t, "anything", false)
	sum := sha256.Sum256(own.cert.Raw)

	h, c := newTestHub(t)
	h.AddCA(root.cert)
	h.AddCA(root.cert)
	if n := len(h.CAs()); n != 1 {
		t.Errorf("%d CAs", n)
	}
	create := func(key store.Key, a store.Authentication) {
		t.Helper()
		if _, err := h.Admin().CreateIdentity(ctx, store.Identity{Key: key, Authentication: a}); err != nil {
			t.Fatal(err)
		}
	}
	create(store.Key{DeviceID: "ca"}, store.Authentication{Type: store.AuthCA})
	create(store.Key{DeviceID: "ca", ModuleID: "m"}, store.Authentication{Type: store.AuthCA})
	create(store.Key{DeviceID: "self"}, store.Authentication{Type: store.AuthSelfSigned, SecondaryThumbprint: strings.ToUpper(hex.EncodeToString(sum[:]))})
	create(store.Key{DeviceID: "sas"}, store.Authentication{})
	chain := func(s ...*signer) (list []*x509.Certificate) {
		for _, one := range s {
			list = append(list, one.cert)
		}
		return list
	}
	for name, c := range map[string]struct {
		certs   []*x509.Certificate
		claimed store.Key
		want    auth.Method // "" when refused
	}{
		"signed by the CA":              {chain(root.issue(t, "ca", false)), store.Key{DeviceID: "ca"}, auth.MethodCA},
		"signed through another":        {chain(middle.issue(t, "ca", false), middle), store.Key{DeviceID: "ca"}, auth.MethodCA},
		"without the one between":       {chain(middle.issue(t, "ca", false)), store.Key{DeviceID: "ca"}, ""},
		"a module":                      {chain(root.issue(t, "ca/m", false)), store.Key{DeviceID: "ca", ModuleID: "m"}, auth.MethodCA},
		"the device's for its module":   {chain(root.issue(t, "ca", false)), store.Key{DeviceID: "ca", ModuleID: "m"}, ""},
		"signed by a stranger":          {chain(stranger.issue(t, "ca", false), stranger), store.Key{DeviceID: "ca"}, ""},
		"another name":                  {chain(root.issue(t, "other", false)), store.Key{DeviceID: "ca"}, ""},
		"its thumbprint, whatever name": {chain(own), store.Key{DeviceID: "self"}, auth.MethodSelfSigned},
		"another thumbprint":            {chain(stranger), store.Key{DeviceID: "self"}, ""},
		"a device with keys":            {chain(root.issue(t, "sas", false)), store.Key{DeviceID: "sas"}, ""},
		"unknown device":                {chain(root.issue(t, "nobody", false)), store.Key{DeviceID: "nobody"}, ""},
		"nobody is claimed":             {chain(root.issue(t, "ca", false)), store.Key{}, ""},
	} {
		p, err := h.Authenticate(ctx, Credential{Certificates: c.certs}, c.claimed)
		if c.want == "" {
			if codeOf(err) != CodeUnauthorized {
				t.Errorf("%s: %+v, %v; want it refused", name, p, err)
			}
			continue
		}
		if err != nil || p.Method != c.want || p.DeviceID != c.claimed.DeviceID || p.ModuleID != c.claimed.ModuleID || !p.Expiry.IsZero() {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	valid := chain(root.issue(t, "ca", false))
	c.Advance(25 * time.Hour)
	if _, err := h.Authenticate(ctx, Credential{Certificates: valid}, store.Key{DeviceID: "ca"}); err == nil {
		t.Error("a certificate counts after its end on the hub's clock")
	}
}

func TestRememberedTokenCountsOnlyAsLongAsItsIdentityStaysAsItIs(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, h *Hub, c *clock.Clock, key store.Key){
		"disabled": func(t *testing.T, h *Hub, _ *clock.Clock, key store.Key) { disable(t, h, key) },
		"deleted": func(t *testing.T, h *Hub, _ *clock.Clock, key store.Key) {
			if err := h.Admin().DeleteIdentity(ctx, key, "*"); err != nil {
				t.Fatal(err)
			}
		},
		"given other keys": func(t *testing.T, h *Hub, _ *clock.Clock, key store.Key) {
			if _, err := h.Admin().UpdateIdentity(ctx, store.Identity{Key: key}, "*"); err != nil {
				t.Fatal(err)
			}
		},
		"made anew": func(t *testing.T, h *Hub, _ *clock.Clock, key store.Key) {
			if err := h.Reset(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Admin().CreateIdentity(ctx, store.Identity{Key: key}); err != nil {
				t.Fatal(err)
			}
		},
		"too old": func(_ *testing.T, _ *Hub, c *clock.Clock, _ store.Key) { c.Advance(2 * time.Hour) },
	} {
		h, c := newTestHub(t)
		key := addDevice(t, h, store.Key{DeviceID: "d"}).Key
		primary, _ := DeriveKeys(key)
		cred := Credential{Token: token(t, "host/devices/d", primary, "", start.Add(time.Hour))}
		for range 3 {
			if _, err := h.Authenticate(ctx, cred, key); err != nil {
				t.Fatal(err)
			}
		}
		if len(h.tokens.proven) != 1 {
			t.Fatal("the token is not remembered")
		}
		change(t, h, c, key)
		if _, err := h.Authenticate(ctx, cred, key); codeOf(err) != CodeUnauthorized {
			t.Errorf("the token of a device that was %s: %v", name, err)
		}
	}
}

func TestFewTokensAreRemembered(t *testing.T) {
	h, _ := newTestHub(t)
	for i := range 2 * maxProven {
		for range 2 {
			h.tokens.remember(fmt.Sprint(i), provenToken{})
		}
	}
	if n := len(h.tokens.proven); n != maxProven {
		t.Errorf("%d tokens are remembered, want %d", n, maxProven)
	}
}

func BenchmarkAuthenticateToken(b *testing.B) {
	h, _ := newTestHub(b)
	key := addDevice(b, h, store.Key{DeviceID: "d"}).Key
	primary, _ := DeriveKeys(key)
	cred := Credential{Token: token(b, "host/devices/d", primary, "", start.Add(time.Hour))}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Authenticate(ctx, cred, key); err != nil {
			b.Fatal(err)
		}
	}
}
