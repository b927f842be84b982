package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/backend"
)

// mqttDoors are the two ways in for MQTT clients.
var mqttDoors = map[string]string{"mqtt": "ssl://" + address + ":8883", "mqtt-ws": "wss://" + address + ":443/$iothub/websocket"}

func eachMQTTDoor(t *testing.T, f func(t *testing.T, broker string)) {
	for name, broker := range mqttDoors {
		t.Run(name, func(t *testing.T) { f(t, broker) })
	}
}

func mqttOptions(d backend.Device, broker, password string) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().AddBroker(broker).SetClientID(d.DeviceID).SetProtocolVersion(4).
		SetUsername(address + "/" + d.DeviceID + "/?api-version=2021-04-12").SetPassword(password).
		SetTLSConfig(running.tls.Clone()).SetAutoReconnect(false).SetConnectTimeout(patience).SetCleanSession(true)
}

// dialMQTT connects and disconnects at the test's end.
func dialMQTT(t *testing.T, o *mqtt.ClientOptions) mqtt.Client {
	t.Helper()
	c := mqtt.NewClient(o)
	must(t, done(deadline(t), c.Connect()))
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func done(ctx context.Context, token mqtt.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestMQTTTelemetryKeepsOrderAndProperties(t *testing.T) {
	eachMQTTDoor(t, func(t *testing.T, broker string) {
		d := newDevice(t)
		events := follow(t, d)
		c := dialMQTT(t, mqttOptions(d, broker, deviceToken(t, d)))
		const n = 200
		var tokens []mqtt.Token
		for i := range n {
			topic := "devices/" + d.DeviceID + "/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8&%24.mid=m" + fmt.Sprint(i) + "&colour=dark%20blue"
			tokens = append(tokens, c.Publish(topic, 1, false, fmt.Sprintf(`{"n":%d}`, i)))
		}
		for _, token := range tokens {
			must(t, done(deadline(t), token))
		}
		for i := range n {
			m := next(t, events)
			got := []any{string(m.GetData()), m.Properties.MessageID, *m.Properties.ContentType, *m.Properties.ContentEncoding, m.ApplicationProperties["colour"]}
			if diff := cmp.Diff([]any{fmt.Sprintf(`{"n":%d}`, i), fmt.Sprintf("m%d", i), "application/json", "utf-8", "dark blue"}, got); diff != "" {
				t.Fatalf("event %d (-want +got):\n%s", i, diff)
			}
		}
	})
}

func TestMQTTReceivesQueuedAndNewCloudToDeviceMessagesInOrder(t *testing.T) {
	eachMQTTDoor(t, func(t *testing.T, broker string) {
		d := newDevice(t)
		for i := range 5 {
			must(t, running.backend.SendC2D(deadline(t), d.DeviceID, amqp.NewMessage(fmt.Appendf(nil, "queued %d", i))))
		}
		received := make(chan mqtt.Message, 20)
		c := dialMQTT(t, mqttOptions(d, broker, deviceToken(t, d)))
		must(t, done(deadline(t), c.Subscribe("devices/"+d.DeviceID+"/messages/devicebound/#", 1, func(_ mqtt.Client, m mqtt.Message) { received <- m })))
		for i := range 5 {
			must(t, running.backend.SendC2D(deadline(t), d.DeviceID, amqp.NewMessage(fmt.Appendf(nil, "new %d", i))))
		}
		for i := range 10 {
			want := fmt.Sprintf("queued %d", i)
			if i >= 5 {
				want = fmt.Sprintf("new %d", i-5)
			}
			select {
			case m := <-received:
				if string(m.Payload()) != want {
					t.Fatalf("message %d is %q, want %q", i, m.Payload(), want)
				}
				if !strings.Contains(m.Topic(), "%24.to=%2Fdevices%2F") {
					t.Fatalf("topic %q has no %%24.to", m.Topic())
				}
			case <-deadline(t).Done():
				t.Fatalf("message %d did not come", i)
			}
		}
	})
}

func TestMQTTRefusesWhoeverIsNotTheDevice(t *testing.T) {
	eachMQTTDoor(t, func(t *testing.T, broker string) {
		d, other := newDevice(t), newDevice(t)
		wrongClientID := mqttOptions(d, broker, deviceToken(t, d)).SetClientID(other.DeviceID)
		ghost := mqttOptions(backend.Device{DeviceID: "nobody-knows-me"}, broker, deviceToken(t, d))
		for name, o := range map[string]*mqtt.ClientOptions{
			"another device's token": mqttOptions(d, broker, deviceToken(t, other)),
			"no token":               mqttOptions(d, broker, ""),
			"garbage":                mqttOptions(d, broker, "SharedAccessSignature nonsense"),
			"client id differs":      wrongClientID,
			"unknown device":         ghost,
		} {
			if err := done(deadline(t), mqtt.NewClient(o).Connect()); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want a refusal", name, err)
			}
		}
	})
}

func TestMQTTClosesOnForbiddenPackets(t *testing.T) {
	eachMQTTDoor(t, func(t *testing.T, broker string) {
		for name, act := range map[string]func(c mqtt.Client, id string) mqtt.Token{
			"qos 2": func(c mqtt.Client, id string) mqtt.Token {
				return c.Publish("devices/"+id+"/messages/events/", 2, false, "x")
			},
			"foreign topic": func(c mqtt.Client, _ string) mqtt.Token {
				return c.Publish("devices/somebody-else/messages/events/", 1, false, "x")
			},
			"unknown topic": func(c mqtt.Client, _ string) mqtt.Token { return c.Publish("hello", 1, false, "x") },
			"foreign filter": func(c mqtt.Client, _ string) mqtt.Token {
				return c.Subscribe("devices/x/messages/devicebound/#", 1, nil)
			},
			"too large": func(c mqtt.Client, id string) mqtt.Token {
				return c.Publish("devices/"+id+"/messages/events/", 1, false, make([]byte, 257*1024))
			},
		} {
			t.Run(name, func(t *testing.T) {
				d := newDevice(t)
				lost := make(chan struct{})
				c := dialMQTT(t, mqttOptions(d, broker, deviceToken(t, d)).SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) }))
				act(c, d.DeviceID)
				select {
				case <-lost:
				case <-time.After(patience):
					t.Fatal("the connection stayed open")
				}
			})
		}
	})
}

func TestMQTTNewerConnectionClosesTheOlder(t *testing.T) {
	d, bystander := newDevice(t), newDevice(t)
	other := dialMQTT(t, mqttOptions(bystander, mqttDoors["mqtt"], deviceToken(t, bystander)))
	lost := make(chan struct{})
	dialMQTT(t, mqttOptions(d, mqttDoors["mqtt"], deviceToken(t, d)).SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) }))
	c := dialMQTT(t, mqttOptions(d, mqttDoors["mqtt-ws"], deviceToken(t, d)))
	select {
	case <-lost:
	case <-time.After(patience):
		t.Fatal("the older connection stayed open")
	}
	must(t, done(deadline(t), c.Publish("devices/"+d.DeviceID+"/messages/events/", 1, false, "x")))
	must(t, done(deadline(t), other.Publish("devices/"+bystander.DeviceID+"/messages/events/", 1, false, "x")))
}
