package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Each kind of goal finds its figure; what was not measured has no row.
func TestGoalsStandBesideWhatWasMeasured(t *testing.T) {
	var r report
	for round := range 3 {
		f := float64(10 + round)
		r.cost(groupMQTT, "flood", emulatorName, spent{server: f})
		r.cost(groupMQTT, "flood", mosquittoName, spent{server: 10 * f})
		r.cost(groupMQTT, "flood", gatheredName, spent{server: 1})
		r.cost(groupWebSocket, "flood", emulatorName, spent{server: 2 * f})
		r.crowd(crowdFigures{Server: emulatorName, Devices: crowdOfGoals, ConnectMillis: 2 * f, QuietMillis: 1})
		r.crowd(crowdFigures{Server: bareName, Devices: crowdOfGoals, ConnectMillis: f})
		r.start(emulatorName+", CA kept", time.Duration(f)*time.Millisecond)
		r.start(bareStartName, 10*time.Millisecond)
		r.idle(emulatorName, memory{Resident: 17 << 20})
		r.exchange(roundTrip{pacedLoopbackName, 10, 20, f, 20, 5})
		r.exchange(roundTrip{pacedReaderName, 10, 20, 2 * f, 100, 50})
		r.exchange(roundTrip{loopbackName, 10, 1, 1, 20, 5})
		r.exchange(roundTrip{methodName, 10, 1, f, 100, 50})
	}
	r.finish()
	want := []string{
		"MQTT telemetry, flood|0.2 of mosquitto|0.10|0.10..0.10|11.00 us|110.00 us|1.00 us|yes",
		"MQTT over WebSocket, flood|1.15 of our own MQTT|2.00|2.00..2.00|22.00 us|11.00 us||no",
		"CPU per connect, ECDSA P-256|1.1 of bare Go|2.00|2.00..2.00|22.00 ms|11.00 ms||no",
		"CPU while 10,000 connections are silent, ms/s|2.5|1.00|1.00..1.00|1.00 ms/s||0.00 ms/s|yes",
		"start to ready, CA kept|1.3 of bare Go, three TLS ports|1.10|1.00..1.20|11.00 ms|10.00 ms||yes",
		"resident when ready, MiB|16|17.00|17.00..17.00||||no",
		"device to Event Hubs reader, 1,000 messages/s, p50|3 of bare loopbacks at that rate|2.00|2.00..2.00|22.00 us|11.00 us||yes",
		"direct method: REST, MQTT device, REST, p50|6 of bare loopbacks|11.00|10.00..12.00|11.00 us|1.00 us||no",
	}
	var got []string
	for _, row := range r.goalsTable().rows {
		if !strings.HasPrefix(row[0], "resident for each") { // of no memory at all
			got = append(got, strings.Join(row, "|"))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
