package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/door"
)

// duplex are the two links to the twin or the methods of a device.
type duplex struct {
	t    *testing.T
	conn *amqp.Conn
	in   *amqp.Sender
	out  *amqp.Receiver
}

func newDuplex(t *testing.T, at door.Door, d backend.Device, node string, credit int32) *duplex {
	t.Helper()
	conn, err := target.backend.DialAMQP(deadline(t), at)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, backend.PutToken(deadline(t), conn, target.token(t, d)))
	session, err := conn.NewSession(deadline(t), nil)
	must(t, err)
	address := "/devices/" + d.DeviceID + node
	in, err := session.NewSender(deadline(t), address, nil)
	must(t, err)
	out, err := session.NewReceiver(deadline(t), address, &amqp.ReceiverOptions{Credit: credit})
	must(t, err)
	return &duplex{t, conn, in, out}
}

func (d *duplex) receive() *amqp.Message {
	d.t.Helper()
	m, err := d.out.Receive(deadline(d.t), nil)
	must(d.t, err)
	return m
}

// wellBehaved reads the twin, which must work.
func (d *duplex) wellBehaved() {
	d.t.Helper()
	m := &amqp.Message{Properties: &amqp.MessageProperties{CorrelationID: "well"}, Annotations: amqp.Annotations{"operation": "GET"}, Data: [][]byte{[]byte(" ")}}
	must(d.t, d.in.Send(deadline(d.t), m, nil))
	if r := d.receive(); r.Annotations["status"] != int32(200) || r.Properties.CorrelationID != "well" {
		d.t.Fatalf("GET is answered with %v %s", r.Annotations, r.GetData())
	}
}

