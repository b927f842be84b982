package blobapi

import (
	"cmp"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/iolite-emulator/iolite/blob"
)

// grant is what a request may do.
type grant struct {
	owner bool // the account's key: everything
	sas   blob.Grant
}

// mayOverwrite reports whether what is there may be replaced: c lets make new blobs only.
func (g *grant) mayOverwrite() bool { return g.owner || g.sas.Allows("w") }

// authorize checks who asks: with the account's key, or with a SAS that allows the operation.
func (s *Server) authorize(r *request, op *operation) (grant, error) {
	if header := r.Header.Get("Authorization"); header != "" {
		return grant{owner: true}, s.checkSharedKey(r, header)
	}
	if !r.query.Has("sig") {
		return grant{}, refuse(noAuthenticationInformation, "")
	}
	from, _ := netip.ParseAddrPort(r.RemoteAddr) // of no address is no range
	g, err := s.key.VerifySAS(r.query, r.target.resource(), from.Addr(), r.now)
	switch {
	case errors.Is(err, blob.ErrOutside):
		return grant{}, refuse(authorizationServiceMismatch, "")
	case errors.Is(err, blob.ErrSource):
		return grant{}, refuse(authorizationSourceIPMismatch, "")
	case err != nil:
		return grant{}, &failure{code: authenticationFailed, authentication: err.Error()}
	case !g.Covers(r.target.resource(), op.listsContainer):
		return grant{}, refuse(authorizationResourceTypeMismatch, "")
	case !g.Allows(op.permissions):
		return grant{}, refuse(authorizationPermissionMismatch, "")
	}
	return grant{sas: g}, nil
}

// checkSharedKey checks an Authorization header (article "Authorize with Shared Key"). The request's date is not looked at: the emulator's
// clock may be anywhere.
func (s *Server) checkSharedKey(r *request, header string) error {
	scheme, value, _ := strings.Cut(header, " ")
	account, signature, _ := strings.Cut(strings.TrimSpace(value), ":")
	text := s.sharedKeyText(r)
	if !strings.EqualFold(scheme, "SharedKey") || account != s.key.Account || !s.key.Signed(text, signature) {
		return &failure{code: authenticationFailed, authentication: "The Authorization header is not " + strconv.Quote("SharedKey "+s.key.Account+":{signature}") +
			" with the signature of this text: " + text}
	}
	return nil
}

// sharedKeyText is what an Authorization header signs.
func (s *Server) sharedKeyText(r *request) string {
	h := r.Header
	length := ""
	if r.ContentLength > 0 {
		length = strconv.FormatInt(r.ContentLength, 10)
	}
	date := h.Get("Date")
	if h.Get("x-ms-date") != "" {
		date = ""
	}
	lines := []string{
		r.Method, h.Get("Content-Encoding"), h.Get("Content-Language"), length, h.Get("Content-MD5"), h.Get("Content-Type"), date,
		h.Get("If-Modified-Since"), h.Get("If-Match"), h.Get("If-None-Match"), h.Get("If-Unmodified-Since"), h.Get("Range"),
	}
	lines = append(lines, sortedLines(headersOf(r), func(name string) bool { return strings.HasPrefix(name, "x-ms-") })...)
	lines = append(lines, "/"+s.key.Account+r.URL.EscapedPath())
	return strings.Join(append(lines, sortedLines(r.query, func(string) bool { return true })...), "\n")
}

func headersOf(r *request) url.Values { return url.Values(r.Header) }

// sortedLines writes name:value lines in the order of the names, which are put in lower case.
func sortedLines(values url.Values, wanted func(name string) bool) []string {
	type line struct{ name, value string }
	var lines []line
	for name, list := range values {
		if name = strings.ToLower(name); wanted(name) {
			list = slices.Clone(list)
			slices.Sort(list)
			lines = append(lines, line{name, strings.TrimSpace(strings.Join(list, ","))})
		}
	}
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(a.name, b.name) })
	text := make([]string, len(lines))
	for i, l := range lines {
		text[i] = l.name + ":" + l.value
	}
	return text
}
