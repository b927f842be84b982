package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
)

func TestMonitorTellsTheSourceOfWhatIsNoTelemetry(t *testing.T) {
	event := func(source string) *amqp.Message {
		return &amqp.Message{Data: [][]byte{[]byte("{}")}, Annotations: amqp.Annotations{
			"iothub-connection-device-id": "d", "iothub-message-source": source, "x-opt-sequence-number": int64(7), "x-opt-enqueued-time": time.Unix(0, 0).UTC(),
		}}
	}
	for source, want := range map[string][2]string{
		"Telemetry": {"00:00:00.000 d [1:7] {}\n", `{"enqueued":"1970-01-01T00:00:00Z","deviceId":"d","source":"Telemetry","partition":"1","sequence":7,"body":"{}"}` + "\n"},
		"deviceConnectionStateEvents": {"00:00:00.000 d deviceConnectionStateEvents [1:7] {}\n",
			`{"enqueued":"1970-01-01T00:00:00Z","deviceId":"d","source":"deviceConnectionStateEvents","partition":"1","sequence":7,"body":"{}"}` + "\n"},
	} {
		for i, asJSON := range []bool{false, true} {
			var out bytes.Buffer
			e := newMonitorEvent("1", event(source))
			if err := e.print(&app{stdout: &out}, asJSON); err != nil || out.String() != want[i] {
				t.Errorf("%v\ngot  %swant %s", err, out.String(), want[i])
			}
		}
	}
}
