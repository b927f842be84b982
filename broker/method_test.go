package broker

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// outcome is how a direct method ended.
type outcome struct {
	hub.MethodResult
	err error
}

func errorCode(err error) hub.Code {
	if err == nil {
		return 0
	}
	e, _ := hub.AsError(err)
	return e.Code
}

// invoke calls a direct method and waits for its end.
func (r *rig) invoke(key store.Key, name, payload string) (hub.MethodResult, error) {
	return r.hub.Admin().InvokeMethod(context.Background(), key, hub.MethodCall{Name: name, Payload: []byte(payload)})
}

// invokeLater calls a direct method and tells its end.
func (r *rig) invokeLater(key store.Key, name, payload string) <-chan outcome {
	c := make(chan outcome, 1)
	go func() {
		result, err := r.invoke(key, name, payload)
		c <- outcome{result, err}
	}()
	return c
}

func TestADirectMethodGoesToTheDeviceAndBack(t *testing.T) {
	for _, id := range []string{"d1", "d1/m1"} {
		for qos := range uint16(2) {
			t.Run(fmt.Sprint(id, " QoS ", qos), func(t *testing.T) {
				r := newRig(t)
				key := device("d1")
				if id != "d1" {
					key = module("d1", "m1")
				}
				c := r.connect(id)
				c.subscribe(1, methodsFilter)
				for i, test := range []struct{ name, payload, sent, status, answer, result string }{
					{"reboot", `{"in":5}`, `{"in":5}`, "200", `{"ok":true}`, `{"ok":true}`},
					{"reboot", "", "null", "501", "", "null"},
					{"thermostat1*getMaxMinReport", `"2026-01-02"`, `"2026-01-02"`, "-1", "[1]", "[1]"},
					{"größe & ?a=b%20", "[]", "[]", "0", "0", "0"},
					{strings.Repeat("n", 128), "1.50", "1.50", "2147483647", "null", "null"},
				} {
					done := r.invokeLater(key, test.name, test.payload)
					if got := c.expectPublish(fmt.Sprintf("$iothub/methods/POST/%s/?$rid=%d", test.name, i+1)); got != test.sent {
						t.Errorf("the device gets %q, want %q", got, test.sent)
					}
					c.send(telemetry(fmt.Sprintf("$iothub/methods/res/%s/?$rid=%d", test.status, i+1), qos*7, test.answer))
					if qos > 0 {
						c.expect(packets.Puback)
					}
					if got := <-done; got.err != nil || fmt.Sprint(got.Status) != test.status || string(got.Payload) != test.result {
						t.Errorf("got %d %q, %v, want %s %q", got.Status, got.Payload, got.err, test.status, test.result)
					}
				}
			})
		}
	}
}

// Each connection counts from 1. Responses may come in any order.
func TestMethodResponsesFindTheirCalls(t *testing.T) {
	r := newRig(t)
	for range 2 {
		c := r.connect("d1", cleanSession)
		c.subscribe(0, methodsFilter)
		a := r.invokeLater(device("d1"), "a", "")
		c.expectPublish("$iothub/methods/POST/a/?$rid=1")
		b := r.invokeLater(device("d1"), "b", "")
		c.expectPublish("$iothub/methods/POST/b/?$rid=2")
		c.send(telemetry("$iothub/methods/res/202/?$rid=2", 0, `"b"`), telemetry("$iothub/methods/res/201/?$rid=1", 0, `"a"`))
		if got := <-a; got.err != nil || got.Status != 201 || string(got.Payload) != `"a"` {
			t.Errorf("a: %+v", got)
		}
		if got := <-b; got.err != nil || got.Status != 202 || string(got.Payload) != `"b"` {
			t.Errorf("b: %+v", got)
		}
		c.disconnect()
	}
}

// Nobody waits for them: they are late, or made up. They are acknowledged.
func TestStrayMethodResponsesAreIgnored(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(0, methodsFilter)
	done := r.invokeLater(device("d1"), "a", "")
	c.expectPublish("$iothub/methods/POST/a/?$rid=1")
	for i, rid := range []string{"0", "2", "-1", "18446744073709551616", "", "abc", "1x", "01x"} {
		c.send(telemetry("$iothub/methods/res/200/?$rid="+rid, uint16(i+1), "{}"))
		if ack := c.expect(packets.Puback); int(ack.PacketID) != i+1 {
			t.Errorf("PUBACK of %d", ack.PacketID)
		}
	}
	c.send(telemetry("$iothub/methods/res/201/?$rid=1", 0, "1"), telemetry("$iothub/methods/res/202/?$rid=1", 0, "2"))
	if got := <-done; got.Status != 201 || string(got.Payload) != "1" {
		t.Errorf("%+v", got)
	}
	c.sync()
}

// A device cannot answer what was asked of another one.
func TestMethodResponsesCountOnlyForTheirOwnIdentity(t *testing.T) {
	r := newRig(t)
	c, other := r.connect("d1"), r.connect("d2")
	c.subscribe(0, methodsFilter)
	other.subscribe(0, methodsFilter)
	done := r.invokeLater(device("d1"), "a", "")
	c.expectPublish("$iothub/methods/POST/a/?$rid=1")
	other.send(telemetry("$iothub/methods/res/500/?$rid=1", 0, `"forged"`))
	other.sync()
	c.send(telemetry("$iothub/methods/res/200/?$rid=1", 0, `"true"`))
	if got := <-done; got.Status != 200 || string(got.Payload) != `"true"` {
		t.Errorf("%+v", got)
	}
}

func TestUnsubscribingEndsMethods(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(0, methodsFilter)
	before := r.invokeLater(device("d1"), "a", "")
	c.expectPublish("$iothub/methods/POST/a/?$rid=1")
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: methodsFilter}}})
	c.expect(packets.Unsuback)
	if _, err := r.invoke(device("d1"), "b", ""); errorCode(err) != hub.CodeDeviceNotOnline {
		t.Errorf("a call after UNSUBSCRIBE ended with %v", err)
	}
	c.send(telemetry("$iothub/methods/res/200/?$rid=1", 0, ""))
	if got := <-before; got.err != nil || got.Status != 200 {
		t.Errorf("a call from before: %+v", got)
	}
}

func TestAMethodEndsWithItsConnection(t *testing.T) {
	for name, end := range map[string]func(r *rig, c *client){
		"cut":        func(_ *rig, c *client) { _ = c.conn.Close() },
		"disconnect": func(_ *rig, c *client) { c.disconnect() },
		"replaced":   func(r *rig, _ *client) { r.connect("d1", cleanSession) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := r.connect("d1")
			c.subscribe(0, methodsFilter)
			done := r.invokeLater(device("d1"), "a", "")
			c.expectPublish("$iothub/methods/POST/a/?$rid=1")
			end(r, c)
			if got := <-done; errorCode(got.err) != hub.CodeConnectionClosed {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A name that MQTT cannot carry fails the call, not the connection.
func TestMethodNamesThatMQTTCannotCarryFailTheCall(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(0, methodsFilter)
	for _, name := range []string{"", "a/b", "a#", "+", "a\x00b", "\xff", strings.Repeat("n", 129), strings.Repeat("n", 70000)} {
		if _, err := r.invoke(device("d1"), name, ""); errorCode(err) != hub.CodeArgumentInvalid {
			t.Errorf("%q: %v", clip(name), err)
		}
	}
	c.sync()
}
