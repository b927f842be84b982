package conformance

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/door"
)

// newModule registers a module of a new device.
func newModule(t *testing.T) backend.Device {
	t.Helper()
	m, err := running.backend.CreateDevice(deadline(t), newDevice(t).DeviceID+"/m1", "", "")
	must(t, err)
	return m
}

// amqpPair is a pair of links to the twin or the methods of an identity, with the settle modes of Node and C#.
type amqpPair struct {
	t   *testing.T
	in  *amqp.Sender
	out *amqp.Receiver
}

// newPair attaches the pair of an identity whose token the connection has.
func newPair(t *testing.T, conn *amqp.Conn, d backend.Device, node string) *amqpPair {
	t.Helper()
	address := "/devices/" + strings.Replace(d.ID(), "/", "/modules/", 1) + node
	properties := map[string]any{"com.microsoft:channel-correlation-id": node + d.ID()}
	session := newSession(t, conn)
	settled := amqp.SenderSettleModeSettled
	out, err := session.NewReceiver(deadline(t), address, &amqp.ReceiverOptions{Credit: 50, Properties: properties, RequestedSenderSettleMode: &settled})
	must(t, err)
	in, err := session.NewSender(deadline(t), address, &amqp.SenderOptions{Properties: properties})
	must(t, err)
	return &amqpPair{t, in, out}
}

func (p *amqpPair) receive() *amqp.Message {
	p.t.Helper()
	m, err := p.out.Receive(deadline(p.t), nil)
	must(p.t, err)
	return m
}

// ask sends a twin request and returns the response, which must have the status.
func (p *amqpPair) ask(status int32, operation, resource, body string) *amqp.Message {
	p.t.Helper()
	m := &amqp.Message{Properties: &amqp.MessageProperties{CorrelationID: operation + "-1"}, Annotations: amqp.Annotations{"operation": operation}, Data: [][]byte{[]byte(body)}}
	if resource != "" {
		m.Annotations["resource"] = resource
	}
	must(p.t, p.in.Send(deadline(p.t), m, nil))
	response := p.receive()
	if response.Properties == nil || response.Properties.CorrelationID != m.Properties.CorrelationID || response.Annotations["status"] != status {
		p.t.Fatalf("%s: %+v %v %s, want %d", operation, response.Properties, response.Annotations, response.GetData(), status)
	}
	return response
}

// serve answers every method with its own payload and status 200 + the name's length, until the link goes.
func (p *amqpPair) serve(served *sync.WaitGroup) {
	served.Go(func() { // ends when the connection is closed
		for {
			m, err := p.out.Receive(deadline(p.t), nil)
			if err != nil {
				return
			}
			name, _ := m.ApplicationProperties["IoThub-methodname"].(string)
			_ = p.in.Send(deadline(p.t), &amqp.Message{Properties: &amqp.MessageProperties{CorrelationID: m.Properties.CorrelationID},
				ApplicationProperties: map[string]any{"IoThub-status": int32(200 + len(name))}, Data: m.Data}, nil)
		}
	})
}

// eachIdentity runs a test for a device and for a module, through every door that carries AMQP.
func eachIdentity(t *testing.T, f func(t *testing.T, conn *amqp.Conn, d backend.Device)) {
	for kind, register := range map[string]func(*testing.T) backend.Device{"device": newDevice, "module": newModule} {
		t.Run(kind, func(t *testing.T) {
			eachAMQPDoor(t, func(t *testing.T, door door.Door) {
				d, conn := register(t), dialAMQP(t, door)
				token, err := running.backend.TokenFor(d, time.Hour)
				must(t, err)
				must(t, backend.PutToken(deadline(t), conn, token))
				f(t, conn, d)
			})
		})
	}
}

