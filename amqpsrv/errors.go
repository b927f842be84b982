package amqpsrv

import (
	"log/slog"

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

// render turns a failure of the hub into the error of a link, a delivery or a connection. The cause of an internal error
// goes to the log, under the tracking id that the peer sees.
func render(log *slog.Logger, err error) *amqp10.Error {
	e, created := hub.AsError(err)
	if created {
		log.Error("internal error", "trackingId", e.TrackingID, "error", err)
	}
	return hubError(e)
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
