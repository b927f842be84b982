package hub

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/store"
)

// Category is a category of IoT Hub's resource logs (article "Azure IoT Hub monitoring data reference"): the key category of log lines.
type Category string

// The categories. DeviceStreams and DistributedTracing, which are previews, are not there.
const (
	Connections              Category = "Connections"
	DeviceTelemetry          Category = "DeviceTelemetry"
	C2DCommands              Category = "C2DCommands"
	DeviceIdentityOperations Category = "DeviceIdentityOperations"
	FileUploadOperations     Category = "FileUploadOperations"
	Routes                   Category = "Routes"
	D2CTwinOperations        Category = "D2CTwinOperations"
	C2DTwinOperations        Category = "C2DTwinOperations"
	TwinQueries              Category = "TwinQueries"
	JobsOperations           Category = "JobsOperations"
	DirectMethods            Category = "DirectMethods"
	Configurations           Category = "Configurations"
)

// operation is something that is asked of the hub, or happens in it: the keys category and operation of log lines, and a row of
// metrics.
type operation int

// operationRow says what is known of an operation.
type operationRow struct {
	category Category
	name     string // as documented where the article shows one, or made in its manner
	metric   string // documented metric of its successes and failures: metric.success, metric.failure; "" when there is none
	sizes    string // documented metric of the bytes of successful ones; "" when there is none
}

// The operations.
const (
	opNone operation = iota
	opConnect
	opDisconnect
	opServiceOpen
	opTelemetry
	opTelemetryRead
	opC2DSend
	opC2DReceive
	opC2DComplete
	opC2DReject
	opC2DAbandon
	opC2DPurge
	opFeedback
	opC2DExpired
	opC2DExceeded
	opC2DRejected
	opUploadStart
	opUploadEnd
	opFileNotification
	opDeviceTwinRead
	opDeviceTwinUpdate
	opServiceTwinRead
	opServiceTwinUpdate
	opMethod
	opQuery
	opCreateMethodJob
	opCreateTwinJob
	opCancelJob
	opListJobs
	opQueryJobs
	opGetJob
	opJobCompleted
	opJobFailed
	opIdentityGet
	opIdentityCreate
	opIdentityUpdate
	opIdentityDelete
	opIdentityBulk
	opImportExport
	opConfigurationRead
	opConfigurationList
	opConfigurationWrite
	opConfigurationDelete
	opConfigurationTest
	opConfigurationApply
	opConfigurationTwin
	operationCount
)

var operations = [operationCount]operationRow{
	opConnect:             {category: Connections, name: "deviceConnect"},
	opDisconnect:          {category: Connections, name: "deviceDisconnect"},
	opServiceOpen:         {category: Connections, name: "serviceConnect"},
	opTelemetry:           {category: DeviceTelemetry, name: "ingress"},
	opTelemetryRead:       {category: DeviceTelemetry, name: "egress"},
	opC2DSend:             {category: C2DCommands, name: "send"},
	opC2DReceive:          {category: C2DCommands, name: "receive"},
	opC2DComplete:         {category: C2DCommands, name: "complete"},
	opC2DReject:           {category: C2DCommands, name: "reject"},
	opC2DAbandon:          {category: C2DCommands, name: "abandon"},
	opC2DPurge:            {category: C2DCommands, name: "purge"},
	opFeedback:            {category: C2DCommands, name: "feedback"},
	opC2DExpired:          {category: C2DCommands, name: "messageExpired"},
	opC2DExceeded:         {category: C2DCommands, name: "deliveryCountExceeded"},
	opC2DRejected:         {category: C2DCommands, name: "messageRejected"},
	opUploadStart:         {category: FileUploadOperations, name: "initialize"},
	opUploadEnd:           {category: FileUploadOperations, name: "ingress"},
	opFileNotification:    {category: FileUploadOperations, name: "notification"},
	opDeviceTwinRead:      {D2CTwinOperations, "read", "d2c.twin.read", "d2c.twin.read.size"},
	opDeviceTwinUpdate:    {D2CTwinOperations, "update", "d2c.twin.update", "d2c.twin.update.size"},
	opServiceTwinRead:     {C2DTwinOperations, "read", "c2d.twin.read", "c2d.twin.read.size"},
	opServiceTwinUpdate:   {C2DTwinOperations, "update", "c2d.twin.update", "c2d.twin.update.size"},
	opMethod:              {DirectMethods, "send", "c2d.methods", "c2d.methods.requestSize"},
	opQuery:               {TwinQueries, "query", "twinQueries", "twinQueries.resultSize"},
	opCreateMethodJob:     {JobsOperations, "createDirectMethodJob", "jobs.createDirectMethodJob", ""},
	opCreateTwinJob:       {JobsOperations, "createTwinUpdateJob", "jobs.createTwinUpdateJob", ""},
	opCancelJob:           {JobsOperations, "cancelJob", "jobs.cancelJob", ""},
	opListJobs:            {JobsOperations, "listJobs", "jobs.listJobs", ""},
	opQueryJobs:           {JobsOperations, "queryJobs", "jobs.queryJobs", ""},
	opGetJob:              {category: JobsOperations, name: "getJob"},
	opJobCompleted:        {category: JobsOperations, name: "jobCompleted"},
	opJobFailed:           {category: JobsOperations, name: "jobFailed"},
	opIdentityGet:         {category: DeviceIdentityOperations, name: "get"},
	opIdentityCreate:      {category: DeviceIdentityOperations, name: "create"},
	opIdentityUpdate:      {category: DeviceIdentityOperations, name: "update"},
	opIdentityDelete:      {category: DeviceIdentityOperations, name: "delete"},
	opIdentityBulk:        {category: DeviceIdentityOperations, name: "bulk"},
	opImportExport:        {category: DeviceIdentityOperations, name: "importExport"},
	opConfigurationRead:   {category: Configurations, name: "ReadConfiguration"},
	opConfigurationList:   {category: Configurations, name: "ReadManyConfigurations"},
	opConfigurationWrite:  {category: Configurations, name: "UpdateConfiguration"},
	opConfigurationDelete: {category: Configurations, name: "DeleteConfiguration"},
	opConfigurationTest:   {category: Configurations, name: "TestConfigurationQueries"},
	opConfigurationApply:  {category: Configurations, name: "ApplyConfiguration"},
	opConfigurationTwin:   {category: Configurations, name: "UpdateTwin"},
}

