package amqpsrv

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// duplex is a pair of links to a node of two directions.
type duplex struct {
	*rig
	in  *amqp.Sender
	out *amqp.Receiver
}

func twinAddress(key store.Key) string    { return nodeAddress(key) + "/twin" }
func methodsAddress(key store.Key) string { return nodeAddress(key) + "/methods/devicebound" }

func nodeAddress(key store.Key) string {
	if key.ModuleID == "" {
		return "/devices/" + key.DeviceID
	}
	return "/devices/" + key.DeviceID + "/modules/" + key.ModuleID
}

// channel is the property of a pair's links.
func channel(id string) map[string]any {
	if id == "" {
		return nil
	}
	return map[string]any{channelCorrelation: id}
}

// duplex attaches both links with settle modes as Node and C# ask for: settled both ways.
func (r *rig) duplex(s *amqp.Session, address, id string) *duplex {
	r.t.Helper()
	return &duplex{r, r.pairSender(s, address, id), r.pairReceiver(s, address, id, 50)}
}

func (r *rig) pairSender(s *amqp.Session, address, id string) *amqp.Sender {
	r.t.Helper()
	in, err := s.NewSender(r.ctx(), address, &amqp.SenderOptions{Properties: channel(id)})
	r.must(err)
	return in
}

func (r *rig) pairReceiver(s *amqp.Session, address, id string, credit int32) *amqp.Receiver {
	r.t.Helper()
	out, err := s.NewReceiver(r.ctx(), address, &amqp.ReceiverOptions{Credit: credit, Properties: channel(id), RequestedSenderSettleMode: amqp.SenderSettleModeSettled.Ptr()})
	r.must(err)
	return out
}

// twinRequestMessage is a request to a twin; a body or a resource that is empty is left out.
func twinRequestMessage(id any, operation, resource, body string) *amqp.Message {
	m := &amqp.Message{
		Properties:  &amqp.MessageProperties{CorrelationID: id},
		Annotations: amqp.Annotations{"operation": operation},
	}
	if resource != "" {
		m.Annotations["resource"] = resource
	}
	if body != "" {
		m.Data = [][]byte{[]byte(body)}
	}
	return m
}

// ask sends a request to the twin and returns the response.
func (d *duplex) ask(id any, operation, resource, body string) *amqp.Message {
	d.t.Helper()
	d.must(d.in.Send(d.ctx(), twinRequestMessage(id, operation, resource, body), nil))
	m := d.receive(d.out)
	if m.Properties == nil || m.Properties.CorrelationID != id {
		d.t.Fatalf("the response to %v is for %+v: %v", id, m.Properties, m.Annotations)
	}
	return m
}

// asked is ask for a request that must come to status.
func (d *duplex) asked(status int32, operation, resource, body string) *amqp.Message {
	d.t.Helper()
	m := d.ask("request "+operation, operation, resource, body)
	if got := m.Annotations["status"]; got != status {
		d.t.Fatalf("%s: status %v (%T), want %d: %s", operation, got, got, status, m.GetData())
	}
	return m
}

// refusedWith is asked for an error, whose body it checks.
func (d *duplex) refusedWith(code hub.Code, operation, resource, body string) {
	d.t.Helper()
	m := d.asked(int32(code/1000), operation, resource, body)
	var e struct {
		ErrorCode    hub.Code
		TrackingID   string
		Message      string
		TimestampUTC string
	}
	if err := json.Unmarshal(m.GetData(), &e); err != nil || e.ErrorCode != code || e.TrackingID == "" || e.Message == "" || !strings.HasPrefix(e.TimestampUTC, "2030-01-02T") {
		d.t.Errorf("%s %s: %s, %v", operation, resource, m.GetData(), err)
	}
}

// desire has a back end patch the desired properties.
func (r *rig) desire(key store.Key, patch string) {
	r.t.Helper()
	_, err := r.hub.Admin().UpdateTwin(r.ctx(), key, []byte(`{"properties":{"desired":`+patch+`}}`), "")
	r.must(err)
}

// call is a method call under way.
type call struct {
	*rig
	result hub.MethodResult
	err    error
	done   chan struct{}
}

// invoke calls a method in the background.
func (r *rig) invoke(key store.Key, m hub.MethodCall) *call {
	c := &call{rig: r, done: make(chan struct{})}
	ctx := r.ctx()
	go func() { // ends with the call, at the latest with ctx
		defer close(c.done)
		c.result, c.err = r.hub.Admin().InvokeMethod(ctx, key, m)
	}()
	return c
}

// wait returns the call's end.
func (c *call) wait() (hub.MethodResult, error) {
	c.t.Helper()
	select {
	case <-c.done:
	case <-c.ctx().Done():
		c.t.Fatal("the call does not end")
	}
	return c.result, c.err
}

// fails waits for the call to fail with a code.
func (c *call) fails(want hub.Code) {
	c.t.Helper()
	_, err := c.wait()
	if err == nil {
		c.t.Fatalf("the call succeeded, want %d", want)
	}
	if e, _ := hub.AsError(err); e.Code != want {
		c.t.Fatalf("%v, want %d", err, want)
	}
}

// respond answers a request with its own payload.
func (d *duplex) respond(request *amqp.Message, id any, status any) error {
	return d.in.Send(d.ctx(), &amqp.Message{
		Properties:            &amqp.MessageProperties{CorrelationID: id},
		ApplicationProperties: map[string]any{methodStatus: status},
		Data:                  [][]byte{request.GetData()},
	}, nil)
}

// offline waits until the identity takes no methods.
func (r *rig) offline(key store.Key) {
	r.t.Helper()
	r.until("the device is offline for methods", func() bool {
		_, err := r.hub.Admin().InvokeMethod(context.Background(), key, hub.MethodCall{Name: "probe"})
		e, _ := hub.AsError(err)
		return e != nil && e.Code == hub.CodeDeviceNotOnline
	})
}

// eachIdentity runs a test for a device and for a module.
func eachIdentity(t *testing.T, f func(t *testing.T, r *rig, key store.Key)) {
	for name, key := range map[string]store.Key{"device": {DeviceID: "d1"}, "module": {DeviceID: "d1", ModuleID: "m1"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			r.device("d1")
			if key.ModuleID != "" {
				r.identity(key)
			}
			f(t, r, key)
		})
	}
}
