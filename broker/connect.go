package broker

import (
	"bytes"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// maxPatience is the longest time between packets. IoT Hub: 1.5 times the keep-alive, at most 29.45 minutes.
const maxPatience = 1767 * time.Second

// The CONNACK return codes of MQTT 3.1.1, table 3.1.
const (
	connackAccepted      byte = 0
	connackProtocol      byte = 1 // unacceptable protocol version
	connackIdentifier    byte = 2 // identifier rejected
	connackUnavailable   byte = 3 // server unavailable
	connackNotAuthorized byte = 5 // not authorized
)

// connect handles CONNECT: it proves who the peer is, opens the session, finds the kept one, and answers.
func (c *connection) connect(pk *packets.Packet) error {
	if c.session != nil {
		return c.violate(ruleOneConnect)
	}
	p := &pk.Connect
	if err := c.checkConnect(pk); err != nil {
		return err
	}
	user, err := c.identify(string(p.Username), p.ClientIdentifier)
	if err != nil {
		return err
	}
	if err := c.setWill(p); err != nil {
		return err
	}
	if err := c.open(user, string(p.Password)); err != nil {
		return err
	}
	c.wait(patience(p.Keepalive))
	present := c.inherit(p.Clean)
	if err := c.send([]byte{packets.Connack << 4, 2, present, connackAccepted}); err != nil {
		return err
	}
	c.resume()
	return nil
}

// checkConnect refuses what is not MQTT 3.1.1.
func (c *connection) checkConnect(pk *packets.Packet) error {
	p := &pk.Connect
	switch name := string(p.ProtocolName); {
	case name != "MQTT" && name != "MQIsdp":
		return c.violate(ruleMalformed, "detail", "protocol name", "name", name) // MQTT-3.1.2-1
	case name != "MQTT" || pk.ProtocolVersion != 4:
		return c.refuse(connackProtocol, ruleProtocol, "level", strconv.Itoa(int(pk.ProtocolVersion)))
	case pk.ReservedBit != 0, // MQTT-3.1.2-3
		p.WillFlag && p.WillQos > 2,                     // MQTT-3.1.2-14
		!p.WillFlag && (p.WillQos != 0 || p.WillRetain), // MQTT-3.1.2-13, -15
		!p.UsernameFlag && p.PasswordFlag,               // MQTT-3.1.2-22
		bytes.IndexByte(p.Username, 0) >= 0:             // MQTT-1.5.3-2
		return c.violate(ruleMalformed, "detail", "CONNECT flags")
	}
	return nil
}

// identify reads the user name and holds it against the client id.
func (c *connection) identify(name, clientID string) (userName, error) {
	user, err := parseUserName(name)
	switch {
	case errors.Is(err, errAPIVersion):
		return user, c.refuse(connackProtocol, ruleAPIVersion, "userName", name)
	case clientID == "":
		return user, c.refuse(connackIdentifier, ruleClientID, "userName", name) // MQTT-3.1.3-8
	case err != nil:
		return user, c.refuse(connackNotAuthorized, ruleUserName, "userName", name, "clientId", clientID)
	case user.key.String() != clientID:
		return user, c.refuse(connackIdentifier, ruleClientID, "userName", name, "clientId", clientID)
	}
	// The ids outlive the packet, which they must not keep alive.
	user.key = store.Key{DeviceID: strings.Clone(user.key.DeviceID), ModuleID: strings.Clone(user.key.ModuleID)}
	c.base = "devices/" + user.key.DeviceID
	if user.key.ModuleID != "" {
		c.base += "/modules/" + user.key.ModuleID
	}
	c.key, c.events = user.key, c.base+"/messages/events"
	c.versioned = user.apiVersion != ""
	return user, nil
}

// open proves the credential and opens the session, which closes an older connection of the same identity.
func (c *connection) open(user userName, token string) error {
	cred := hub.Credential{Token: token}
	if state := c.conn.TLS(); state != nil {
		cred.Certificates = state.PeerCertificates
	}
	principal, err := c.broker.hub.Authenticate(c.broker.ctx, cred, c.key)
	if err != nil {
		return c.refuseHub(err)
	}
	c.session, err = c.broker.hub.OpenDevice(c.broker.ctx, principal, c.key, hub.DeviceOptions{
		Conn:      c.conn,
		UserAgent: strings.Clone(user.clientType),
		ModelID:   strings.Clone(user.modelID),
		Ended:     c.endedByHub,
	})
	if err != nil {
		c.session = nil
		return c.refuseHub(err)
	}
	return nil
}

// refuseHub refuses because the hub does. IoT Hub answers every failed authentication with 5; SDKs retry after 3.
func (c *connection) refuseHub(err error) error {
	e, _ := hub.AsError(err)
	code, r := connackNotAuthorized, ruleAuth
	if e.Status >= 500 {
		code, r = connackUnavailable, ruleHubDown
	}
	c.ending.CompareAndSwap(nil, &ending{rule: r, attrs: returnCode(code), refuse: true, hub: e, err: err})
	return c.connack(code)
}

// refuse answers CONNECT with a return code and ends the connection.
func (c *connection) refuse(code byte, r rule, pairs ...string) error {
	c.ending.CompareAndSwap(nil, &ending{rule: r, attrs: append(details(pairs), returnCode(code)...), refuse: true})
	return c.connack(code)
}

func returnCode(code byte) []slog.Attr { return []slog.Attr{slog.Int("returnCode", int(code))} }

// connack refuses a CONNECT and ends the connection.
func (c *connection) connack(code byte) error {
	_ = c.send([]byte{packets.Connack << 4, 2, 0, code}) // MQTT-3.2.2-4: session present is 0; if it cannot be sent, the connection fails anyway
	return errEnded
}

// patience is how long the peer may be silent: 1.5 times its keep-alive. MQTT 3.1.2.10: 0 switches the mechanism off,
// which IoT Hub does not let it.
func patience(keepAlive uint16) time.Duration {
	if keepAlive == 0 {
		return maxPatience
	}
	return min(time.Duration(keepAlive)*1500*time.Millisecond, maxPatience)
}
