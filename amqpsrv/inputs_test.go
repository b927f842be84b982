package amqpsrv

import (
	"context"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/store"
)

// A Node module sends and receives at the same address. Nothing ever comes in, and what it sends still goes out.
func TestModuleInputsStandBesideTelemetry(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.device("d1")
	key := r.identity(store.Key{DeviceID: "d1", ModuleID: "m"})
	s := r.asDevice(key)
	const address = "/devices/d1/modules/m/messages/events"
	in, out := r.receiver(s, address, 10), r.sender(s, address)
	r.must(r.telemetry(out, "x"))
	ctx, cancel := context.WithTimeout(r.ctx(), 20*time.Millisecond)
	defer cancel()
	if m, err := in.Receive(ctx, nil); err == nil {
		t.Errorf("received %s", m.GetData())
	}
	r.must(out.Close(r.ctx()))
	if n := len(r.hub.Connections()); n != 1 {
		t.Errorf("%d connections while the inputs stand", n)
	}
	r.must(in.Close(r.ctx()))
	r.until("the module has gone", func() bool { return len(r.hub.Connections()) == 0 })
}

func TestDevicesHaveNoInputs(t *testing.T) {
	r := newRig(t, rigOptions{})
	_, err := r.asDevice(r.device("d1")).NewReceiver(r.ctx(), "/devices/d1/messages/events", nil)
	r.wantRefusal(err, amqp.ErrCondNotFound)
}
