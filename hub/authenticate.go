package hub

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// Credential is what a peer shows: a SAS token, or the certificates of its TLS handshake (leaf first), or nothing.
type Credential struct {
	Token        string
	Certificates []*x509.Certificate
}

// Authenticate proves a credential. claimed is the identity the peer says it is (MQTT user name, HTTP path, AMQP link address);
// it may be zero for a token, which names its own resource. It fails with CodeUnauthorized (cause in the log), also for a
// disabled device. With authentication off it returns whoever is claimed, or a policy with every right.
// A principal is not yet allowed to act as claimed: OpenDevice and OpenService check that.
//
// A token counts before a certificate. The host in a token's resource is not compared: Iolite answers under any name. A token
// counts until tokenGrace (five minutes) after its end.
func (h *Hub) Authenticate(ctx context.Context, cred Credential, claimed store.Key) (auth.Principal, error) {
	if h.cfg.AuthOff {
		return whoever(claimed), nil
	}
	var p auth.Principal
	var err error
	switch {
	case cred.Token != "":
		p, err = h.checkToken(ctx, cred.Token)
	case len(cred.Certificates) > 0:
		p, err = h.checkCertificate(ctx, cred.Certificates, claimed)
	default:
		err = errors.New("neither a token nor a client certificate was given")
	}
	return h.verdict(claimed, p, err)
}

// PutToken proves a token that was put on $cbs. What is no token at all is refused with CodeArgumentInvalid, others with CodeUnauthorized.
func (h *Hub) PutToken(ctx context.Context, token string) (auth.Principal, error) {
	p, err := h.Authenticate(ctx, Credential{Token: token}, store.Key{})
	if err == nil {
		return p, nil
	}
	if _, malformed := auth.ParseToken(token); malformed != nil {
		return p, failed(opConnect, store.Key{}, h.newErrorText(CodeArgumentInvalid, "The token is malformed: "+malformed.Error()))
	}
	return p, err
}

// AuthenticatePlain proves the user name and password of SASL PLAIN: {device}@sas.{hub}, {device}/modules/{module}@sas.{hub},
// {policy}@sas.root.{hub} with a token, or a bare policy name with its key. The hub's name is not compared.
func (h *Hub) AuthenticatePlain(ctx context.Context, user, password string) (auth.Principal, error) {
	claimed, policy := parsePlainUser(user)
	if h.cfg.AuthOff {
		return whoever(claimed), nil
	}
	p, err := h.checkPlain(ctx, claimed, policy, password)
	return h.verdict(claimed, p, err)
}

func (h *Hub) checkPlain(ctx context.Context, claimed store.Key, policy, password string) (auth.Principal, error) {
	if found, ok := findPolicy(policy); ok && (password == found.PrimaryKey || password == found.SecondaryKey) {
		return auth.Principal{Policy: found.Name, Rights: found.Rights, Method: auth.MethodSAS}, nil
	}
	p, err := h.checkToken(ctx, password)
	if err != nil {
		return p, err
	}
	if p.Policy != policy && policy != "" || policy == "" && !mayAct(p, claimed) {
		return p, fmt.Errorf("the token is for %s, not for the user name", principalName(p))
	}
	return p, nil
}

// parsePlainUser takes a SASL PLAIN user name apart (article "AMQP support"): an identity, or the name of a policy.
func parsePlainUser(user string) (key store.Key, policy string) {
	at := strings.LastIndexByte(user, '@')
	if at < 0 {
		return store.Key{}, user
	}
	name, hub := user[:at], strings.ToLower(user[at+1:])
	if strings.HasPrefix(hub, "sas.root.") {
		return store.Key{}, name
	}
	device, module, _ := strings.Cut(name, "/")
	if len(module) > len("modules/") && strings.EqualFold(module[:len("modules/")], "modules/") {
		module = module[len("modules/"):]
	}
	return store.Key{DeviceID: unescapeID(device), ModuleID: unescapeID(module)}, ""
}

