package amqpsrv

import (
	"errors"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

// What may wait for a link that is not there yet, has no credit or does not read: of one pair, and of all pairs of a connection.
const (
	maxParcels     = 1024
	maxOutlet      = 1 << 20  // bytes
	maxOutletsPeer = 16 << 20 // bytes
	parcelCost     = 128      // bytes of memory that a parcel takes beside its payload
)

// parcel is an encoded message that is to be sent.
type parcel struct {
	tag     [16]byte // trap 6
	method  uint64   // the hub's number of the request; 0: not a method
	payload []byte
}

func (w *parcel) cost() int { return len(w.payload) + parcelCost }

// loss says why a parcel will never be sent.
type loss uint8

const (
	lossDetached loss = iota // a link of the pair is gone
	lossFull                 // too much waits already
	lossTooLarge             // for the link's max-message-size
)

// outlet sends parcels in their order on the link on which the peer receives. They wait until it is there and has credit (trap 19). Guarded
// by unit.mu, which may be held while calling the engine's Send and Detach.
type outlet struct {
	n       *pair
	link    *amqp10.Link // nil when it is not attached
	waiting []parcel
	bytes   int  // that waiting costs
	shut    bool // the pair is being detached; nothing is sent any more
}

// send sends a parcel now, or keeps it.
func (o *outlet) send(w parcel) {
	if o.shut {
		o.n.talk.lost(w, lossDetached)
		return
	}
	if len(o.waiting) == 0 && o.link != nil {
		err := o.transfer(&w)
		switch {
		case err == nil:
			return
		case errors.Is(err, amqp10.ErrTooLarge):
			o.n.talk.lost(w, lossTooLarge)
			return
		}
	}
	if !o.keep(w) {
		o.n.talk.lost(w, lossFull)
	}
}

// transfer sends a parcel in the settle mode that the peer asked for (trap 21).
func (o *outlet) transfer(w *parcel) error {
	settled := o.link.SndSettleMode() != amqp10.SndUnsettled
	_, err := o.link.Send(w.tag[:], 0, w.payload, settled)
	return err
}

// keep has a parcel wait, if there is room.
func (o *outlet) keep(w parcel) bool {
	cost := w.cost()
	if len(o.waiting) >= maxParcels || o.bytes+cost > maxOutlet {
		return false
	}
	if total := &o.n.p.outlets; total.Add(int64(cost)) > maxOutletsPeer {
		total.Add(-int64(cost))
		return false
	}
	o.waiting = append(o.waiting, w)
	o.bytes += cost
	return true
}

// flush sends what waits as far as credit goes. busy says that the engine calls Flow again when it has room for more.
func (o *outlet) flush() (busy bool) {
	for len(o.waiting) > 0 && o.link != nil {
		w := o.waiting[0]
		if w.method != 0 && !o.n.unit.session.MethodWaits(w.method) {
			o.drop()
			continue
		}
		err := o.transfer(&w)
		if err != nil && !errors.Is(err, amqp10.ErrTooLarge) {
			return errors.Is(err, amqp10.ErrBusy)
		}
		o.drop()
		if err != nil {
			o.n.talk.lost(w, lossTooLarge)
		}
	}
	return false
}

// drop forgets the first that waits.
func (o *outlet) drop() {
	cost := o.waiting[0].cost()
	o.bytes -= cost
	o.n.p.outlets.Add(-int64(cost))
	o.waiting[0] = parcel{}
	if o.waiting = o.waiting[1:]; len(o.waiting) == 0 {
		o.waiting = nil
	}
}

// empty loses all that waits.
func (o *outlet) empty() {
	for len(o.waiting) > 0 {
		w := o.waiting[0]
		o.drop()
		o.n.talk.lost(w, lossDetached)
	}
}

// giveUp detaches the links of the pair with err.
func (n *pair) giveUp(err *amqp10.Error) {
	if n.out.shut {
		return
	}
	n.out.shut = true
	n.p.log.Warn("links detached", "category", hub.Connections, "deviceId", n.unit.key.DeviceID, "moduleId", n.unit.key.ModuleID, "error", err)
	for _, l := range []*amqp10.Link{n.in, n.out.link} {
		if l != nil {
			l.Detach(err)
		}
	}
}
