package iolitetest_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/iolitetest"
	"github.com/iolite-emulator/iolite/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunIsEmptyButForWhatIsAskedFor(t *testing.T) {
	e := iolitetest.Run(t, iolitetest.WithDevices("device1"))
	if _, err := e.DeviceConnectionString(t.Context(), store.Key{DeviceID: "device1"}); err != nil {
		t.Error(err)
	}
	other := iolitetest.Run(t)
	if devices := other.Info().Devices; len(devices) != 0 {
		t.Errorf("a second hub has %v", devices)
	}
}

func TestClockOfAHubMovesAlone(t *testing.T) {
	e, other := iolitetest.Run(t), iolitetest.Run(t)
	e.Clock().Advance(time.Hour)
	if ahead := e.Hub().Now().Sub(other.Hub().Now()); ahead < 59*time.Minute {
		t.Errorf("the moved clock is %v ahead", ahead)
	}
}

func TestWaitForEventReturnsTheOneThatMatches(t *testing.T) {
	e := iolitetest.Run(t, iolitetest.WithDevices("d"))
	key := store.Key{DeviceID: "d"}
	p := auth.Principal{DeviceID: "d", Rights: auth.DeviceConnect, Scope: "devices/d", Method: auth.MethodSAS}
	s, err := e.Hub().OpenDevice(t.Context(), p, key, hub.DeviceOptions{Transient: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sent := make(chan error, 1)
	go func() {
		sent <- s.SendTelemetry(t.Context(), hub.Telemetry{Body: []byte(`{"n":1}`)}, hub.Telemetry{Body: []byte(`{"n":2}`)})
	}()
	found := iolitetest.WaitForEvent(t, e, hub.EventFilter{DeviceID: "d", Body: []hub.BodyValue{{Path: "n", Value: "2"}}})
	if err := <-sent; err != nil || found.Sequence != 1 {
		t.Errorf("found event %d, error of sending %v", found.Sequence, err)
	}
}
