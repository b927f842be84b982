package blob

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// SharedKey is a storage account's name and key, which sign shared access signatures (articles "Create a service SAS" and "Create an
// account SAS" of the storage services REST API).
type SharedKey struct {
	Account string
	Key     []byte
}

// hubVersion is what IoT Hub signs with.
const hubVersion = "2018-03-28"

// The versions from which on a signature covers more.
const (
	oldestVersion   = "2015-04-05" // the resource begins with /blob
	resourceVersion = "2018-11-09" // kind of the resource, snapshot
	scopeVersion    = "2020-12-06" // encryption scope
)

// sasTime is how IoT Hub writes when a signature ends.
const sasTime = "2006-01-02T15:04:05Z"

// Resource is a container, or a blob in it.
type Resource struct {
	Container string
	Blob      string // empty for the container itself
}

// SignBlob returns a service SAS for a blob, with a leading question mark, as IoT Hub gives devices.
func (k SharedKey) SignBlob(r Resource, permissions string, until time.Time) string {
	end := until.UTC().Format(sasTime)
	q := url.Values{"sv": {hubVersion}, "sr": {"b"}, "se": {end}, "sp": {permissions}}
	sig := k.sign(k.serviceText(q, r))
	return "?sv=" + hubVersion + "&sr=b&sig=" + url.QueryEscape(sig) + "&se=" + url.QueryEscape(end) + "&sp=" + permissions
}

// SignAccount returns an account SAS for the blob service, without a question mark: types are letters of s, c and o.
func (k SharedKey) SignAccount(types, permissions string, until time.Time) string {
	q := url.Values{"sv": {hubVersion}, "ss": {"b"}, "srt": {types}, "sp": {permissions}, "se": {until.UTC().Format(sasTime)}}
	q.Set("sig", k.sign(k.accountText(q)))
	return q.Encode()
}

// sign returns the signature of a text.
func (k SharedKey) sign(text string) string { return base64.StdEncoding.EncodeToString(k.mac(text)) }

func (k SharedKey) mac(text string) []byte {
	mac := hmac.New(sha256.New, k.Key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// Signed reports whether a signature, in base64, is that of a text.
func (k SharedKey) Signed(text, signature string) bool {
	given, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(signature, " ", "+")) // a client may forget to escape it
	return err == nil && hmac.Equal(given, k.mac(text))
}

// serviceText is what a service SAS signs.
func (k SharedKey) serviceText(q url.Values, r Resource) string {
	resource := "/blob/" + k.Account + "/" + r.Container
	if q.Get("sr") != "c" {
		resource += "/" + r.Blob
	}
	lines := []string{q.Get("sp"), q.Get("st"), q.Get("se"), resource, q.Get("si"), q.Get("sip"), q.Get("spr"), q.Get("sv")}
	if q.Get("sv") >= resourceVersion {
		lines = append(lines, q.Get("sr"), "") // and no snapshot
	}
	if q.Get("sv") >= scopeVersion {
		lines = append(lines, q.Get("ses"))
	}
	return strings.Join(append(lines, q.Get("rscc"), q.Get("rscd"), q.Get("rsce"), q.Get("rscl"), q.Get("rsct")), "\n")
}

// accountText is what an account SAS signs.
func (k SharedKey) accountText(q url.Values) string {
	lines := []string{k.Account, q.Get("sp"), q.Get("ss"), q.Get("srt"), q.Get("st"), q.Get("se"), q.Get("sip"), q.Get("spr"), q.Get("sv")}
	if q.Get("sv") >= scopeVersion {
		lines = append(lines, q.Get("ses"))
	}
	return strings.Join(append(lines, ""), "\n")
}

// What is wrong with a shared access signature that is one of this account.
var (
	ErrOutside    = errors.New("the signature is for another resource")
	ErrSource     = errors.New("the signature is for another address")
	ErrNoSuchKind = errors.New("the signature is of a kind that Iolite does not know")
)

// Grant is what a shared access signature allows.
type Grant struct {
	permissions string
	types       string // of an account SAS: letters of s, c and o; empty for a service SAS
	service     string // sr of a service SAS
}

// VerifySAS checks the shared access signature in a query for access to a resource at a time, from an address. Whoever calls asks the grant
// for what is to be done. An error that is not one of this package's says in words what does not hold.
func (k SharedKey) VerifySAS(q url.Values, r Resource, from netip.Addr, now time.Time) (Grant, error) {
	if q.Get("skoid") != "" || q.Get("si") != "" {
		return Grant{}, ErrNoSuchKind
	}
	if sv := q.Get("sv"); sv < oldestVersion || !isDate(sv) {
		return Grant{}, fmt.Errorf("sv is no version from %s on", oldestVersion)
	}
	g := Grant{permissions: q.Get("sp")}
	var text string
	if q.Get("ss") != "" || q.Get("srt") != "" {
		g.types, text = q.Get("srt"), k.accountText(q)
	} else {
		g.service, text = q.Get("sr"), k.serviceText(q, r)
	}
	if !k.Signed(text, q.Get("sig")) {
		return Grant{}, fmt.Errorf("Signature did not match. String to sign used was %s", text)
	}
	return g, g.holds(q, from, now)
}

// holds checks what a good signature says of itself.
func (g *Grant) holds(q url.Values, from netip.Addr, now time.Time) error {
	start, end := q.Get("st"), q.Get("se")
	until, ok := parseTime(end)
	since, okStart := time.Time{}, true
	if start != "" {
		since, okStart = parseTime(start)
	}
	switch {
	case !ok || !okStart:
		return errors.New("st or se is no time")
	case now.Before(since) || !now.Before(until):
		return fmt.Errorf("Signature not valid in the specified time frame: Start [%s] - Expiry [%s] - Current [%s]", start, end, now.UTC().Format(time.RFC1123))
	case g.types == "" && g.service != "b" && g.service != "c":
		return ErrNoSuchKind
	case g.types != "" && !strings.Contains(q.Get("ss"), "b"):
		return ErrOutside
	case !inRange(q.Get("sip"), from):
		return ErrSource
	}
	return nil
}

// Covers reports whether the signature is for a resource of this kind: containers and accounts need an account SAS, or, for a list of blobs,
// one for the container.
func (g *Grant) Covers(r Resource, list bool) bool {
	switch {
	case g.types != "" && r.Blob != "":
		return strings.Contains(g.types, "o")
	case g.types != "" && r.Container != "":
		return strings.Contains(g.types, "c")
	case g.types != "":
		return strings.Contains(g.types, "s")
	case r.Blob == "":
		return list && g.service == "c"
	}
	return true
}

// Allows reports whether any of the permissions is given.
func (g *Grant) Allows(anyOf string) bool { return strings.ContainsAny(g.permissions, anyOf) }

func isDate(v string) bool {
	_, err := time.Parse(time.DateOnly, v)
	return err == nil
}

// parseTime takes the forms of ISO 8601 that are documented for signatures.
func parseTime(text string) (time.Time, bool) {
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// inRange reports whether an address is the one, or in the range, that sip names; anything is when it names none.
func inRange(sip string, a netip.Addr) bool {
	if sip == "" {
		return true
	}
	low, high, isRange := strings.Cut(sip, "-")
	if !isRange {
		high = low
	}
	from, err1 := netip.ParseAddr(low)
	to, err2 := netip.ParseAddr(high)
	a = a.Unmap()
	return err1 == nil && err2 == nil && from.Compare(a) <= 0 && a.Compare(to) <= 0
}
