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

	gathered      *gathered // telemetry that waits for settle; nil when there is none
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
	err    error      // what hub was made from, when it is to be logged; nil when the hub has said it
}

func newConnection(b *Broker, c *door.Conn) *connection {
	conn := &connection{broker: b}
	conn.stream.init(c, b.connectTimeout, b.writeTimeout)
	return conn
}

// errEnded ends reading; why stands in connection.ending.
var errEnded = errors.New("the connection was ended")

// violate notes which rule the peer broke, with names and values that say how, and returns the error that ends the
// connection without an answer. What came before the offence counts, and may have been one itself.
func (c *connection) violate(r rule, attrs ...string) error {
	if err := c.settle(); err != nil {
		return err
	}
	c.ending.CompareAndSwap(nil, &ending{rule: r, attrs: details(attrs)})
	return errEnded
}

// cause is why the connection ended without a goodbye: err is what ended reading.
func (c *connection) cause(err error) error {
	e := c.ending.Load()
	if e == nil {
		e = c.explain(err)
	}
	if e == nil || e.rule.name == "" {
		return err
	}
	return errors.New(e.rule.name + ": " + e.rule.reason)
}

// peer is who the connection's answers are for.
func (c *connection) peer() hub.Peer {
	return hub.Peer{Conn: c.conn, Key: c.key, Category: hub.Connections}
}

// identity are the log keys of the identity, once it is known.
func (c *connection) identity() []any {
	switch {
	case c.key.DeviceID == "":
		return nil
	case c.key.ModuleID == "":
		return []any{"deviceId", c.key.DeviceID}
	}
	return []any{"deviceId", c.key.DeviceID, "moduleId", c.key.ModuleID}
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
	if c.goodbye || c.broker.isClosed() {
		c.session.Close()
	} else {
		c.session.Lost(c.cause(err))
	}
	c.forgetDeadSession()
}

// report writes the one log line about the connection's end.
func (c *connection) report(err error) {
	log := c.broker.log.With("category", hub.Connections, "door", c.conn.Door().String(), "remote", c.conn.RemoteAddr().String()).With(c.identity()...)
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
		log.Debug("MQTT connection lost", "error", err) // the hub says it, too
	case e.hub != nil && e.refuse:
		_ = c.broker.hub.Answer(c.peer(), e.err, append(e.attrs, e.rule.attrs()...)...)
	case e.refuse:
		e.rule.log(log, "MQTT CONNECT refused", e.attrs...)
	case e.hub != nil && e.hub.Code == hub.CodeClosed:
		log.Info("MQTT connection closed", "resultType", int(e.hub.Code), "resultDescription", e.hub.Name, "trackingId", e.hub.TrackingID)
	case e.hub != nil:
		log.Warn("MQTT connection closed", "rule", "session-ended", "reason", e.hub.Text, "resultType", int(e.hub.Code), "resultDescription", e.hub.Name,
			"trackingId", e.hub.TrackingID)
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
