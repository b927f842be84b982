package control

import (
	"net/http"

	"github.com/iolite-emulator/iolite/hub"
)

// maxRouting bounds the body of a request about routing, in bytes.
const maxRouting = 1 << 20

// RouteTestResult is the answer of POST /iolite/v1/routing/test (Azure Resource Manager: TestAllRoutesResult), with what becomes of the message.
type RouteTestResult struct {
	Routes    []MatchedRoute `json:"routes"`
	Endpoints []string       `json:"endpoints"` // that would get the message
	Fallback  bool           `json:"fallback"`  // by the fallback route
}

// MatchedRoute is a route that a message matches.
type MatchedRoute struct {
	Properties hub.Route `json:"properties"`
}

// getRouting is GET /iolite/v1/routing.
func (s *Server) getRouting(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.Hub.Routing())
}

// putRouting is PUT /iolite/v1/routing: the whole routing, or nothing.
func (s *Server) putRouting(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r, maxRouting)
	if !ok {
		return
	}
	var routing hub.Routing
	if err := decode(body, &routing); err != nil {
		problem(w, http.StatusBadRequest, `the body must be like {"endpoints":{},"routes":[],"enrichments":[]}: `+err.Error())
		return
	}
	if err := s.Hub.SetRouting(r.Context(), routing); err != nil {
		s.refuse(w, err)
		return
	}
	s.Logger.Info("routing was replaced", "routes", len(routing.Routes), "remote", r.RemoteAddr)
	s.getRouting(w, r)
}

// postRoutingTest is POST /iolite/v1/routing/test: which routes a message would match. Nothing is sent.
func (s *Server) postRoutingTest(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r, maxRouting)
	if !ok {
		return
	}
	var test hub.RouteTest
	if err := decode(body, &test); err != nil {
		problem(w, http.StatusBadRequest, `the body must be like {"routingSource":"DeviceMessages","message":{"body":"","appProperties":{},"systemProperties":{}}}: `+err.Error())
		return
	}
	result, err := s.Hub.TestRoutes(r.Context(), test)
	if err != nil {
		s.refuse(w, err)
		return
	}
	answer := RouteTestResult{Routes: make([]MatchedRoute, 0, len(result.Routes)), Endpoints: append([]string{}, result.Endpoints...), Fallback: result.Fallback}
	for _, route := range result.Routes {
		answer.Routes = append(answer.Routes, MatchedRoute{route})
	}
	reply(w, http.StatusOK, answer)
}

// OneRouteTestResult is the answer of POST /iolite/v1/routing/testroute (Azure Resource Manager: TestRouteResult).
type OneRouteTestResult struct {
	Result  hub.RouteOutcome `json:"result"`
	Details *TestDetails     `json:"details,omitempty"`
}

// TestDetails say what is wrong with a condition.
type TestDetails struct {
	CompilationErrors []CompilationError `json:"compilationErrors"`
}

// CompilationError is something that is wrong with a condition.
type CompilationError struct {
	Message  string     `json:"message"`
	Severity string     `json:"severity"` // error
	Location ErrorRange `json:"location"`
}

// ErrorRange is where it is. Iolite knows where it begins.
type ErrorRange struct {
	Start ErrorPosition `json:"start"`
	End   ErrorPosition `json:"end"`
}

// ErrorPosition is a place in a condition.
type ErrorPosition struct {
	Line   int `json:"line"`   // from 1
	Column int `json:"column"` // from 1, in characters
}

// postRouteTest is POST /iolite/v1/routing/testroute: whether a message would match a route that need not be there.
func (s *Server) postRouteTest(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r, maxRouting)
	if !ok {
		return
	}
	var test hub.OneRouteTest
	if err := decode(body, &test); err != nil {
		problem(w, http.StatusBadRequest, `the body must be like {"route":{"condition":"a = 'b'"},"message":{"appProperties":{}}}: `+err.Error())
		return
	}
	outcome, broken := s.Hub.TestRoute(r.Context(), test)
	answer := OneRouteTestResult{Result: outcome}
	if broken != nil {
		at := ErrorPosition{broken.Line, broken.Column}
		answer.Details = &TestDetails{[]CompilationError{{broken.Message, "error", ErrorRange{at, at}}}}
	}
	reply(w, http.StatusOK, answer)
}