// TestAMQPTwinRequestsThatAreWrong are answered with the documented error, or rejected where no answer could be matched, and the link
// goes on.
func TestAMQPTwinRequestsThatAreWrong(t *testing.T) {
	attack(t)
	reported := func(body string) *amqp.Message {
		return &amqp.Message{Annotations: amqp.Annotations{"operation": "PATCH", "resource": "/properties/reported"}, Data: [][]byte{[]byte(body)}}
	}
	annotated := func(a amqp.Annotations) *amqp.Message {
		return &amqp.Message{Annotations: a, Data: [][]byte{[]byte("{}")}}
	}
	id := &amqp.MessageProperties{CorrelationID: "wrong"}
	var deep any = "x"
	for range 60 {
		deep = []any{deep}
	}
	answered := map[string]*amqp.Message{
		"no annotations":       annotated(nil),
		"operation of numbers": annotated(amqp.Annotations{"operation": int32(1), "resource": int64(2)}),
		"operation of a list":  annotated(amqp.Annotations{"operation": []any{"GET"}}),
		"operation of 100 KB":  annotated(amqp.Annotations{"operation": strings.Repeat("G", 100_000)}),
		"key of a number":      annotated(amqp.Annotations{int64(7): "GET"}),
		"no such operation":    annotated(amqp.Annotations{"operation": "DROP"}),
		"no such resource":     annotated(amqp.Annotations{"operation": "PATCH", "resource": "/properties/desired"}),
		"version of text":      annotated(amqp.Annotations{"operation": "PATCH", "resource": "/properties/reported", "version": "1"}),
		"version of NaN":       annotated(amqp.Annotations{"operation": "PATCH", "resource": "/properties/reported", "version": 0.5}),
		"no JSON":              reported("{"),
		"NUL":                  reported("\x00"),
		"an array":             reported("[1]"),
		"an array deep down":   reported(strings.Repeat("[", 100_000)),
		"objects deep down":    reported(strings.Repeat(`{"a":`, 30_000) + "1" + strings.Repeat("}", 30_000)),
		"a forbidden key":      reported(`{"$version":1,"a.b":1}`),
		"a number beyond all":  reported(`{"a":1e999999999}`),
		"more than 32 KB":      reported(`{"a":"` + strings.Repeat("x", 4000) + `","b":{"c":"` + strings.Repeat("y", 200_000) + `"}}`),
		"20000 keys":           reported(manyKeys(20_000)),
		"a body of a number":   {Annotations: reported("").Annotations, Value: int32(1)},
		"a body of a sequence": {Annotations: reported("").Annotations, Sequence: [][]any{{"{}"}}},
	}
	rejected := map[string]*amqp.Message{
		"no correlation-id":    reported("{}"),
		"300 KB":               reported(strings.Repeat(" ", 300_000)),
		"annotation deep down": annotated(amqp.Annotations{"operation": deep}),
		"a batch":              {Format: 0x80013700, Data: [][]byte{[]byte("x")}},
	}
	eachAMQPDoor(t, func(t *testing.T, at door.Door) {
		d := target.device(t)
		p := newDuplex(t, at, d, "/twin", 10)
		for name, m := range answered {
			m.Properties = id
			if err := p.in.Send(deadline(t), m, nil); err != nil {
				t.Errorf("%s: rejected: %v", name, err)
				continue
			}
			r := p.receive()
			var e struct {
				ErrorCode  int
				TrackingID string
			}
			err := json.Unmarshal(r.GetData(), &e)
			if r.Annotations["status"] != int32(400) || r.Properties.CorrelationID != "wrong" || err != nil || e.ErrorCode != 400004 || e.TrackingID == "" {
				t.Errorf("%s: %v %s", name, r.Annotations, r.GetData())
			}
			p.wellBehaved()
		}
		for name, m := range rejected {
			if name != "no correlation-id" {
				m.Properties = id
			}
			if err := p.in.Send(deadline(t), m, nil); err == nil {
				t.Errorf("%s: accepted", name)
			}
			p.wellBehaved()
		}
		if shown, err := target.backend.Twin(deadline(t), d.DeviceID); err != nil || !strings.Contains(string(shown), `"reported":{"$metadata":{"$lastUpdated":`) {
			t.Errorf("the twin has changed: %s, %v", shown, err)
		}
	})
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"k%d":1`, i)
	}
	return "{" + b.String()[1:] + "}"
}

// TestAMQPTwinsAndMethodsOfOthers are out of reach, whoever asks.
func TestAMQPTwinsAndMethodsOfOthers(t *testing.T) {
	attack(t)
	d, other := target.device(t), target.device(t)
	eachAMQPDoor(t, func(t *testing.T, at door.Door) {
		conn, err := target.backend.DialAMQP(deadline(t), at)
		must(t, err)
		defer conn.Close()
		must(t, backend.PutToken(deadline(t), conn, target.token(t, d)))
		session, err := conn.NewSession(deadline(t), nil)
		must(t, err)
		for _, address := range []string{"/devices/" + other.DeviceID + "/twin", "/devices/" + other.DeviceID + "/methods/devicebound", "/devices/nobody/twin",
			"/devices/" + d.DeviceID + "/modules/m/twin", "/devices/" + d.DeviceID + "%2F..%2F" + other.DeviceID + "/twin"} {
			if _, err := session.NewReceiver(deadline(t), address, nil); err == nil {
				t.Errorf("%s can be read", address)
			}
			if _, err := session.NewSender(deadline(t), address, nil); err == nil {
				t.Errorf("%s can be written", address)
			}
		}
	})
}

// TestAMQPMethodResponsesThatAreWrong end the call with 502 at once where they name it, and are ignored where they do not.
func TestAMQPMethodResponsesThatAreWrong(t *testing.T) {
	attack(t)
	status := map[string]any{"IoThub-status": int32(200)}
	eachAMQPDoor(t, func(t *testing.T, at door.Door) {
		d, other := target.device(t), target.device(t)
		p := newDuplex(t, at, d, "/methods/devicebound", 10)
		stranger := newDuplex(t, at, other, "/methods/devicebound", 10)
		for name, m := range map[string]*amqp.Message{
			"no status":         {Data: [][]byte{[]byte("1")}},
			"status of text":    {ApplicationProperties: map[string]any{"IoThub-status": "200"}},
			"status of 2^63":    {ApplicationProperties: map[string]any{"IoThub-status": uint64(1) << 63}},
			"status of nothing": {ApplicationProperties: map[string]any{"IoThub-status": nil}},
			"no JSON":           {ApplicationProperties: status, Data: [][]byte{[]byte("{")}},
			"200 KB":            {ApplicationProperties: status, Data: [][]byte{[]byte(`"` + strings.Repeat("x", 200_000) + `"`)}},
			"a number as body":  {ApplicationProperties: status, Value: int32(1)},
		} {
			ended := make(chan error, 1)
			go func() {
				_, err := target.backend.Invoke(deadline(t), d.DeviceID, backend.Method{Name: "m"})
				ended <- err
			}()
			m.Properties = &amqp.MessageProperties{CorrelationID: p.receive().Properties.CorrelationID}
			forged := &amqp.Message{Properties: m.Properties, ApplicationProperties: status, Data: [][]byte{[]byte(`"forged"`)}}
			must(t, stranger.in.Send(deadline(t), forged, nil))
			_ = p.in.Send(deadline(t), m, nil) // whether it is rejected is the unit tests' matter
			if err := <-ended; err == nil || !strings.Contains(err.Error(), "502000") {
				t.Errorf("%s: the call ended with %v", name, err)
			}
		}
	})
}

// TestAMQPMethodsOfADeviceThatTakesNone: one that attaches and then grants no credit has a bounded number of calls wait, the others fail.
func TestAMQPMethodsOfADeviceThatTakesNone(t *testing.T) {
	attack(t)
	d := target.device(t)
	p := newDuplex(t, door.AMQP, d, "/methods/devicebound", -1)
	payload := json.RawMessage(`"` + strings.Repeat("x", 100_000) + `"`)
	before := target.gauge(t, "process_resident_memory_bytes")
	var calls sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[string]int{}
	for range 60 {
		calls.Go(func() {
			_, err := target.backend.Invoke(deadline(t), d.DeviceID, backend.Method{Name: "m", Payload: payload, ResponseTimeout: 5})
			mu.Lock()
			defer mu.Unlock()
			outcomes[codeOf(err)]++
		})
	}
	eventually(t, "too few calls are refused", func() bool { mu.Lock(); defer mu.Unlock(); return outcomes["502000"] >= 40 })
	grown := target.gauge(t, "process_resident_memory_bytes") - before
	must(t, p.conn.Close())
	calls.Wait()
	t.Logf("ended with %v, grown by %.0f MiB", outcomes, grown/(1<<20))
	if outcomes["502000"]+outcomes["504101"]+outcomes["404104"]+outcomes["404103"] != 60 {
		t.Errorf("60 calls ended with %v", outcomes)
	}
	if grown > 200<<20 {
		t.Errorf("grown by %.0f MiB", grown/(1<<20))
	}
}

// codeOf returns the hub's error code in err, or the whole of it.
func codeOf(err error) string {
	if err == nil {
		return "no error"
	}
	if code := regexp.MustCompile(`errorCode\\?":(\d{6})`).FindStringSubmatch(err.Error()); code != nil {
		return code[1]
	}
	return err.Error()
}

