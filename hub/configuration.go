package hub

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/document"
	"github.com/iolite-emulator/iolite/hub/query"
	"github.com/iolite-emulator/iolite/store"
)

// Limits of configurations (articles "IoT Hub quotas and throttling", "Automatic IoT device and module management").
const (
	maxConfigurations = 100
	maxCustomMetrics  = 5
)

// Configuration is an automatic device management configuration with its metrics.
type Configuration struct {
	store.Configuration
	SystemMetrics, CustomMetrics []Metric
}

// Metric is how many rows a query of a configuration returns.
type Metric struct {
	Name, Query string
	Result      int // -1 when they cannot be counted: too many groups
}

// ConfigurationProblems says what is wrong with the queries of a configuration. Empty means nothing.
type ConfigurationProblems struct {
	TargetCondition string
	Metrics         []MetricProblem
}

// MetricProblem is what is wrong with a custom metric's query.
type MetricProblem struct{ Name, Problem string }

// PutConfiguration creates a configuration from the JSON body of PUT /configurations/{id} when ifMatch, the header If-Match as it came,
// is empty or without quotes, and updates it otherwise. It returns when the twins are as the configuration wants them. RegistryWrite.
// CodeConfigurationAlreadyExists, CodeTooManyConfigurations; CodeConfigurationNotFound, CodePreconditionFailed; CodeArgumentInvalid,
// CodeInvalidConfigCondition, CodeInvalidConfigContent, CodeInvalidConfigMetrics.
func (s *ServiceSession) PutConfiguration(ctx context.Context, id string, body []byte, ifMatch string) (_ Configuration, err error) {
	defer func() { err = s.hub.did(opConfigurationWrite, store.Key{}, s.conn, len(body), err) }()
	era := s.hub.era.Load()
	if err := s.need(ctx, auth.RegistryWrite, "configurations/"+id); err != nil {
		return Configuration{}, err
	}
	c, err := s.hub.parseConfiguration(id, body)
	if err != nil {
		return Configuration{}, err
	}
	put := s.hub.configurations.create
	if quoted(ifMatch) {
		put = func(ctx context.Context, era int64, c store.Configuration) (store.Configuration, error) {
			return s.hub.configurations.update(ctx, era, c, unquoteETag(ifMatch))
		}
	}
	if c, err = put(context.WithoutCancel(ctx), era, c); err != nil {
		return Configuration{}, err
	}
	list := []Configuration{{Configuration: c}}
	err = s.hub.count(ctx, list)
	return list[0], err
}

// quoted reports whether a header If-Match counts. IoT Hub: an etag without quotes is as good as none.
func quoted(ifMatch string) bool {
	ifMatch = strings.TrimSpace(ifMatch)
	return ifMatch == "*" || unquoteETag(ifMatch) != strings.TrimPrefix(ifMatch, "W/")
}

// parseConfiguration reads a configuration's body.
func (h *Hub) parseConfiguration(id string, body []byte) (c store.Configuration, err error) {
	v, err := h.parseDocument(body)
	if err != nil {
		return c, err
	}
	c = store.Configuration{
		ID: id, SchemaVersion: cmp.Or(v.Get("schemaVersion").Text(), "1.0"), Labels: v.Get("labels"), Content: v.Get("content"),
		TargetCondition: v.Get("targetCondition").Text(), Metrics: v.Get("metrics").Get("queries"),
	}
	if problem := checkConfiguration(&c, v); problem != "" {
		return c, h.NewError(CodeArgumentInvalid, problem)
	}
	if c.Content.Kind() != document.Object {
		return c, h.NewError(CodeInvalidConfigContent, "content is missing")
	}
	problems := metricProblems(c.Metrics)
	if len(problems) > 0 {
		return c, h.NewError(CodeInvalidConfigMetrics, problems[0].Name+": "+problems[0].Problem)
	}
	return c, nil
}