// quotaUnit is what one message of the daily quota holds, in bytes (article "IoT Hub quotas and throttling": 4 KB in the standard tiers).
const quotaUnit = 4096

// units is how many messages of the daily quota something of a size takes.
func units(size int) int64 { return int64(max(1, (size+quotaUnit-1)/quotaUnit)) }

// operationCounts are how often an operation went well or wrong at one door, and the bytes of those that went well.
type operationCounts struct{ success, failure, bytes atomic.Int64 }

// failure is an error with what had been asked for, and by whom: what a log line says besides.
type failure struct {
	op  operation
	key store.Key // the identity that it is about; zero when none
	err error
}

// Error implements error.
func (f *failure) Error() string { return f.err.Error() }

// Unwrap returns the error itself.
func (f *failure) Unwrap() error { return f.err }

// failed adds to an error what had been asked for, unless that is known already.
func failed(op operation, key store.Key, err error) error {
	var known *failure
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &failure{op, key, err}
}

// did counts an operation and says what was asked for in its error. size is in bytes, of what was asked for or of the answer: what the
// documented metric wants.
func (h *Hub) did(op operation, key store.Key, c *door.Conn, size int, err error) error {
	n := &h.metrics.operations[op][doorOf(c)]
	if err != nil {
		n.failure.Add(1)
		return failed(op, key, err)
	}
	n.success.Add(1)
	if operations[op].sizes != "" {
		n.bytes.Add(int64(size))
		h.metrics.units.Add(units(size))
		if row := operations[op]; row.category == D2CTwinOperations || row.category == DirectMethods { // else no device is at the other end
			h.metrics.bytes.Add(int64(size))
		}
	}
	h.note(slog.LevelDebug, op, key, "done", slog.Int("messageSize", size))
	return nil
}

// note writes a log line about an operation.
func (h *Hub) note(level slog.Level, op operation, key store.Key, message string, attrs ...slog.Attr) {
	if ctx := context.Background(); h.log.Enabled(ctx, level) {
		h.log.LogAttrs(ctx, level, message, append(about(op, key), attrs...)...)
	}
}

// about are the attributes of an operation's log lines.
func about(op operation, key store.Key) []slog.Attr {
	attrs := make([]slog.Attr, 0, 12)
	if row := operations[op]; op != opNone {
		attrs = append(attrs, slog.String("category", string(row.category)), slog.String("operation", row.name))
	}
	return append(attrs, identityAttrs(key)...)
}

// identityAttrs are the attributes deviceId and moduleId, as far as there are such.
func identityAttrs(key store.Key) []slog.Attr {
	var attrs []slog.Attr
	if key.DeviceID != "" {
		attrs = append(attrs, slog.String("deviceId", key.DeviceID))
	}
	if key.ModuleID != "" {
		attrs = append(attrs, slog.String("moduleId", key.ModuleID))
	}
	return attrs
}