// twinFlood opens a connection over plain AMQP that puts the device's token, attaches the pair of its twin and asks for the twin again
// and again.
func twinFlood(t *testing.T, d backend.Device, credit uint32) (c net.Conn, flood []byte) {
	t.Helper()
	c = opened(t, door.PlainAMQP)
	putRaw(t, c, target.token(t, d))
	at := "/devices/" + d.DeviceID + "/twin"
	_, err := c.Write(join(
		attach("out", 2, true, at), frame(0, performative(amqpFlow, u32(0), u32(0xFFFFFFF), u32(1), u32(5000), u32(2), u32(0), u32(credit))),
		attach("in", 1, false, at)))
	must(t, err)
	expect(t, c, amqpFlow) // there is credit for the requests
	get := join([]byte{0, 0x53, 0x72}, compound(0xd1, 2, join(symbol("operation"), text("GET"))),
		[]byte{0, 0x53, 0x73}, compound(0xd0, 6, join(null, null, null, null, null, text("x"))))
	for i := range uint32(240) { // what the hub's first credit allows
		flood = append(flood, frame(0, append(performative(amqpTransfer, u32(1), u32(1+i), octets("t"), u32(0), yes, no), get...))...)
	}
	return c, flood
}

// TestAMQPTwinReceiversThatDoNotRead cost a buffer each, whether they grant credit or not.
func TestAMQPTwinReceiversThatDoNotRead(t *testing.T) {
	attack(t)
	for name, answer := range map[string]struct {
		credit     uint32
		descriptor byte // of what waits to be read
		holds      string
	}{
		"credit":    {0xFFFFFFFF, amqpTransfer, ""},
		"no credit": {0, amqpDetach, "amqp:resource-limit-exceeded"},
	} {
		before := target.gauge(t, "process_resident_memory_bytes")
		var conns []net.Conn
		for range 20 {
			d := target.device(t)
			desired := `"` + strings.Repeat("x", 4000) + `"`
			patch := fmt.Sprintf(`{"properties":{"desired":{"a":%[1]s,"b":%[1]s,"c":%[1]s,"d":%[1]s,"e":%[1]s,"f":%[1]s,"g":%[1]s}}}`, desired)
			_, err := target.backend.PatchTwin(deadline(t), d.DeviceID, json.RawMessage(patch), "")
			must(t, err)
			c, flood := twinFlood(t, d, answer.credit)
			_, err = c.Write(flood)
			must(t, err)
			conns = append(conns, c)
		}
		<-time.After(500 * time.Millisecond) // all 4800 twins of 28 KB were asked for
		grown := target.gauge(t, "process_resident_memory_bytes") - before
		t.Logf("%s: 20 connections that do not read their 240 twins of 28 KB: grown by %.0f MiB", name, grown/(1<<20))
		if grown > 200<<20 {
			t.Errorf("%s: grown by %.0f MiB", name, grown/(1<<20))
		}
		for _, c := range conns { // it did happen
			if said := expect(t, c, answer.descriptor); !bytes.Contains(said.body, []byte(answer.holds)) {
				t.Errorf("%s: the hub said %.200q", name, said.body)
			}
			drop(c)
		}
	}
}

