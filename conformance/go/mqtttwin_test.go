package conformance

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/backend"
)

// mqttPeer is a paho client that takes what the hub publishes to it.
type mqttPeer struct {
	mqtt.Client
	t        *testing.T
	received chan mqtt.Message
}

// newPeer connects an identity and subscribes to the filters, with the QoS of Python and Java.
func newPeer(t *testing.T, broker string, d backend.Device, cleanSession bool, filters ...string) *mqttPeer {
	t.Helper()
	p := &mqttPeer{t: t, received: make(chan mqtt.Message, 100)}
	token, err := running.backend.TokenFor(d, time.Hour)
	must(t, err)
	o := mqttOptions(d, broker, token).SetClientID(d.ID()).SetUsername(address + "/" + d.ID() + "/?api-version=2021-04-12").
		SetCleanSession(cleanSession).SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { p.received <- m })
	p.Client = dialMQTT(t, o)
	for _, f := range filters {
		must(t, done(deadline(t), p.Subscribe(f, 1, nil)))
	}
	return p
}

// next returns what the hub publishes next, which must be on that topic and as the real hub sends it.
func (p *mqttPeer) next(topic string) string {
	p.t.Helper()
	select {
	case m := <-p.received:
		if m.Topic() != topic || m.Qos() != 0 || m.Retained() {
			p.t.Fatalf("got %q with QoS %d, want %q", m.Topic(), m.Qos(), topic)
		}
		return string(m.Payload())
	case <-deadline(p.t).Done():
		p.t.Fatalf("nothing came on %q", topic)
	}
	return ""
}

func (p *mqttPeer) send(topic string, qos byte, body string) {
	p.t.Helper()
	must(p.t, done(deadline(p.t), p.Publish(topic, qos, false, body)))
}

// eachMQTTIdentity runs a test for a device and for a module, through every door that carries MQTT.
func eachMQTTIdentity(t *testing.T, f func(t *testing.T, broker string, d backend.Device)) {
	for kind, register := range map[string]func(*testing.T) backend.Device{"device": newDevice, "module": newModule} {
		t.Run(kind, func(t *testing.T) {
			eachMQTTDoor(t, func(t *testing.T, broker string) { f(t, broker, register(t)) })
		})
	}
}

const (
	twinAnswers    = "$iothub/twin/res/#"
	desiredChanges = "$iothub/twin/PATCH/properties/desired/#"
	methodRequests = "$iothub/methods/POST/#"
)

func TestMQTTTwinGoesBothWays(t *testing.T) {
	eachMQTTIdentity(t, func(t *testing.T, broker string, d backend.Device) {
		p := newPeer(t, broker, d, true, twinAnswers, desiredChanges)
		p.send("$iothub/twin/PATCH/properties/reported/?$rid=a-1", 1, `{"temperature":4503599627370495,"exact":1.10}`)
		p.next("$iothub/twin/res/204/?$rid=a-1&$version=2")
		_, err := running.backend.PatchTwin(deadline(t), d.ID(), json.RawMessage(`{"properties":{"desired":{"interval":5,"gone":null}},"tags":{"floor":1}}`), "")
		must(t, err)
		if diff := cmp.Diff(`{"gone":null,"interval":5,"$version":2}`, p.next("$iothub/twin/PATCH/properties/desired/?$version=2")); diff != "" {
			t.Error(diff)
		}
		p.send("$iothub/twin/GET/?$rid=0007", 0, "")
		want := `{"desired":{"interval":5,"$version":2},"reported":{"exact":1.10,"temperature":4503599627370495,"$version":2}}`
		if diff := cmp.Diff(want, p.next("$iothub/twin/res/200/?$rid=0007")); diff != "" {
			t.Error(diff)
		}
		shown, err := running.backend.Twin(deadline(t), d.ID())
		must(t, err)
		if !strings.Contains(string(shown), `"temperature":4503599627370495`) {
			t.Errorf("the back end sees %s", shown)
		}
	})
}

// The body names the code, where the Node SDK looks; the topic has the status, where the others do.
func TestMQTTTwinErrors(t *testing.T) {
	eachMQTTIdentity(t, func(t *testing.T, broker string, d backend.Device) {
		p := newPeer(t, broker, d, true, twinAnswers)
		for _, test := range []struct {
			query, patch string
			status, code int
		}{
			{"", "{", 400, 400004},
			{"", `{"$version":1}`, 400, 400004},
			{"", `{"a":4503599627370496}`, 400, 400004},
			{"", `{"a":"` + strings.Repeat("x", 4097) + `"}`, 400, 400004},
			{"&$version=99", `{}`, 412, 412001},
		} {
			p.send("$iothub/twin/PATCH/properties/reported/?$rid=1"+test.query, 1, test.patch)
			var e struct {
				ErrorCode                         int
				TrackingID, Message, TimestampUTC string
			}
			body := p.next(fmt.Sprintf("$iothub/twin/res/%d/?$rid=1", test.status))
			if err := json.Unmarshal([]byte(body), &e); err != nil || e.ErrorCode != test.code || e.TrackingID == "" || e.Message == "" || e.TimestampUTC == "" {
				t.Errorf("%s: %s, %v", test.patch, body, err)
			}
		}
		p.send("$iothub/twin/PATCH/properties/reported/?$rid=2&$version=1", 1, `{"a":1}`)
		p.next("$iothub/twin/res/204/?$rid=2&$version=2")
	})
}

