package hub

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/iolite-emulator/iolite/store"
)

// routeLog tells of what routing did not do, with the operations of the real hub's category Routes. Of a flood it tells little.
type routeLog struct {
	log               *slog.Logger
	orphan, oversized *rate.Sometimes
}

func newRouteLog(log *slog.Logger) routeLog {
	sometimes := func() *rate.Sometimes { return &rate.Sometimes{First: 10, Interval: 10 * time.Second} }
	return routeLog{log: log, orphan: sometimes(), oversized: sometimes()}
}

// undefined tells that a condition cannot be evaluated for a message, for instance because it lacks a property. That is so for many a message
// of many a route: it is for those who look closely.
func (l *routeLog) undefined(e *store.Event, route string) {
	if l != nil && l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.tell(slog.LevelDebug, "a condition is undefined for a message", "undefinedRouteEvaluation", e, "routeName", route)
	}
}

// orphaned tells of a message that no route takes.
func (l *routeLog) orphaned(e *store.Event) {
	l.orphan.Do(func() {
		l.tell(slog.LevelInfo, "no route takes a message, and the fallback route is off", "orphanedMessage", e)
	})
}

// invalid tells of a message that enrichments have made too large for an endpoint.
func (l *routeLog) invalid(e *store.Event, endpoint string) {
	l.oversized.Do(func() {
		l.tell(slog.LevelWarn, "a message is too large with its enrichments", "invalidMessage", e, "endpointName", endpoint)
	})
}

// tell logs. A handler may keep the message id, whose memory the sender uses again.
func (l *routeLog) tell(level slog.Level, text, operation string, e *store.Event, more ...any) {
	l.log.Log(context.Background(), level, text, append([]any{"category", Routes, "operation", operation, "deviceId", e.DeviceID, "moduleId", e.ModuleID, "messageId", strings.Clone(e.MessageID)}, more...)...)
}
