package hostile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/door"
)

func mqttSubscribe(filters ...string) []byte {
	body := []byte{0, 1}
	for _, f := range filters {
		body = append(append(body, mqttText(f)...), 0)
	}
	return mqttPacket(0x82, body)
}

// mqttRead returns the next packet: its first byte and what follows its length.
func mqttRead(r *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		if n |= int(b&0x7F) << shift; b < 0x80 {
			break
		}
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return first, body, err
}

// twinClient is a raw client that has subscribed to the filters.
func twinClient(t *testing.T, at door.Door, d backend.Device, filters ...string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c := mqttDial(t, at)
	if code, err := mqttConnect(c, d.DeviceID, target.token(t, d)); err != nil || code != 0 {
		t.Fatal("return code ", code, err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err := c.Write(mqttSubscribe(filters...))
	must(t, err)
	r := bufio.NewReader(c)
	if first, body, err := mqttRead(r); err != nil || first != 0x90 || bytes.IndexByte(body[2:], 0x80) >= 0 {
		t.Fatalf("SUBSCRIBE was answered with %x % x, %v", first, body, err)
	}
	return c, r
}

// published takes a PUBLISH with QoS 0 apart.
func published(t *testing.T, first byte, body []byte) (topic, payload string) {
	t.Helper()
	if first != 0x30 || len(body) < 2 || len(body) < 2+int(body[0])<<8+int(body[1]) {
		t.Fatalf("got %x %.100q, want a PUBLISH", first, body)
	}
	n := 2 + int(body[0])<<8 + int(body[1])
	return string(body[2:n]), string(body[n:])
}

// reportedOf returns the reported properties that a back end sees, without what the hub adds.
func reportedOf(t *testing.T, d backend.Device) string {
	t.Helper()
	text, err := target.backend.Twin(deadline(t), d.ID())
	must(t, err)
	var shown struct {
		Properties struct{ Reported map[string]json.RawMessage }
	}
	must(t, json.Unmarshal(text, &shown))
	delete(shown.Properties.Reported, "$metadata")
	delete(shown.Properties.Reported, "$version")
	left, err := json.Marshal(shown.Properties.Reported)
	must(t, err)
	return string(left)
}

// TestMQTTRefusesBadPatches: each gets its status and code, changes nothing, and leaves the connection as it was.
func TestMQTTRefusesBadPatches(t *testing.T) {
	attack(t)
	text := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	large := func(n int) string {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf(`"p%d":%s`, i, text(4000)))
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	cases := map[string]struct {
		query, patch string
		status, code int
	}{
		"nothing":                       {"", "", 400, 400004},
		"blanks":                        {"", "   ", 400, 400004},
		"no JSON":                       {"", "hello", 400, 400004},
		"half an object":                {"", `{"a":{"b":1}`, 400, 400004},
		"two objects":                   {"", `{}{}`, 400, 400004},
		"a NUL behind the object":       {"", "{}\x00", 400, 400004},
		"an array":                      {"", `[{"a":1}]`, 400, 400004},
		"null":                          {"", `null`, 400, 400004},
		"a comma too many":              {"", `{"a":1,}`, 400, 400004},
		"a bad escape":                  {"", `{"a":"\q"}`, 400, 400004},
		"not a number":                  {"", `{"a":NaN}`, 400, 400004},
		"a name with a dot":             {"", `{"a.b":1}`, 400, 400004},
		"a name with a dollar":          {"", `{"$a":1}`, 400, 400004},
		"a version inside":              {"", `{"a":1,"$version":1}`, 400, 400004},
		"metadata inside":               {"", `{"$metadata":{}}`, 400, 400004},
		"a name with a space":           {"", `{"a b":1}`, 400, 400004},
		"a name with a line feed":       {"", `{"a\n":1}`, 400, 400004},
		"no name":                       {"", `{"":1}`, 400, 400004},
		"a forbidden name deep inside":  {"", `{"a":{"b":[{"c.d":1}]}}`, 400, 400004},
		"a name of 1025 bytes":          {"", `{` + text(1025) + `:1}`, 400, 400004},
		"a text of 4097 bytes":          {"", `{"a":` + text(4097) + `}`, 400, 400004},
		"null in an array":              {"", `{"a":[1,null]}`, 400, 400004},
		"a level too deep":              {"", nested(12), 400, 400004},
		"a hundred thousand levels":     {"", strings.Repeat(`{"a":`, 50_000), 400, 400004},
		"a hundred thousand arrays":     {"", `{"a":` + strings.Repeat("[", 100_000), 400, 400004},
		"more than 32 KiB":              {"", large(9), 400, 400004},
		"a quarter of a MiB":            {"", large(60), 400, 400004},
		"an integer of 53 bits":         {"", `{"a":4503599627370496}`, 400, 400004},
		"an integer of 53 bits, minus":  {"", `{"a":-4503599627370497}`, 400, 400004},
		"a number of a thousand digits": {"", `{"a":1` + strings.Repeat("0", 1000) + `}`, 400, 400004},
		"a number beyond all numbers":   {"", `{"a":1e999999}`, 400, 400004},
		"a version of the past":         {"&$version=1", `{"a":1}`, 412, 412001},
		"a version of the future":       {"&$version=99", `{"a":1}`, 412, 412001},
		"a version of 65 bits":          {"&$version=99999999999999999999", `{"a":1}`, 400, 400004},
		"a negative version":            {"&$version=-1", `{"a":1}`, 400, 400004},
		"a word for a version":          {"&$version=new", `{"a":1}`, 400, 400004},
		"an empty version":              {"&$version=", `{"a":1}`, 400, 400004},
	}
	eachMQTTDoor(t, func(t *testing.T, at door.Door) {
		d := target.device(t)
		c, r := twinClient(t, at, d, "$iothub/twin/res/#")
		ask := func(topic, body, answer string) string {
			t.Helper()
			_, err := c.Write(mqttPublish(topic, 0, 0, []byte(body)))
			must(t, err)
			first, packet, err := mqttRead(r)
			must(t, err)
			got, payload := published(t, first, packet)
			if got != answer {
				t.Fatalf("got %q %.200q, want %q", got, payload, answer)
			}
			return payload
		}
		ask("$iothub/twin/PATCH/properties/reported/?$rid=0", `{"kept":true}`, "$iothub/twin/res/204/?$rid=0&$version=2")
		for name, test := range cases {
			t.Run(name, func(t *testing.T) {
				body := ask("$iothub/twin/PATCH/properties/reported/?$rid=1"+test.query, test.patch, fmt.Sprintf("$iothub/twin/res/%d/?$rid=1", test.status))
				var e struct {
					ErrorCode int
					Message   string
				}
				if err := json.Unmarshal([]byte(body), &e); err != nil || e.ErrorCode != test.code || e.Message == "" || len(body) > 1000 {
					t.Errorf("the answer is %.300q, %v", body, err)
				}
			})
		}
		ask("$iothub/twin/PATCH/properties/reported/?$rid=2&$version=2", `{"more":1}`, "$iothub/twin/res/204/?$rid=2&$version=3")
		if got := reportedOf(t, d); got != `{"kept":true,"more":1}` {
			t.Errorf("reported %s", got)
		}
	})
}

// TestMQTTTwinsDoNotGrowBeyondTheirLimit, however small the pieces are that are added.
func TestMQTTTwinsDoNotGrowBeyondTheirLimit(t *testing.T) {
	attack(t)
	for name, piece := range map[string]string{
		"texts":              `"` + strings.Repeat("x", 4000) + `"`,
		"control characters": `"` + strings.Repeat(`\u0001`, 4000) + `"`,
		"empty objects":      "[" + strings.Repeat("{},", 60_000) + "{}]",
		"empty texts":        "[" + strings.Repeat(`"",`, 60_000) + `""]`,
	} {
		t.Run(name, func(t *testing.T) {
			d := target.device(t)
			c, r := twinClient(t, door.MQTT, d, "$iothub/twin/res/#")
			for i := 0; ; i++ {
				if i*len(piece) > 4<<20 {
					t.Fatal("the hub took 4 MiB of reported properties")
				}
				_, err := c.Write(mqttPublish(fmt.Sprintf("$iothub/twin/PATCH/properties/reported/?$rid=%d", i), 0, 0, fmt.Appendf(nil, `{"p%d":%s}`, i, piece)))
				must(t, err)
				first, body, err := mqttRead(r)
				must(t, err)
				if topic, _ := published(t, first, body); strings.HasPrefix(topic, "$iothub/twin/res/400/") {
					return
				}
			}
		})
	}
}

// TestMQTTEndsConnectionsOnTopicsThatDoNotExist, without an acknowledgement.
func TestMQTTEndsConnectionsOnTopicsThatDoNotExist(t *testing.T) {
	attack(t)
	d := target.device(t)
	cases := map[string][]byte{
		"$iothub/twin/PUT":                  mqttPublish("$iothub/twin/PUT/properties/reported/?$rid=1", 1, 1, []byte("{}")),
		"GET without a slash":               mqttPublish("$iothub/twin/GET?$rid=1", 1, 1, nil),
		"GET of a path":                     mqttPublish("$iothub/twin/GET/properties/desired/?$rid=1", 1, 1, nil),
		"a patch of desired properties":     mqttPublish("$iothub/twin/PATCH/properties/desired/?$rid=1", 1, 1, []byte(`{"a":1}`)),
		"a patch of tags":                   mqttPublish("$iothub/twin/PATCH/tags/?$rid=1", 1, 1, []byte(`{"a":1}`)),
		"a forged answer":                   mqttPublish("$iothub/twin/res/200/?$rid=1", 1, 1, []byte("{}")),
		"a wildcard in the rid":             mqttPublish("$iothub/twin/GET/?$rid=#", 1, 1, nil),
		"a forged method":                   mqttPublish("$iothub/methods/POST/reboot/?$rid=1", 1, 1, nil),
		"a response without a status":       mqttPublish("$iothub/methods/res//?$rid=1", 1, 1, nil),
		"a response with a word for status": mqttPublish("$iothub/methods/res/ok/?$rid=1", 1, 1, nil),
		"a response of 64 bits":             mqttPublish("$iothub/methods/res/9999999999/?$rid=1", 1, 1, nil),
		"a response without a rid":          mqttPublish("$iothub/methods/res/200/", 1, 1, nil),
		"SUBSCRIBE to all twins":            mqttSubscribe("$iothub/twin/#"),
		"SUBSCRIBE to everything":           mqttSubscribe("$iothub/#"),
		"SUBSCRIBE to reported properties":  mqttSubscribe("$iothub/twin/PATCH/properties/reported/#"),
		"SUBSCRIBE to one method":           mqttSubscribe("$iothub/methods/POST/reboot/#"),
		"SUBSCRIBE to others' responses":    mqttSubscribe("$iothub/methods/res/#"),
		"SUBSCRIBE to a good one and a bad": mqttSubscribe("$iothub/twin/res/#", "$iothub/twin/+/#"),
	}
	eachMQTTDoor(t, func(t *testing.T, at door.Door) {
		for name, said := range cases {
			t.Run(name, func(t *testing.T) {
				c := mqttDial(t, at)
				if code, err := mqttConnect(c, d.DeviceID, target.token(t, d)); err != nil || code != 0 {
					t.Fatal("return code ", code, err)
				}
				_, err := c.Write(said)
				must(t, err)
				if answer := untilClosed(t, c); len(answer) > 0 {
					t.Errorf("the hub said % x", answer)
				}
			})
		}
	})
	if got := reportedOf(t, d); got != "{}" {
		t.Errorf("reported %s", got)
	}
}

// fullTwin registers a device whose desired properties are nearly as large as they may be.
func fullTwin(t *testing.T) backend.Device {
	t.Helper()
	d := target.device(t)
	desired := map[string]string{}
	for i := range 8 {
		desired[fmt.Sprintf("p%d", i)] = strings.Repeat("x", 4000)
	}
	patch, err := json.Marshal(map[string]any{"properties": map[string]any{"desired": desired}})
	must(t, err)
	_, err = target.backend.PatchTwin(deadline(t), d.ID(), patch, "")
	must(t, err)
	return d
}

// TestMQTTFloodsOfTwinRequestsAreNoBurden: the clients ask for their twins without end and never read; the hub stops reading from them.
func TestMQTTFloodsOfTwinRequestsAreNoBurden(t *testing.T) {
	attack(t)
	before := target.gauge(t, "process_resident_memory_bytes")
	requests := bytes.Repeat(mqttPublish("$iothub/twin/GET/?$rid=1", 0, 0, nil), 1000)
	var flooding sync.WaitGroup
	const clients = 16
	for range clients {
		c, _ := twinClient(t, door.MQTT, fullTwin(t), "$iothub/twin/res/#")
		flooding.Go(func() {
			_ = c.SetWriteDeadline(time.Now().Add(3 * time.Second))
			written := 0
			for written < 16<<20 { // answers of 16 GiB
				n, err := c.Write(requests)
				written += n
				if err != nil {
					return // the hub no longer reads: just right
				}
			}
			t.Error("the hub took 16 MiB of requests from a client that reads no answer")
		})
	}
	flooding.Wait()
	if grown := target.gauge(t, "process_resident_memory_bytes") - before; grown > clients*(2<<20)+(64<<20) {
		t.Errorf("%d clients that do not read cost %.0f MiB", clients, grown/(1<<20))
	}
}

// TestMQTTDeviceThatReadsNoMethodsIsCut: what back ends send to a device that reads nothing has a bound, and the calls an end, long before
// they time out.
func TestMQTTDeviceThatReadsNoMethodsIsCut(t *testing.T) {
	attack(t)
	d := target.device(t)
	twinClient(t, door.MQTT, d, "$iothub/methods/POST/#", "$iothub/twin/PATCH/properties/desired/#")
	payload := json.RawMessage(`"` + strings.Repeat("x", 128<<10-2) + `"`)
	began := time.Now()
	const calls = 300 // 37 MiB; sockets take a few
	ends := make(chan error, calls)
	for range calls {
		go func() {
			_, err := target.backend.Invoke(t.Context(), d.ID(), backend.Method{Name: "flood", Payload: payload, ResponseTimeout: 60})
			ends <- err
		}()
	}
	cut := 0
	for range calls {
		err := <-ends
		switch {
		case err == nil:
			t.Error("a call was answered")
		case strings.Contains(err.Error(), "404104"):
			cut++
		case !strings.Contains(err.Error(), "404103"): // who came too late
			t.Error(err)
		}
	}
	t.Logf("%d calls were cut, all ended after %v", cut, time.Since(began))
	if took := time.Since(began); cut < 100 || took > 25*time.Second {
		t.Errorf("%d calls ended with the connection, after %v", cut, took)
	}
}
