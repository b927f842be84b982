package hub

import (
	"context"

	"github.com/iolite-emulator/iolite/store"
)

// Configuration is an automatic device management configuration with its metrics.
type Configuration struct {
	store.Configuration
	SystemMetrics, CustomMetrics []Metric
}

// Metric is a count that a configuration shows.
type Metric struct {
	Name, Query string
	Result      int
	Counted     bool // whether there is a result
}

// ConfigurationProblems says what is wrong with the queries of a configuration. Empty means nothing.
type ConfigurationProblems struct {
	TargetCondition string
	Metrics         []MetricProblem
}

// MetricProblem is what is wrong with a custom metric's query.
type MetricProblem struct{ Name, Problem string }

// PutConfiguration creates a configuration from the JSON body of PUT /configurations/{id} when ifMatch, the header If-Match as it came,
// is empty or without quotes, and updates it otherwise. RegistryWrite. CodeConfigurationAlreadyExists, CodeTooManyConfigurations;
// CodeConfigurationNotFound, CodePreconditionFailed; CodeArgumentInvalid, CodeInvalidConfigCondition, CodeInvalidConfigContent,
// CodeInvalidConfigMetrics.
func (s *ServiceSession) PutConfiguration(_ context.Context, _ string, _ []byte, _ string) (Configuration, error) {
	return Configuration{}, s.hub.NewError(CodeNotImplemented, "configurations")
}

// Configuration returns a configuration. RegistryRead. CodeConfigurationNotFound.
func (s *ServiceSession) Configuration(_ context.Context, _ string) (Configuration, error) {
	return Configuration{}, s.hub.NewError(CodeNotImplemented, "configurations")
}

// Configurations lists up to top configurations (0 for all), highest priority first. RegistryRead. CodeArgumentInvalid.
func (s *ServiceSession) Configurations(_ context.Context, _ int) ([]Configuration, error) {
	return nil, s.hub.NewError(CodeNotImplemented, "configurations")
}

// DeleteConfiguration removes a configuration; ifMatch is the header If-Match as it came, or empty. RegistryWrite.
// CodeConfigurationNotFound, CodePreconditionFailed.
func (s *ServiceSession) DeleteConfiguration(_ context.Context, _ string, _ string) error {
	return s.hub.NewError(CodeNotImplemented, "configurations")
}

// TestConfigurationQueries checks the queries of the JSON body of POST /configurations/testQueries. RegistryRead. CodeArgumentInvalid.
func (s *ServiceSession) TestConfigurationQueries(_ context.Context, _ []byte) (ConfigurationProblems, error) {
	return ConfigurationProblems{}, s.hub.NewError(CodeNotImplemented, "configurations")
}

// ApplyConfiguration writes a configuration content, the JSON body of POST /devices/{id}/applyConfigurationContent, to an IoT Edge
// device. RegistryWrite. CodeDeviceNotFound, CodeInvalidOperation (not an edge device), CodeInvalidConfigContent.
func (s *ServiceSession) ApplyConfiguration(_ context.Context, _ string, _ []byte) error {
	return s.hub.NewError(CodeNotImplemented, "configurations")
}

// AppendJSON appends the configuration as GET /configurations/{id} answers it.
func (c *Configuration) AppendJSON(b []byte) []byte {
	return append(b, "{}"...)
}

// AppendJSON appends the problems as POST /configurations/testQueries answers them.
func (p *ConfigurationProblems) AppendJSON(b []byte) []byte {
	b = appendOrNull(append(b, `{"targetConditionError":`...), p.TargetCondition)
	b = append(b, `,"customMetricQueryErrors":{`...)
	for i, m := range p.Metrics {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(append(appendText(b, m.Name), ':'), m.Problem)
	}
	return append(b, "}}"...)
}
