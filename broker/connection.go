package broker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// logContext is for log records: none of ours depends on a context.
var logContext = context.Background()

// connection is one MQTT connection: its stream and what the hub knows of its peer. Fields without another note belong to
// the goroutine that Serve was called on, which reads.
type connection struct {
	stream
	broker *Broker
	first  [8]byte // where the beginning of a burst is waited for

	// Set by connect, before anyone else can know the connection.
	key        store.Key
	base       string // "devices/{d}" or "devices/{d}/modules/{m}", which all topics of the identity begin with
	events     string // base + "/messages/events"
	session    *hub.DeviceSession
	generation string // of the identity, for the kept session
	clean      bool   // CleanSession=1: nothing is kept
	versioned  bool   // the user name holds an api-version
	will       *hub.Telemetry

	subscriptions subscriptions
	devicebound   devicebound
	desired       bool // the hub pushes changes of desired properties
	methods       bool // the hub pushes direct methods
	ridWarned     bool // the log has a line about a request without $rid
	goodbye       bool // DISCONNECT came

	ending atomic.Pointer[ending] // why the hub ended the connection; the first reason stays
}

// ending is the hub's reason for ending a connection.
type ending struct {
	rule   rule
	attrs  []slog.Attr
	refuse bool       // a CONNECT was refused
	hub    *hub.Error // the hub ended the session, or why it refused
}

func newConnection(b *Broker, c *door.Conn) *connection {
	conn := &connection{broker: b}
	conn.stream.init(c, b.connectTimeout, b.writeTimeout)
	return conn
}

// errEnded ends reading; why stands in connection.ending.
var errEnded = errors.New("the connection was ended")

// violate notes which rule the peer broke, with names and values that say how, and returns the error that ends the
// connection without an answer.
func (c *connection) violate(r rule, attrs ...string) error {
	c.ending.CompareAndSwap(nil, &ending{rule: r, attrs: details(attrs)})
	return errEnded
}

// details makes log attributes of names and values. The values may point into memory that is used again.
func details(pairs []string) []slog.Attr {
	var attrs []slog.Attr
	for i := 0; i+1 < len(pairs); i += 2 {
		attrs = append(attrs, slog.String(pairs[i], clip(pairs[i+1])))
	}
	return attrs
}

// endedByHub is hub.DeviceOptions.Ended: another connection of the identity, an expired token, a device disabled or deleted.
func (c *connection) endedByHub(err *hub.Error) {
	c.ending.CompareAndSwap(nil, &ending{hub: err})
	c.close() // MQTT 3.1.1 has no DISCONNECT from servers
}

// end says and does what is due when the connection is gone: err is what ended reading, nil after DISCONNECT.
func (c *connection) end(err error) {
	c.report(err)
	if c.session == nil {
		return
	}
	c.sendWill()
	c.session.Close()
	c.forgetDeadSession()
}

// report writes the one log line about the connection's end.
func (c *connection) report(err error) {
	log := c.broker.log.With("door", c.conn.Door().String(), "remote", c.conn.RemoteAddr().String())
	if c.key.DeviceID != "" {
		log = log.With("identity", c.key.String())
	}
	e := c.ending.Load()
	if e == nil {
		e = c.explain(err)
	}
	switch {
	case c.broker.isClosed():
		log.Debug("MQTT connection closed with the broker")
	case e == nil && c.goodbye:
		log.Debug("MQTT client disconnected")
	case e == nil && c.session == nil:
		log.Debug("MQTT connection ended before CONNECT", "error", err)
	case e == nil:
		log.Info("MQTT connection lost", "code", 404104, "name", "DeviceConnectionClosedRemotely", "error", err)
	case e.hub != nil && e.refuse && e.hub.Status < 500:
		log.Info("MQTT CONNECT refused", "error", e.hub.Error(), "trackingId", e.hub.TrackingID) // the hub has said why
	case e.hub != nil && e.refuse:
		e.rule.log(log, "MQTT CONNECT refused", append(e.attrs, slog.String("error", e.hub.Error()), slog.Any("cause", errors.Unwrap(e.hub)))...)
	case e.refuse:
		e.rule.log(log, "MQTT CONNECT refused", e.attrs...)
	case e.hub != nil && e.hub.Code == hub.CodeClosed:
		log.Info("MQTT connection closed", "code", int(e.hub.Code), "name", e.hub.Name)
	case e.hub != nil:
		log.Warn("MQTT connection closed", "rule", "session-ended", "reason", e.hub.Text, "code", int(e.hub.Code), "name", e.hub.Name)
	default:
		e.rule.log(log, "MQTT connection closed", e.attrs...)
	}
}

// explain finds the rule behind an error of reading; nil when the peer just went.
func (c *connection) explain(err error) *ending {
	switch {
	case c.isSlow():
		return &ending{rule: ruleSlow}
	case isTimeout(err) && c.session == nil:
		return &ending{rule: ruleConnectTime}
	case isTimeout(err):
		return &ending{rule: ruleKeepAlive}
	}
	return nil
}

// clip copies what a peer sent, not too much of it, for the log.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		return s[:most] + "..."
	}
	return strings.Clone(s)
}