// checkConfiguration returns what is wrong with the small parts of a configuration, and takes its priority from the body.
func checkConfiguration(c *store.Configuration, body document.Value) string {
	priority, ok := body.Get("priority").Int()
	switch inBody := body.Get("id"); {
	case !validConfigurationID(c.ID):
		return "a configuration id is not of 1 to 128 small ASCII letters, digits and -+%_*!'"
	case given(inBody) && inBody.Text() != c.ID:
		return "id is not the one in the path"
	case given(body.Get("priority")) && (!ok || priority < 0 || priority > math.MaxInt32):
		return "priority is not from 0 to " + strconv.Itoa(math.MaxInt32)
	case given(c.Labels) && c.Labels.Kind() != document.Object:
		return "labels: a JSON object is wanted"
	case given(c.Metrics) && c.Metrics.Kind() != document.Object:
		return "metrics.queries: a JSON object is wanted"
	case given(body.Get("targetCondition")) && body.Get("targetCondition").Kind() != document.String:
		return "targetCondition: a text is wanted"
	}
	for _, label := range c.Labels.Members() {
		if label.Value.Kind() != document.String {
			return "labels: texts are wanted"
		}
	}
	c.Priority = priority
	return ""
}

func validConfigurationID(id string) bool {
	other := func(c rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-+%_*!'", c) }
	return id != "" && len(id) <= maxID && !strings.ContainsFunc(id, other)
}

// metricProblems returns what is wrong with custom metrics.
func metricProblems(queries document.Value) (problems []MetricProblem) {
	for i, m := range queries.Members() {
		problem := ""
		if i >= maxCustomMetrics {
			problem = "there are more than 5 custom metrics"
		} else if m.Value.Kind() != document.String {
			problem = "a text is wanted"
		} else if q, err := query.Parse(m.Value.Text()); err != nil {
			problem = err.Error()
		} else if q.From() == query.Jobs {
			problem = "a metric cannot be about devices.jobs"
		}
		if problem != "" {
			problems = append(problems, MetricProblem{m.Name, problem})
		}
	}
	return problems
}

// parseTarget reads the target condition of a content. Empty selects nothing.
func parseTarget(kind contentKind, text string) (c condition, problem string) {
	if c, problem = parseCondition(text); problem != "" || c.IsNone() {
		return c, problem
	}
	switch {
	case kind == moduleContent && !c.modules():
		return c, "the condition of a moduleContent begins with FROM devices.modules"
	case kind != moduleContent && c.modules():
		return c, "only the condition of a moduleContent may be about devices.modules"
	}
	return c, ""
}

// rule makes a configuration ready to be applied.
func (h *Hub) rule(c store.Configuration) (*rule, error) {
	r := &rule{Configuration: c}
	var problem string
	if r.content, problem = parseContent(c.Content); problem != "" {
		return nil, h.NewError(CodeInvalidConfigContent, problem)
	}
	if r.condition, problem = parseTarget(r.kind, c.TargetCondition); problem != "" {
		return nil, h.NewError(CodeInvalidConfigCondition, problem)
	}
	return r, nil
}

// configurationError is how the hub puts an error of the store about a configuration.
func (h *Hub) configurationError(err error, id string) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return h.NewError(CodeConfigurationNotFound, id)
	case errors.Is(err, store.ErrConflict):
		return h.NewError(CodePreconditionFailed)
	case errors.Is(err, store.ErrExists):
		return h.NewError(CodeConfigurationAlreadyExists, id)
	case errors.Is(err, store.ErrFull):
		return h.NewError(CodeTooManyConfigurations, strconv.Itoa(maxConfigurations))
	}
	return err
}

// Configuration returns a configuration. RegistryRead. CodeConfigurationNotFound.
func (s *ServiceSession) Configuration(ctx context.Context, id string) (_ Configuration, err error) {
	defer func() { err = s.hub.did(opConfigurationRead, store.Key{}, s.conn, 0, err) }()
	if err := s.need(ctx, auth.RegistryRead, "configurations/"+id); err != nil {
		return Configuration{}, err
	}
	c, err := s.hub.configurations.store.Get(ctx, id)
	if err != nil {
		return Configuration{}, s.hub.configurationError(err, id)
	}
	list := []Configuration{{Configuration: c}}
	err = s.hub.count(ctx, list)
	return list[0], err
}

// Configurations lists up to top configurations (0 for all), highest priority first. RegistryRead. CodeArgumentInvalid.
func (s *ServiceSession) Configurations(ctx context.Context, top int) (_ []Configuration, err error) {
	defer func() { err = s.hub.did(opConfigurationList, store.Key{}, s.conn, 0, err) }()
	if err := s.need(ctx, auth.RegistryRead, "configurations"); err != nil {
		return nil, err
	}
	if top < 0 {
		return nil, s.hub.NewError(CodeArgumentInvalid, "top is negative")
	}
	stored, err := s.hub.configurations.store.List(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(stored, byPrecedence)
	if top > 0 {
		stored = stored[:min(top, len(stored))]
	}
	list := make([]Configuration, len(stored))
	for i, c := range stored {
		list[i].Configuration = c
	}
	err = s.hub.count(ctx, list)
	return list, err
}

// byPrecedence orders configurations as they win: the highest priority, then the one that was created last.
func byPrecedence(a, b store.Configuration) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
}

