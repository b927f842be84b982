package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// MaxTokenLength is the longest token that is looked at, in bytes: twice what fits the id grammar encoded three times.
const MaxTokenLength = 8192

// tokenScheme is the first word of every token.
const tokenScheme = "SharedAccessSignature"

// Token is a parsed shared access signature, not yet verified.
type Token struct {
	Resource string    // sr exactly as it stands in the token, still percent-encoded: that is what was signed
	Policy   string    // skn, empty for a token signed with a device's or module's key
	Expiry   time.Time // se
	expiry   string    // se exactly as it stands in the token
	mac      []byte    // sig, decoded
}

// ParseToken reads "SharedAccessSignature sr=...&sig=...&se=...[&skn=...]". Parameters may stand in any order and their names
// in any case (article "Control access to IoT Hub with SAS tokens"). The error says what is malformed and never quotes the signature.
func ParseToken(text string) (Token, error) {
	if len(text) > MaxTokenLength {
		return Token{}, fmt.Errorf("SAS token is longer than %d bytes", MaxTokenLength)
	}
	scheme, rest, ok := strings.Cut(strings.TrimSpace(text), " ")
	if !ok || !strings.EqualFold(scheme, tokenScheme) {
		return Token{}, errors.New("SAS token does not begin with " + tokenScheme)
	}
	fields, err := tokenFields(strings.TrimSpace(rest))
	if err != nil {
		return Token{}, err
	}
	return newToken(fields)
}

// tokenFields splits the parameters; a name may stand only once.
func tokenFields(text string) (map[string]string, error) {
	fields := make(map[string]string, 4)
	for part := range strings.SplitSeq(text, "&") {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, errors.New("SAS token has a parameter without a value")
		}
		name = strings.ToLower(name)
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("SAS token has the parameter %q twice", name)
		}
		fields[name] = value
	}
	return fields, nil
}

func newToken(fields map[string]string) (Token, error) {
	t := Token{Resource: fields["sr"], expiry: fields["se"]}
	if t.Resource == "" {
		return Token{}, errors.New("SAS token has no sr")
	}
	seconds, err := strconv.ParseUint(t.expiry, 10, 40) // 2^40 s reaches the year 36812
	if err != nil {
		return Token{}, errors.New("SAS token's se is not a number of seconds")
	}
	t.Expiry = time.Unix(int64(seconds), 0).UTC()
	signature, err := url.PathUnescape(fields["sig"]) // not QueryUnescape: a literal + stays a +
	if err != nil {
		return Token{}, errors.New("SAS token's sig is not percent-encoded")
	}
	if t.mac, err = base64.StdEncoding.DecodeString(signature); err != nil || len(t.mac) != sha256.Size {
		return Token{}, errors.New("SAS token's sig is not the base64 text of 32 bytes")
	}
	if t.Policy, err = url.PathUnescape(fields["skn"]); err != nil {
		return Token{}, errors.New("SAS token's skn is not percent-encoded")
	}
	return t, nil
}

// VerifiedBy reports whether the token was signed with key, given as base64 text.
func (t Token) VerifiedBy(key string) bool {
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(secret) == 0 {
		return false
	}
	return subtle.ConstantTimeCompare(sign(secret, t.Resource, t.expiry), t.mac) == 1
}

// VerifiedByText reports whether the token was signed with the key's text itself, not decoded, as Event Hubs and Service Bus
// clients do.
func (t Token) VerifiedByText(key string) bool {
	return key != "" && subtle.ConstantTimeCompare(sign([]byte(key), t.Resource, t.expiry), t.mac) == 1
}

// Scope returns the decoded resource: its host, lower-case, and the path below it without slashes at its ends. A scheme
// ("sb://", "amqps://", "https://") is dropped. The path is decoded once;
// Principal.Covers and ScopeIdentity's callers allow for clients that encode an id before they encode the whole.
func (t Token) Scope() (host, path string, err error) {
	resource, err := url.PathUnescape(t.Resource)
	if err != nil {
		return "", "", errors.New("SAS token's sr is not percent-encoded")
	}
	if _, after, ok := strings.Cut(resource, "://"); ok {
		resource = after
	}
	host, path, _ = strings.Cut(resource, "/")
	return strings.ToLower(host), strings.Trim(path, "/"), nil
}

// NewToken signs resource, given still unencoded, for policy (empty for a device's or module's own key) with the base64 key.
func NewToken(resource, key, policy string, expiry time.Time) (string, error) {
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return "", fmt.Errorf("decode the key: %w", err)
	}
	sr, se := url.QueryEscape(resource), strconv.FormatInt(expiry.Unix(), 10)
	sig := base64.StdEncoding.EncodeToString(sign(secret, sr, se))
	text := tokenScheme + " sr=" + sr + "&sig=" + url.QueryEscape(sig) + "&se=" + se
	if policy != "" {
		text += "&skn=" + url.QueryEscape(policy)
	}
	return text, nil
}

// sign computes the signature over the resource as it stands in the token and the expiry.
func sign(secret []byte, resource, expiry string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(resource))
	mac.Write([]byte{'\n'})
	mac.Write([]byte(expiry))
	return mac.Sum(nil)
}