func TestAMQPTwinGoesBothWays(t *testing.T) {
	eachIdentity(t, func(t *testing.T, conn *amqp.Conn, d backend.Device) {
		p := newPair(t, conn, d, "/twin")
		p.ask(200, "PUT", "/notifications/twin/properties/desired", " ")
		if v := p.ask(204, "PATCH", "/properties/reported", `{"temperature":4503599627370495}`).Annotations["version"]; v != int64(2) {
			t.Errorf("version %v (%T)", v, v)
		}
		_, err := running.backend.PatchTwin(deadline(t), d.ID(), json.RawMessage(`{"properties":{"desired":{"interval":5}},"tags":{"floor":1}}`), "")
		must(t, err)
		n := p.receive()
		if n.Properties != nil && n.Properties.CorrelationID != nil {
			t.Errorf("a notification has the correlation-id %v", n.Properties.CorrelationID)
		}
		if diff := cmp.Diff([]any{"/properties/desired", int64(2), `{"interval":5,"$version":2}`}, []any{n.Annotations["resource"], n.Annotations["version"], string(n.GetData())}); diff != "" {
			t.Error(diff)
		}
		want := `{"desired":{"interval":5,"$version":2},"reported":{"temperature":4503599627370495,"$version":2}}`
		if diff := cmp.Diff(want, string(p.ask(200, "GET", "", " ").GetData())); diff != "" {
			t.Error(diff)
		}
		var e struct{ ErrorCode int }
		if err := json.Unmarshal(p.ask(400, "PATCH", "/properties/reported", "{").GetData(), &e); err != nil || e.ErrorCode != 400004 {
			t.Errorf("%d, %v", e.ErrorCode, err)
		}
		shown, err := running.backend.Twin(deadline(t), d.ID())
		must(t, err)
		if !strings.Contains(string(shown), `"temperature":4503599627370495`) {
			t.Errorf("the back end sees %s", shown)
		}
	})
}

func TestAMQPDirectMethods(t *testing.T) {
	eachIdentity(t, func(t *testing.T, conn *amqp.Conn, d backend.Device) {
		if _, err := running.backend.Invoke(deadline(t), d.ID(), backend.Method{Name: "m"}); err == nil || !strings.Contains(err.Error(), "404103") {
			t.Errorf("offline: %v, want 404103", err)
		}
		var served, calls sync.WaitGroup
		newPair(t, conn, d, "/methods/devicebound").serve(&served)
		for i := range 10 {
			calls.Go(func() {
				name := strings.Repeat("m", 1+i)
				answer, err := running.backend.Invoke(deadline(t), d.ID(), backend.Method{Name: name, Payload: json.RawMessage(fmt.Sprint(i))})
				if want := fmt.Sprintf(`{"status":%d,"payload":%d}`, 201+i, i); err != nil || string(answer) != want {
					t.Errorf("%s, %v, want %s", answer, err, want)
				}
			})
		}
		calls.Wait()
		must(t, conn.Close())
		served.Wait()
		// Who calls in the moment of its going is told that, later callers that it is not there.
		if _, err := running.backend.Invoke(deadline(t), d.ID(), backend.Method{Name: "m"}); err == nil || !strings.Contains(err.Error(), "40410") {
			t.Errorf("gone: %v, want 404103 or 404104", err)
		}
	})
}

func TestAMQPDevicesOfOneConnectionKeepTheirTwinsAndMethodsApart(t *testing.T) {
	eachAMQPDoor(t, func(t *testing.T, door door.Door) {
		conn := dialAMQP(t, door)
		var served sync.WaitGroup
		const n = 10
		devices, twins := make([]backend.Device, n), make([]*amqpPair, n)
		for i := range n {
			devices[i] = newDevice(t)
			must(t, backend.PutToken(deadline(t), conn, deviceToken(t, devices[i])))
			twins[i] = newPair(t, conn, devices[i], "/twin")
			twins[i].ask(200, "PUT", "/notifications/twin/properties/desired", "")
			newPair(t, conn, devices[i], "/methods/devicebound").serve(&served)
		}
		must(t, running.backend.DeleteDevice(deadline(t), devices[0].DeviceID))
		if _, err := twins[0].out.Receive(deadline(t), nil); err == nil {
			t.Error("a deleted device is told something")
		}
		for i := 1; i < n; i++ {
			_, err := running.backend.PatchTwin(deadline(t), devices[i].DeviceID, json.RawMessage(fmt.Sprintf(`{"properties":{"desired":{"i":%d}}}`, i)), "")
			must(t, err)
			if got, want := string(twins[i].receive().GetData()), fmt.Sprintf(`{"i":%d,"$version":2}`, i); got != want {
				t.Errorf("device %d: %s, want %s", i, got, want)
			}
			answer, err := running.backend.Invoke(deadline(t), devices[i].DeviceID, backend.Method{Name: "m", Payload: json.RawMessage(`"x"`)})
			if err != nil || string(answer) != `{"status":201,"payload":"x"}` {
				t.Errorf("device %d: %s, %v", i, answer, err)
			}
		}
		must(t, conn.Close())
		served.Wait()
	})
}