// unescapeID decodes a percent-encoded id. What is no valid id then was not encoded.
func unescapeID(text string) string {
	if id, err := url.PathUnescape(text); err == nil && validID(id) {
		return id
	}
	return text
}

// whoever is the principal of a hub with authentication off.
func whoever(claimed store.Key) auth.Principal {
	if claimed.DeviceID == "" {
		return admin
	}
	return auth.Principal{DeviceID: claimed.DeviceID, ModuleID: claimed.ModuleID, Rights: auth.DeviceConnect, Scope: devicePath(claimed), Method: auth.MethodNone}
}

// verdict turns a cause into the one answer that a peer gets for all of them.
func (h *Hub) verdict(claimed store.Key, p auth.Principal, cause error) (auth.Principal, error) {
	if cause != nil {
		return auth.Principal{}, failed(opConnect, claimed, h.unauthorized(cause))
	}
	return p, nil
}

// checkToken proves a SAS token, or remembers that it did.
func (h *Hub) checkToken(ctx context.Context, text string) (auth.Principal, error) {
	if p, ok := h.tokens.find(ctx, h, text); ok {
		return p, nil
	}
	p, etag, err := h.proveToken(ctx, text)
	if err == nil {
		h.tokens.remember(text, provenToken{principal: p, etag: etag})
	}
	return p, err
}

// proveToken proves a SAS token with the key of the policy it names, or else of the identity its resource names, whose etag it returns.
func (h *Hub) proveToken(ctx context.Context, text string) (p auth.Principal, etag string, err error) {
	t, err := auth.ParseToken(text)
	if err != nil {
		return p, "", err
	}
	_, path, err := t.Scope()
	if err != nil {
		return p, "", err
	}
	path = withoutVersion(path)
	if t.Policy != "" {
		p, err = h.checkPolicyToken(t, path)
		return p, "", err
	}
	return h.checkIdentityToken(ctx, t, path)
}

// withoutVersion drops the api-version that old tools append to the resource.
func withoutVersion(path string) string {
	if at := strings.LastIndexByte(path, '/') + 1; strings.HasPrefix(path[at:], "api-version=") {
		return strings.TrimSuffix(path[:at], "/")
	}
	return path
}

func (h *Hub) checkPolicyToken(t auth.Token, path string) (auth.Principal, error) {
	policy, ok := findPolicy(t.Policy)
	if !ok {
		return auth.Principal{}, fmt.Errorf("there is no policy %q", t.Policy)
	}
	err := h.checkSignature(t, policy.PrimaryKey, policy.SecondaryKey)
	if h.isEventHubPath(path) && (t.VerifiedByText(policy.PrimaryKey) || t.VerifiedByText(policy.SecondaryKey)) {
		err = h.checkExpiry(t)
	}
	if err != nil {
		return auth.Principal{}, err
	}
	return auth.Principal{Policy: policy.Name, Rights: policy.Rights, Scope: path, Method: auth.MethodSAS, Expiry: t.Expiry}, nil
}

// isEventHubPath reports whether a token's resource can be an event hub or something below it, and is no address of the hub itself.
// Event Hubs clients sign with the text of the key. A token for a misspelt event hub is good, too, and for nothing else: its client
// is to learn that there is no such event hub, not that its key is wrong.
func (h *Hub) isEventHubPath(path string) bool {
	entity, _, _ := strings.Cut(strings.ToLower(path), "/")
	switch entity {
	case "", "devices", "messages": // names that no event hub can have
		return false
	case "twins", "jobs", "configurations", "statistics", "digitaltwins":
		return h.HasEventHub(entity) == nil
	}
	return true
}

func findPolicy(name string) (auth.Policy, bool) {
	for _, p := range policies {
		if p.Name == name {
			return p, true
		}
	}
	return auth.Policy{}, false
}

