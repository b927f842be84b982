package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/door"
)

// record is one record of a batch of feedback.
type record struct {
	OriginalMessageID  string    `json:"originalMessageId"`
	Description        string    `json:"description"`
	DeviceGenerationID string    `json:"deviceGenerationId"`
	DeviceID           string    `json:"deviceId"`
	EnqueuedTimeUTC    time.Time `json:"enqueuedTimeUtc"`
	StatusCode         string    `json:"statusCode"`
}

// feedback receives batches and completes them, by one of the two doors that have them.
type feedback func(t *testing.T) []record

func feedbackByAMQP(t *testing.T) feedback {
	conn := dialAMQP(t, door.AMQP)
	token, err := running.backend.Token()
	must(t, err)
	must(t, backend.PutToken(deadline(t), conn, token))
	r, err := newSession(t, conn).NewReceiver(deadline(t), "/messages/serviceBound/feedback", nil)
	must(t, err)
	return func(t *testing.T) []record {
		m, err := r.Receive(deadline(t), nil)
		must(t, err)
		must(t, r.AcceptMessage(deadline(t), m))
		return recordsOf(t, m.GetData())
	}
}

func feedbackByREST(t *testing.T) feedback {
	return func(t *testing.T) []record {
		const path = "/messages/servicebound/feedback"
		for {
			status, header, body := rest(t, http.MethodGet, path)
			if status == http.StatusOK {
				lock := strings.Trim(header.Get("ETag"), `"`)
				if status, _, body := rest(t, http.MethodDelete, path+"/"+lock); status != http.StatusNoContent {
					t.Fatalf("complete: %d %s", status, body)
				}
				return recordsOf(t, body)
			}
			if status != http.StatusNoContent {
				t.Fatalf("%d %s", status, body)
			}
			select {
			case <-deadline(t).Done():
				t.Fatal("no feedback came")
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

func recordsOf(t *testing.T, body []byte) (list []record) {
	t.Helper()
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return list
}

// rest asks as the back end.
func rest(t *testing.T, method, path string) (status int, header http.Header, body []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(deadline(t), method, "https://"+address+path+"?api-version=2021-04-12", nil)
	must(t, err)
	token, err := running.backend.Token()
	must(t, err)
	r.Header.Set("Authorization", token)
	transport := &http.Transport{TLSClientConfig: running.tls.Clone()}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(r)
	must(t, err)
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	must(t, err)
	return answer.StatusCode, answer.Header, body
}

// settling lets a go-amqp device settle its next messages, one after the other.
func settling(deliveries int, settle func(ctx context.Context, r *amqp.Receiver, m *amqp.Message) error) func(*testing.T, backend.Device) {
	return func(t *testing.T, d backend.Device) {
		conn := dialAMQP(t, door.AMQP)
		must(t, backend.PutToken(deadline(t), conn, deviceToken(t, d)))
		r, err := newSession(t, conn).NewReceiver(deadline(t), "/devices/"+d.DeviceID+"/messages/devicebound", nil)
		must(t, err)
		for range deliveries {
			must(t, settle(deadline(t), r, receiveC2D(t, r)))
		}
	}
}

// takenAndLost takes a delivery and drops the connection, which counts for nothing.
func takenAndLost(t *testing.T, d backend.Device) {
	settling(1, func(context.Context, *amqp.Receiver, *amqp.Message) error { return nil })(t, d)
	_, err := running.control.Disconnect(deadline(t), d.DeviceID)
	must(t, err)
}

// Each outcome of a message is told apart: in its feedback by AMQP and by REST, and in the metrics.
func TestEachOutcomeHasItsFeedbackAndItsMetric(t *testing.T) {
	const completed, rejected, abandoned, expired = `iothub_c2d_commands_egress_complete_success_total{door="amqp"}`,
		`iothub_c2d_commands_egress_reject_success_total{door="amqp"}`, `iothub_c2d_commands_egress_abandon_success_total{door="amqp"}`, "iothub_c2d_messages_expired_total"
	for doorName, open := range map[string]func(*testing.T) feedback{"amqp": feedbackByAMQP, "rest": feedbackByREST} {
		for outcome, test := range map[string]struct {
			bringAbout func(*testing.T, backend.Device)
			counted    map[string]float64
		}{
			"Success": {settling(1, func(ctx context.Context, r *amqp.Receiver, m *amqp.Message) error { return r.AcceptMessage(ctx, m) }), map[string]float64{completed: 1}},
			"Rejected": {
				settling(1, func(ctx context.Context, r *amqp.Receiver, m *amqp.Message) error {
					return r.RejectMessage(ctx, m, nil)
				}), map[string]float64{rejected: 1},
			},
			"DeliveryCountExceeded": {func(t *testing.T, d backend.Device) {
				takenAndLost(t, d)
				settling(10, func(ctx context.Context, r *amqp.Receiver, m *amqp.Message) error { return r.ReleaseMessage(ctx, m) })(t, d)
			}, map[string]float64{abandoned: 10}},
			"Expired": {func(t *testing.T, _ backend.Device) {
				_, err := running.control.Advance(deadline(t), time.Minute)
				must(t, err)
			}, map[string]float64{expired: 1}},
			"Purged": {func(t *testing.T, d backend.Device) {
				if status, _, body := rest(t, http.MethodDelete, "/devices/"+d.DeviceID+"/commands"); status != http.StatusOK {
					t.Fatalf("%d %s", status, body)
				}
			}, map[string]float64{}},
		} {
			t.Run(doorName+"/"+outcome, func(t *testing.T) {
				d := newDevice(t)
				next := open(t)
				before := metrics(t)
				m := amqp.NewMessage([]byte("x"))
				state, err := running.control.Clock(deadline(t))
				must(t, err)
				expiry := state.Now.Add(time.Minute)
				m.Properties = &amqp.MessageProperties{MessageID: "m-" + outcome, AbsoluteExpiryTime: &expiry}
				m.ApplicationProperties = map[string]any{"iothub-ack": "full"}
				must(t, running.backend.SendC2D(deadline(t), d.DeviceID, m))
				test.bringAbout(t, d)
				got := next(t)
				if len(got) != 1 || got[0].EnqueuedTimeUTC.IsZero() || got[0].DeviceGenerationID == "" {
					t.Fatalf("records %+v", got)
				}
				got[0].EnqueuedTimeUTC, got[0].DeviceGenerationID = time.Time{}, ""
				want := []record{{OriginalMessageID: "m-" + outcome, Description: outcome, DeviceID: d.DeviceID, StatusCode: outcome}}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("records (-want +got):\n%s", diff)
				}
				var after map[string]float64
				until(t, fmt.Sprintf("metrics: %v", test.counted), func() bool { // a settlement is counted when it is over; its record may be faster
					counted := map[string]float64{}
					after = metrics(t)
					for _, name := range []string{completed, rejected, abandoned, expired} {
						if n := after[name] - before[name]; n != 0 {
							counted[name] = n
						}
					}
					return maps.Equal(test.counted, counted)
				})
				if n := after[`iolite_c2d_settled_total{outcome="`+outcome+`"}`] - before[`iolite_c2d_settled_total{outcome="`+outcome+`"}`]; n != 1 {
					t.Errorf("%v messages are counted as %s", n, outcome)
				}
			})
		}
	}
}

// metrics scrapes the control address: values by name and labels.
func metrics(t *testing.T) map[string]float64 {
	t.Helper()
	r, err := http.NewRequestWithContext(deadline(t), http.MethodGet, "http://"+address+":8088/metrics", nil)
	must(t, err)
	answer, err := http.DefaultClient.Do(r)
	must(t, err)
	defer answer.Body.Close()
	values := map[string]float64{}
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		name, value, found := strings.Cut(lines.Text(), "} ")
		if found {
			name += "}"
		} else {
			name, value, _ = strings.Cut(lines.Text(), " ")
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(name, "#") {
			values[name] = v
		}
	}
	return values
}

// What real clients do is in the documented series, by the door it came in.
func TestMetricsCountWhatClientsDo(t *testing.T) {
	before := metrics(t)
	for before["iothub_connected_device_count"] > 0 { // those of other tests are on their way out
		select {
		case <-deadline(t).Done():
			t.Fatal("devices of other tests are still connected")
		case <-time.After(10 * time.Millisecond):
		}
		before = metrics(t)
	}
	d := newDevice(t)
	if _, err := running.backend.Twin(deadline(t), d.DeviceID); err != nil {
		t.Error(err)
	}
	if _, err := running.backend.PatchTwin(deadline(t), d.DeviceID, []byte(`{"tags":{"a":1}}`), ""); err != nil {
		t.Error(err)
	}
	if _, err := running.backend.Invoke(deadline(t), d.DeviceID, backend.Method{Name: "nobody-is-there"}); err == nil {
		t.Error("a method of a device that is offline was answered")
	}
	must(t, running.backend.PostTelemetry(deadline(t), d, []byte("by https"), nil))
	conn := dialAMQP(t, door.AMQPWS)
	must(t, backend.PutToken(deadline(t), conn, deviceToken(t, d)))
	s, err := newSession(t, conn).NewSender(deadline(t), eventsAddress(d), nil)
	must(t, err)
	for range 3 {
		must(t, s.Send(deadline(t), amqp.NewMessage([]byte("by amqp")), nil))
	}
	bad := amqp.NewMessage([]byte("x"))
	bad.Properties = &amqp.MessageProperties{MessageID: strings.Repeat("x", 129)}
	if err := s.Send(deadline(t), bad, nil); err == nil {
		t.Error("a message id of 129 characters was taken")
	}
	while := metrics(t)
	got := map[string]float64{}
	for name, v := range while {
		if strings.HasPrefix(name, "iothub_") && v != before[name] {
			got[name] = v - before[name]
		}
	}
	maps.DeleteFunc(got, func(name string, _ float64) bool {
		return slices.ContainsFunc([]string{"_bytes", "latency", "usage", "quota"}, func(part string) bool { return strings.Contains(name, part) })
	})
	want := map[string]float64{
		"iothub_total_device_count": 1, "iothub_devices_total_devices": 1, "iothub_connected_device_count": 1, "iothub_devices_connected_devices_all_protocol": 1,
		`iothub_c2d_twin_read_success_total{door="https"}`: 1, `iothub_c2d_twin_update_success_total{door="https"}`: 1, `iothub_c2d_methods_failure_total{door="https"}`: 1,
		`iothub_d2c_telemetry_ingress_all_protocol_total{door="https"}`: 1, `iothub_d2c_telemetry_ingress_success_total{door="https"}`: 1,
		`iothub_d2c_telemetry_ingress_all_protocol_total{door="amqp-ws"}`: 4, `iothub_d2c_telemetry_ingress_success_total{door="amqp-ws"}`: 3,
		"iothub_d2c_telemetry_egress_success_total": 4, "iothub_d2c_endpoints_egress_built_in_events_total": 4,
		`iothub_routing_deliveries_total{endpoint_name="events",endpoint_type="builtin",failure_reason_category="null",result="success",routing_source="Device Messages"}`: 4,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