// DeleteConfiguration removes a configuration, and from the twins what it has put there; ifMatch is the header If-Match as it came, or
// empty for any. It returns when the twins are as the other configurations want them. RegistryWrite. CodeConfigurationNotFound,
// CodePreconditionFailed.
func (s *ServiceSession) DeleteConfiguration(ctx context.Context, id string, ifMatch string) (err error) {
	defer func() { err = s.hub.did(opConfigurationDelete, store.Key{}, s.conn, 0, err) }()
	era := s.hub.era.Load()
	if err := s.need(ctx, auth.RegistryWrite, "configurations/"+id); err != nil {
		return err
	}
	return s.hub.configurations.remove(context.WithoutCancel(ctx), era, id, cmp.Or(unquoteETag(ifMatch), "*"))
}

// TestConfigurationQueries checks the queries of the JSON body of POST /configurations/testQueries. RegistryRead. CodeArgumentInvalid.
func (s *ServiceSession) TestConfigurationQueries(ctx context.Context, body []byte) (p ConfigurationProblems, err error) {
	defer func() { err = s.hub.did(opConfigurationTest, store.Key{}, s.conn, 0, err) }()
	if err := s.need(ctx, auth.RegistryRead, "configurations/testQueries"); err != nil {
		return p, err
	}
	v, err := s.hub.parseDocument(body)
	if err != nil {
		return p, err
	}
	_, p.TargetCondition = parseCondition(v.Get("targetCondition").Text())
	p.Metrics = metricProblems(v.Get("customMetricQueries"))
	return p, nil
}

// AppendJSON appends the configuration as GET /configurations/{id} answers it.
func (c *Configuration) AppendJSON(b []byte) []byte {
	b = appendText(append(b, `{"id":`...), c.ID)
	b = appendText(append(b, `,"schemaVersion":`...), c.SchemaVersion)
	b = append(b, `,"labels":`...)
	if given(c.Labels) {
		b = c.Labels.AppendJSON(b)
	} else {
		b = append(b, "null"...)
	}
	b = c.Content.AppendJSON(append(b, `,"content":`...))
	b = appendText(append(b, `,"targetCondition":`...), c.TargetCondition)
	b = appendTime(append(b, `,"createdTimeUtc":`...), c.Created)
	b = appendTime(append(b, `,"lastUpdatedTimeUtc":`...), c.Updated)
	b = strconv.AppendInt(append(b, `,"priority":`...), c.Priority, 10)
	b = appendMetrics(append(b, `,"systemMetrics":`...), c.SystemMetrics)
	b = appendMetrics(append(b, `,"metrics":`...), c.CustomMetrics)
	return append(appendText(append(b, `,"etag":`...), c.ETag), '}')
}

func appendMetrics(b []byte, metrics []Metric) []byte {
	b = append(b, `{"results":{`...)
	n := 0
	for _, m := range metrics {
		if m.Result < 0 {
			continue
		}
		b = append(appendText(appendComma(b, n), m.Name), ':')
		b = strconv.AppendInt(b, int64(m.Result), 10)
		n++
	}
	b = append(b, `},"queries":{`...)
	for i, m := range metrics {
		b = appendText(append(appendText(appendComma(b, i), m.Name), ':'), m.Query)
	}
	return append(b, "}}"...)
}

// appendComma appends what stands before the member i.
func appendComma(b []byte, i int) []byte {
	if i == 0 {
		return b
	}
	return append(b, ',')
}

// AppendJSON appends the problems as POST /configurations/testQueries answers them.
func (p *ConfigurationProblems) AppendJSON(b []byte) []byte {
	b = appendOrNull(append(b, `{"targetConditionError":`...), p.TargetCondition)
	b = append(b, `,"customMetricQueryErrors":{`...)
	for i, m := range p.Metrics {
		b = appendText(append(appendText(appendComma(b, i), m.Name), ':'), m.Problem)
	}
	return append(b, "}}"...)
}
