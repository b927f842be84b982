package doctor_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/iolite-emulator/iolite"
	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/doctor"
	"github.com/iolite-emulator/iolite/iolitetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// examine returns the checks by name, and the verdict.
func examine(t *testing.T, e *iolite.Emulator) (map[string]doctor.Check, bool) {
	t.Helper()
	b, err := backend.New(e.Info(), e.CA().Pool(), e.Hub().Now)
	if err != nil {
		t.Fatal(err)
	}
	checks := map[string]doctor.Check{}
	healthy := doctor.Run(t.Context(), b, func(c doctor.Check) { checks[c.Name] = c })
	return checks, healthy
}

func TestEveryDoorOfAHealthyHubIsTried(t *testing.T) {
	checks, healthy := examine(t, iolitetest.Run(t))
	if !healthy {
		t.Error("the hub is said to be ill")
	}
	for _, name := range []string{"name", "https", "event hubs", "mqtt", "mqtt-ws", "amqp", "amqp-ws", "eventhub"} {
		if c, ok := checks[name]; !ok || c.Left || c.Err != nil {
			t.Errorf("%s: tried %v, left out %v, error %v", name, ok, c.Left, c.Err)
		}
	}
}

func TestAShutDoorIsLeftOutAndNotPassed(t *testing.T) {
	checks, healthy := examine(t, iolitetest.Run(t, iolitetest.With(func(o *iolite.Options) { o.AMQP, o.EventHub = iolite.Off, iolite.Off })))
	if !healthy {
		t.Error("a door that is shut on purpose makes the hub ill")
	}
	for _, name := range []string{"amqp", "eventhub"} {
		if !checks[name].Left {
			t.Errorf("%s: %+v, want it left out", name, checks[name])
		}
	}
	if c := checks["amqp-ws"]; c.Left || c.Err != nil {
		t.Errorf("amqp-ws: %+v", c)
	}
}

func TestAHubThatIsGoneIsNotHealthy(t *testing.T) {
	e := iolitetest.Run(t)
	e.Close()
	if _, healthy := examine(t, e); healthy {
		t.Error("the hub is said to be well")
	}
}
