package amqpsrv

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

// maxRequest is announced on links to $cbs and $management, in bytes: the longest token, and room around it.
const maxRequest = 64 << 10

// tokenTypes are the token types that SDKs name in put-token, in lower case.
var tokenTypes = map[string]bool{
	"servicebus.windows.net:sastoken": true,
	"azure-devices.net:sastoken":      true,
	"amqp:jwt":                        true,
	"jwt":                             true,
	"bearer":                          true,
}

// cbs is $cbs: the peer puts tokens for the identities it wants to act for (AMQP Claims-based Security 1.0 WD5, in the form
// that Azure's SDKs speak).
type cbs struct {
	p       *peer
	message amqp10.Message
}

func (p *peer) attachCBS(l *amqp10.Link) (amqp10.Node, *amqp10.Error) {
	l.SetMaxMessageSize(maxRequest)
	return &cbs{p: p}, nil
}

// Detached implements amqp10.Node. The tokens stay: they belong to the connection.
func (n *cbs) Detached(*amqp10.Link, *amqp10.Error) {}

// Receive implements amqp10.Receiver. A request is accepted whatever its answer: several clients take any other outcome for
// the answer.
func (n *cbs) Receive(l *amqp10.Link, d *amqp10.Delivery) {
	if err := n.message.Decode(d.Payload, messageLimits); err != nil {
		n.p.settle(d, badEncoding(err))
		return
	}
	d.Accept()
	status, description := n.handle(&n.message)
	reply := answer(&n.message, status, description)
	if err := n.p.repliesOf(l.Session(), kindCBS).send(replyTo(&n.message), reply); err != nil {
		n.p.log.Error("reply of $cbs not sent", "category", hub.Connections, "error", err)
	}
}

// handle carries out a request. Trap 14: nothing depends on expiration, and nothing on name either: the token says what it
// is for.
func (n *cbs) handle(m *amqp10.Message) (status int, description string) {
	operation, tokenType := m.ApplicationProperties.Text("operation"), m.ApplicationProperties.Text("type")
	if !strings.EqualFold(operation, "put-token") {
		return http.StatusBadRequest, fmt.Sprintf("The operation %q is not known; $cbs takes put-token.", shorten(operation))
	}
	if !tokenTypes[strings.ToLower(tokenType)] {
		return http.StatusBadRequest, fmt.Sprintf("The token type %q is not known.", shorten(tokenType))
	}
	token, ok := m.Bytes()
	if !ok || len(token) == 0 {
		return http.StatusBadRequest, "The body of put-token is no token."
	}
	return n.p.putToken(string(token))
}

// putToken proves a token and keeps whom it stands for. A token that fails leaves what was proven before.
func (p *peer) putToken(token string) (status int, description string) {
	principal, err := p.srv.hub.PutToken(p.ctx, token)
	if err != nil {
		e := p.answer(err)
		return e.Status, e.Text
	}
	if !p.grants.put(principal) {
		return http.StatusForbidden, "Too many tokens on one connection."
	}
	p.renew(principal)
	p.renewServices(principal)
	p.log.Debug("token put", "category", hub.Connections, "deviceId", principal.DeviceID, "moduleId", principal.ModuleID, "policy", principal.Policy, "scope", principal.Scope)
	return http.StatusOK, "OK"
}
