package httpapi

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"
)

// beforeID are the path literals that an id follows.
var beforeID = map[string]bool{
	"devices": true, "modules": true, "twins": true, "digitaltwins": true, "components": true,
	"commands": true, "configurations": true, "devicebound": true, "feedback": true, "notifications": true, "filenotifications": true, "v2": true,
}

// canonicalPath lets the routes be written once: literals in lower case and unescaped, no trailing slash, ids as they came.
// IoT Hub: paths are matched without regard to case, ids are case-sensitive and percent-encoded.
func canonicalPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chi.RouteContext(r.Context()).RoutePath = canonical(r.URL.EscapedPath())
		next.ServeHTTP(w, r)
	})
}

// overriddenMethod takes a POST that asks for it as a PATCH: the Java service SDK's HTTP library cannot send one.
func overriddenMethod(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.EqualFold(r.Header.Get("X-HTTP-Method-Override"), http.MethodPatch) {
			chi.RouteContext(r.Context()).RouteMethod = http.MethodPatch
		}
		next.ServeHTTP(w, r)
	})
}

// canonical returns the path to route by.
func canonical(escaped string) string {
	path := strings.TrimSuffix(escaped, "/")
	if path == "" || path[0] != '/' || strings.Contains(path, "//") { // chi would take nothing for an id
		return "/"
	}
	if plain(path) {
		return path
	}
	var b strings.Builder
	b.Grow(len(path))
	id := false
	for segment := range strings.SplitSeq(path[1:], "/") {
		if !id {
			segment = literal(segment)
		}
		b.WriteByte('/')
		b.WriteString(segment)
		id = !id && beforeID[segment]
	}
	return b.String()
}

// plain reports whether path holds nothing that canonical might change.
func plain(path string) bool {
	for i := range len(path) {
		if c := path[i]; 'A' <= c && c <= 'Z' || c == '%' {
			return false
		}
	}
	return true
}

// literal returns a path literal as the routes have it; one that does not unescape to a single segment stays and matches nothing.
func literal(segment string) string {
	if strings.IndexByte(segment, '%') >= 0 {
		if s, err := url.PathUnescape(segment); err == nil && !strings.Contains(s, "/") {
			segment = s
		}
	}
	return strings.ToLower(segment)
}

// param returns a path parameter, unescaped.
func param(r *http.Request, name string) string { return unescape(chi.URLParam(r, name)) }

func unescape(segment string) string {
	s, err := url.PathUnescape(segment)
	if err != nil {
		return segment // net/http refuses such a path before it comes here
	}
	return s
}

// queryValue returns the first value of a query parameter and whether the name is there at all. Names are compared without
// regard to case; unlike url.Values it allocates only to unescape.
func queryValue(rawQuery, name string) (value string, ok bool) {
	for pair := range strings.SplitSeq(rawQuery, "&") {
		key, v, _ := strings.Cut(pair, "=")
		if strings.EqualFold(queryUnescape(key), name) {
			return queryUnescape(v), true
		}
	}
	return "", false
}

func queryUnescape(text string) string {
	if !strings.ContainsAny(text, "%+") {
		return text
	}
	s, err := url.QueryUnescape(text)
	if err != nil {
		return text
	}
	return s
}
