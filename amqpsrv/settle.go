package amqpsrv

import (
	"errors"
	"fmt"

	"github.com/iolite-emulator/iolite/amqp10"
)

// settle answers a delivery: accepted, or rejected with an error. Released is never said: Node takes it for success. A peer that
// sent the message settled asked not to be told.
func (p *peer) settle(d *amqp10.Delivery, err error) {
	if err == nil {
		d.Accept()
		return
	}
	e := p.asError(err) // which the log has now, if nobody else
	if !d.Settled() {
		d.Reject(e)
	}
}

// asError returns err as what the peer is told.
func (p *peer) asError(err error) *amqp10.Error {
	var e *amqp10.Error
	if errors.As(err, &e) {
		return p.track(e)
	}
	return p.render(err)
}

func badEncoding(err error) *amqp10.Error {
	return &amqp10.Error{Condition: amqp10.CondDecodeError, Description: "The message cannot be decoded: " + err.Error()}
}

func unknownFormat(format uint32) *amqp10.Error {
	return notImplemented(fmt.Sprintf("The message format 0x%08x is not known.", format))
}