// TestAMQPPairsThatComeAndGo: halves, doubles and pairs that are torn apart in the middle of their work leave nothing behind.
func TestAMQPPairsThatComeAndGo(t *testing.T) {
	attack(t)
	d := target.device(t)
	conn, err := target.backend.DialAMQP(deadline(t), door.AMQP)
	must(t, err)
	defer conn.Close()
	must(t, backend.PutToken(deadline(t), conn, target.token(t, d)))
	steady := newDuplex(t, door.AMQP, target.device(t), "/twin", 10)
	for i := range 100 {
		session, err := conn.NewSession(deadline(t), nil)
		must(t, err)
		for _, node := range []string{"/twin", "/methods/devicebound"} {
			properties := map[string]any{"com.microsoft:channel-correlation-id": fmt.Sprint(i % 3)}
			address := "/devices/" + d.DeviceID + node
			in, err := session.NewSender(deadline(t), address, &amqp.SenderOptions{Properties: properties})
			must(t, err)
			out, err := session.NewReceiver(deadline(t), address, &amqp.ReceiverOptions{Properties: properties, Credit: int32(i % 2)})
			must(t, err)
			get := &amqp.Message{Properties: &amqp.MessageProperties{CorrelationID: uint64(i)}, Annotations: amqp.Annotations{"operation": "PUT", "resource": "/notifications/twin/properties/desired"}}
			_ = in.Send(deadline(t), get, nil)
			if i%5 == 0 {
				_ = out.Close(deadline(t))
			}
			if i%7 == 0 {
				_ = in.Close(deadline(t))
			}
		}
		if i%4 != 0 {
			must(t, session.Close(deadline(t)))
		}
	}
	steady.wellBehaved()
}
