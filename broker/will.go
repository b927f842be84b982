package broker

import (
	"bytes"
	"context"
	"log/slog"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/hub"
)

// setWill checks and keeps the Will of a CONNECT, which must be telemetry of the identity itself.
func (c *connection) setWill(p *packets.ConnectParams) error {
	if !p.WillFlag {
		return nil
	}
	bag, ok := c.telemetryBag(p.WillTopic)
	if !ok || p.WillQos > 1 {
		return c.refuse(connackNotAuthorized, ruleWill, "topic", p.WillTopic)
	}
	c.will = new(hub.Telemetry)
	// It outlives the packet, whose password it must not keep alive.
	if err := readTelemetry(c.will, strings.Clone(bag), bytes.Clone(p.WillPayload), p.WillRetain); err != nil {
		return c.refuse(connackNotAuthorized, ruleWill, "topic", p.WillTopic, "detail", err.Error())
	}
	return nil
}

// sendWill stores the Will as telemetry unless the client said goodbye. MQTT-3.1.2-8. A hub that shuts down and an identity
// that is gone have no Will.
func (c *connection) sendWill() {
	if c.will == nil || c.goodbye || c.broker.isClosed() || c.identityGone() {
		return
	}
	if err := c.session.SendWill(context.Background(), *c.will); err != nil {
		_ = c.broker.hub.Answer(hub.Peer{Conn: c.conn, Key: c.key, Category: hub.DeviceTelemetry}, err, slog.String("message", "Will"))
	}
}