func (h *Hub) checkIdentityToken(ctx context.Context, t auth.Token, path string) (p auth.Principal, etag string, err error) {
	id, err := h.scopeIdentity(ctx, path)
	if err != nil {
		return p, "", err
	}
	if id.Authentication.Type != store.AuthSAS {
		return p, "", fmt.Errorf("%q authenticates with %s, not with a token", id.Key, id.Authentication.Type)
	}
	if err := h.checkSignature(t, id.Authentication.PrimaryKey, id.Authentication.SecondaryKey); err != nil {
		return p, "", fmt.Errorf("token of %q: %w", id.Key, err)
	}
	p = auth.Principal{DeviceID: id.DeviceID, ModuleID: id.ModuleID, Rights: auth.DeviceConnect, Scope: path, Method: auth.MethodSAS, Expiry: t.Expiry}
	return p, id.ETag, nil
}

// scopeIdentity returns the identity that a token's resource names. Several SDKs encode an id and then the whole resource once
// more, so an id that is not registered is decoded again.
func (h *Hub) scopeIdentity(ctx context.Context, path string) (store.Identity, error) {
	device, module, ok := auth.ScopeIdentity(path)
	if !ok {
		return store.Identity{}, fmt.Errorf("the token has no skn and its resource %q names no device", path)
	}
	key := store.Key{DeviceID: device, ModuleID: module}
	id, err := h.activeIdentity(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		twice := store.Key{DeviceID: unescapeID(device), ModuleID: unescapeID(module)}
		if twice != key {
			id, err = h.activeIdentity(ctx, twice)
		}
	}
	if err != nil {
		return store.Identity{}, fmt.Errorf("identity %q: %w", key, err)
	}
	return id, nil
}

// checkSignature verifies with the primary key, then with the secondary, and that the token has not ended.
func (h *Hub) checkSignature(t auth.Token, primary, secondary string) error {
	if !t.VerifiedBy(primary) && !t.VerifiedBy(secondary) {
		return errors.New("the signature is wrong")
	}
	return h.checkExpiry(t)
}

func (h *Hub) checkExpiry(t auth.Token) error {
	if now := h.clock.Now(); ended(t.Expiry, now) {
		return fmt.Errorf("the token ended at %s, it is %s", t.Expiry.Format("2006-01-02T15:04:05Z"), now.Format("2006-01-02T15:04:05Z"))
	}
	return nil
}

// checkCertificate proves the client certificate of a TLS handshake for the identity that its owner claims to be.
func (h *Hub) checkCertificate(ctx context.Context, certs []*x509.Certificate, claimed store.Key) (auth.Principal, error) {
	id, err := h.activeIdentity(ctx, claimed)
	if err != nil {
		return auth.Principal{}, fmt.Errorf("identity %q: %w", claimed, err)
	}
	p := auth.Principal{DeviceID: id.DeviceID, ModuleID: id.ModuleID, Rights: auth.DeviceConnect, Scope: devicePath(id.Key)}
	switch id.Authentication.Type {
	case store.AuthSelfSigned:
		p.Method = auth.MethodSelfSigned
		if !auth.MatchThumbprint(certs[0], id.Authentication.PrimaryThumbprint, id.Authentication.SecondaryThumbprint) {
			err = errors.New("the certificate has neither thumbprint of the identity")
		}
	case store.AuthCA:
		p.Method = auth.MethodCA
		err = h.checkChain(certs, id.Key)
	default:
		err = fmt.Errorf("%q authenticates with %s, not with a certificate", id.Key, id.Authentication.Type)
	}
	if err != nil {
		return auth.Principal{}, err
	}
	return p, nil
}

// checkChain verifies a certificate signed by a registered CA; its common name is the device id, or device/module (article
// "Authenticate identities with X.509 certificates").
func (h *Hub) checkChain(certs []*x509.Certificate, key store.Key) error {
	if name := certs[0].Subject.CommonName; name != key.String() {
		return fmt.Errorf("the certificate's common name is %q, not %q", name, key)
	}
	return auth.VerifyChain(certs, *h.cas.Load(), h.clock.Now())
}
