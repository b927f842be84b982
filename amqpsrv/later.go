package amqpsrv

import (
	"fmt"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

// later names the nodes of IoT Hub that have no rule in the hub yet.
var later = map[kind]string{
	kindFeedback: "feedback sent by a device",
}

// refuse answers an attach that no node takes: loudly when the real hub would take it.
func (p *peer) refuse(l *amqp10.Link, a address) (amqp10.Node, *amqp10.Error) {
	if what, ok := later[a.kind]; ok {
		p.log.Warn("not implemented yet", "category", hub.C2DCommands, "feature", what, "address", l.Address(), "role", l.Role().String())
		return nil, notImplemented(fmt.Sprintf("Iolite does not implement %s over AMQP yet (%s).", what, l.Address()))
	}
	return nil, notFound(fmt.Sprintf("There is no node at the address %q for a %s.", shorten(l.Address()), peerRole(l)))
}

// peerRole is the role that the peer takes on the link.
func peerRole(l *amqp10.Link) string { return (!l.Role()).String() }

// shorten cuts text that goes into an error.
func shorten(s string) string {
	if len(s) <= 128 {
		return s
	}
	return s[:128] + "..."
}
