package control

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"sync"
)

// How much the dashboard shows; the control API tells all.
const (
	shownConnections = 200
	shownViolations  = 50
)

//go:embed dashboard.html
var dashboardHTML string

//go:embed dashboard.css
var dashboardCSS string

// dashboardTemplate is parsed when somebody first looks: a start has better things to do.
var dashboardTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("dashboard").Parse(dashboardHTML))
})

// dashboardPolicy lets the page use its one style sheet and nothing else: no script, no frame, nothing from elsewhere.
var dashboardPolicy = sync.OnceValue(func() string {
	sum := sha256.Sum256([]byte(dashboardCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
})

// dashboardData is what the page shows, as it was when it was asked for.
type dashboardData struct {
	Style          template.CSS
	Ready          bool
	Info           Info
	Clock          ClockState
	Connected      int
	Connections    []Connection // the first ones
	ViolationCount int
	Violations     []Violation // the newest first
}

func (s *Server) dashboardData() dashboardData {
	d := dashboardData{Style: template.CSS(dashboardCSS), Ready: s.Ready(), Info: s.info(), Clock: s.clockState()} //nolint:gosec // our own style sheet
	connections := connectionsOf(s.Hub).Connections
	d.Connected = len(connections)
	d.Connections = connections[:min(len(connections), shownConnections)]
	violations := violationsOf(s.Hub)
	d.ViolationCount = violations.Count
	for i := len(violations.Violations) - 1; i >= 0 && len(d.Violations) < shownViolations; i-- {
		d.Violations = append(d.Violations, violations.Violations[i])
	}
	return d
}

// dashboard is GET /: the state of the hub on one page, renewed every five seconds.
func (s *Server) dashboard(w http.ResponseWriter, _ *http.Request) {
	var page bytes.Buffer
	if err := dashboardTemplate().Execute(&page, s.dashboardData()); err != nil {
		s.Logger.Error("dashboard failed", "error", err)
		problem(w, http.StatusInternalServerError, "the dashboard failed, see the log")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", dashboardPolicy())
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(page.Bytes()) // the client is gone: nobody to tell
}
