package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// logContext is for log records: none of ours depends on a context.
var logContext = context.Background()

// connection is one MQTT connection: the stream below mochi and what the hub knows of its peer. Fields without another
// note belong to the reading goroutine, mochi's, which Serve lends it.
type connection struct {
	stream
	broker *Broker

	// Set by connect, before anyone else can know the connection.
	key        store.Key
	base       string // "devices/{d}" or "devices/{d}/modules/{m}", which all topics of the identity begin with
	events     string // base + "/messages/events"
	session    *hub.DeviceSession
	generation string // of the identity, for the kept session
	clean      bool   // CleanSession=1: nothing is kept
	present    bool   // a session was kept from an earlier connection
	will       *hub.Telemetry

	subscriptions subscriptions
	devicebound   devicebound
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

// violate notes which rule the peer broke, with names and values that say how, and returns the error on which mochi closes
// the connection without an answer.
func (c *connection) violate(r rule, attrs ...string) error {
	e := &ending{rule: r}
	for i := 0; i+1 < len(attrs); i += 2 {
		e.attrs = append(e.attrs, slog.String(attrs[i], clip(attrs[i+1])))
	}
	c.ending.CompareAndSwap(nil, e)
	return packets.ErrRejectPacket
}

// endedByHub is hub.DeviceOptions.Ended: another connection of the identity, an expired token, a device disabled or deleted.
func (c *connection) endedByHub(err *hub.Error) {
	c.ending.CompareAndSwap(nil, &ending{hub: err})
	_ = c.Close() // MQTT 3.1.1 has no DISCONNECT from servers
}

// end says and does what is due when the connection is gone: err is what mochi stopped reading with.
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
	log := c.broker.log.With("door", c.Door().String(), "remote", c.RemoteAddr().String())
	if c.key.DeviceID != "" {
		log = log.With("identity", c.key.String())
	}
	e := c.ending.Load()
	if e == nil {
		e = c.explain(err)
	}
	switch {
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

// explain finds the rule behind an error of mochi's; nil when the peer just went, or we are closing.
func (c *connection) explain(err error) *ending {
	var code packets.Code
	switch {
	case c.isSlow():
		return &ending{rule: ruleSlow}
	case err == nil, c.goodbye, c.broker.isClosed():
		return nil
	case isTimeout(err) && c.session == nil:
		return &ending{rule: ruleConnectTime}
	case isTimeout(err):
		return &ending{rule: ruleKeepAlive}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return nil
	case errors.Is(err, packets.ErrPacketTooLarge):
		return &ending{rule: ruleTooLarge}
	case errors.Is(err, packets.ErrProtocolViolationRequireFirstConnect):
		return &ending{rule: ruleFirstConnect}
	case errors.As(err, &code), strings.HasPrefix(err.Error(), "invalid packet type"): // the one error of mochi's reader without a type
		return &ending{rule: ruleMalformed, attrs: []slog.Attr{slog.String("detail", err.Error())}}
	}
	return nil
}

// clip shortens what a peer sent for the log.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