// What a session with CleanSession=0 subscribed to, it gets after a reconnect, but not what happened meanwhile.
func TestMQTTKeptSessionsHearOfNewDesiredProperties(t *testing.T) {
	eachMQTTIdentity(t, func(t *testing.T, broker string, d backend.Device) {
		desire := func(n int) {
			t.Helper()
			_, err := running.backend.PatchTwin(deadline(t), d.ID(), json.RawMessage(fmt.Sprintf(`{"properties":{"desired":{"n":%d}}}`, n)), "")
			must(t, err)
		}
		p := newPeer(t, broker, d, false, twinAnswers, desiredChanges, methodRequests)
		desire(1)
		p.next("$iothub/twin/PATCH/properties/desired/?$version=2")
		p.Disconnect(100)
		desire(2)
		p = newPeer(t, broker, d, false)
		desire(3)
		p.next("$iothub/twin/PATCH/properties/desired/?$version=4")
		p.send("$iothub/twin/GET/?$rid=1", 1, "")
		if body := p.next("$iothub/twin/res/200/?$rid=1"); !strings.HasPrefix(body, `{"desired":{"n":3,"$version":4}`) {
			t.Error(body)
		}
	})
}

// serve answers every method with its own payload and status 200 + the name's length, as Python and Java do with QoS 1.
func (p *mqttPeer) serve() {
	must(p.t, done(deadline(p.t), p.Subscribe(methodRequests, 1, func(_ mqtt.Client, m mqtt.Message) {
		parts := strings.Split(m.Topic(), "/")
		if len(parts) != 5 || !strings.HasPrefix(parts[4], "?$rid=") {
			p.t.Errorf("topic %q", m.Topic())
			return
		}
		p.Publish(fmt.Sprintf("$iothub/methods/res/%d/%s", 200+len(parts[3]), parts[4]), 1, false, m.Payload())
	})))
}

func TestMQTTDirectMethods(t *testing.T) {
	eachMQTTIdentity(t, func(t *testing.T, broker string, d backend.Device) {
		if _, err := running.backend.Invoke(deadline(t), d.ID(), backend.Method{Name: "m"}); err == nil || !strings.Contains(err.Error(), "404103") {
			t.Errorf("offline: %v, want 404103", err)
		}
		p := newPeer(t, broker, d, true)
		if _, err := running.backend.Invoke(deadline(t), d.ID(), backend.Method{Name: "m"}); err == nil || !strings.Contains(err.Error(), "404103") {
			t.Errorf("not subscribed: %v, want 404103", err)
		}
		p.serve()
		var calls sync.WaitGroup
		for i := range 20 {
			calls.Go(func() {
				answer, err := running.backend.Invoke(deadline(t), d.ID(), backend.Method{Name: strings.Repeat("m", 1+i), Payload: json.RawMessage(fmt.Sprint(i))})
				if want := fmt.Sprintf(`{"status":%d,"payload":%d}`, 201+i, i); err != nil || string(answer) != want {
					t.Errorf("%s, %v, want %s", answer, err, want)
				}
			})
		}
		calls.Wait()
		for _, payload := range []string{"null", "true", `"text"`, `[1,{"a":null}]`, `"` + strings.Repeat("x", 128<<10-2) + `"`} {
			answer, err := running.backend.Invoke(deadline(t), d.ID(), backend.Method{Name: "component*command", Payload: json.RawMessage(payload)})
			if want := `{"status":217,"payload":` + payload + `}`; err != nil || string(answer) != want {
				t.Errorf("%.60s, %v, want %.60s", answer, err, want)
			}
		}
		must(t, done(deadline(t), p.Unsubscribe(methodRequests)))
		if _, err := running.backend.Invoke(deadline(t), d.ID(), backend.Method{Name: "m"}); err == nil || !strings.Contains(err.Error(), "404103") {
			t.Errorf("unsubscribed: %v, want 404103", err)
		}
	})
}

// A call waits as long as it says for a device that is on its way, and fails at once when the device goes.
func TestMQTTDirectMethodsFollowTheConnection(t *testing.T) {
	eachMQTTIdentity(t, func(t *testing.T, broker string, d backend.Device) {
		answered := make(chan error, 1)
		invoke := func(m backend.Method) {
			_, err := running.backend.Invoke(deadline(t), d.ID(), m)
			answered <- err
		}
		go invoke(backend.Method{Name: "early", ConnectTimeout: 15, ResponseTimeout: 15})
		p := newPeer(t, broker, d, true, methodRequests)
		p.next("$iothub/methods/POST/early/?$rid=1")
		p.send("$iothub/methods/res/200/?$rid=1", 0, "")
		must(t, <-answered)
		go invoke(backend.Method{Name: "late"})
		p.next("$iothub/methods/POST/late/?$rid=2")
		p.Disconnect(0)
		if err := <-answered; err == nil || !strings.Contains(err.Error(), "404104") {
			t.Errorf("%v, want 404104", err)
		}
	})
}

// A method's name stands in the topic as it is.
func TestMQTTMethodNamesAreNotEncoded(t *testing.T) {
	d := newDevice(t)
	p := newPeer(t, mqttDoors["mqtt"], d, true, methodRequests)
	for i, name := range []string{"größe", "a b", "a?b=c&d", "%41", url.QueryEscape("ü")} {
		answered := make(chan error, 1)
		go func() {
			_, err := running.backend.Invoke(deadline(t), d.ID(), backend.Method{Name: name})
			answered <- err
		}()
		p.next(fmt.Sprintf("$iothub/methods/POST/%s/?$rid=%d", name, i+1))
		p.send(fmt.Sprintf("$iothub/methods/res/200/?$rid=%d", i+1), 0, "")
		must(t, <-answered)
	}
}
