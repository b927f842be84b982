package iolitetest_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

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
