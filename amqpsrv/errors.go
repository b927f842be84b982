package amqpsrv

import (
	"log/slog"
	"slices"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

// Conditions of IoT Hub and Event Hubs besides those of AMQP itself.
const (
	condArgument           amqp10.Symbol = "com.microsoft:argument-error"
	condArgumentOutOfRange amqp10.Symbol = "com.microsoft:argument-out-of-range"
)

// trackingID is the key of an error's info that SDKs add to their messages.
const trackingID amqp10.Symbol = "com.microsoft:tracking-id"

// render turns a failure of the hub into the error of a link, a delivery or a connection, and logs it under the tracking id that
// the peer sees.
func (p *peer) render(err error) *amqp10.Error { return hubError(p.answer(err)) }

// answer logs a failure that the peer is about to be told.
func (p *peer) answer(err error) *hub.Error {
	return p.srv.hub.Answer(hub.Peer{Conn: p.door, Category: hub.Connections}, err)
}

// track gives an error of AMQP's own, which the hub was not asked about, a tracking id and a line in the log.
func (p *peer) track(e *amqp10.Error, attrs ...slog.Attr) *amqp10.Error {
	if e.Info.Text(string(trackingID)) != "" {
		return e
	}
	code := hub.CodeArgumentInvalid
	switch e.Condition {
	case amqp10.CondNotFound:
		code = hub.CodeNotFound
	case amqp10.CondNotImplemented:
		code = hub.CodeNotImplemented
	}
	known := p.srv.hub.NewError(code)
	known.Text = e.Description
	known = p.srv.hub.Answer(hub.Peer{Conn: p.door, Category: hub.Connections}, known, attrs...)
	tracked := *e
	tracked.Info = append(slices.Clone(e.Info), amqp10.Entry{Key: trackingID, Value: known.TrackingID})
	return &tracked
}

// hubError translates an error of the hub.
func hubError(e *hub.Error) *amqp10.Error {
	out := &amqp10.Error{Condition: amqp10.Symbol(e.Condition), Description: e.Text}
	if e.TrackingID != "" {
		out.Info = amqp10.Map{{Key: trackingID, Value: e.TrackingID}}
	}
	return out
}

// badMessage is a message that cannot be translated to the hub's terms.
func badMessage(text string) *amqp10.Error {
	return &amqp10.Error{Condition: condArgument, Description: text}
}

// notFound is an address that no node stands behind.
func notFound(text string) *amqp10.Error {
	return &amqp10.Error{Condition: amqp10.CondNotFound, Description: text}
}

// notImplemented is a node that the real hub has and Iolite does not have yet.
func notImplemented(text string) *amqp10.Error {
	return &amqp10.Error{Condition: amqp10.CondNotImplemented, Description: text}
}
