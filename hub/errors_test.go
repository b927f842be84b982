package hub

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"testing"

	"github.com/iolite-emulator/iolite/store"
)

func TestErrorTableIsWhole(t *testing.T) {
	seen := map[string]bool{}
	last := Code(0)
	for _, row := range Errors() {
		if row.Code <= last || seen[row.Name] {
			t.Errorf("%d %s stands twice or out of order", row.Code, row.Name)
		}
		last, seen[row.Name] = row.Code, true
		if row.Status != int(row.Code)/1000 {
			t.Errorf("%s: status %d of code %d", row.Name, row.Status, row.Code)
		}
		if row.Text == "" || !regexp.MustCompile(`^(amqp|com\.microsoft):[a-z:-]+$`).MatchString(row.Condition) {
			t.Errorf("%s: text %q, condition %q", row.Name, row.Text, row.Condition)
		}
		if !slices.Contains([]MQTTEffect{MQTTRefuse, MQTTClose, MQTTNone}, row.MQTT) {
			t.Errorf("%s: MQTT effect %q", row.Name, row.MQTT)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	h, _ := newTestHub(t)
	for want, e := range map[string]*Error{
		"A device with ID 'x' is already registered.":          h.NewError(CodeDeviceAlreadyExists, "x"),
		"Device d in IotHub iolite already contains Module m.": h.registryError(store.ErrExists, store.Key{DeviceID: "d", ModuleID: "m"}).(*Error),
		"Precondition failed: Invalid ETag":                    h.NewError(CodePreconditionFailed),
		"Unauthorized":                                         h.NewError(CodeUnauthorized),
		"BadRequest":                                           h.NewError(CodeArgumentInvalid),
		"BadRequest: why: 100%s":                               h.NewError(CodeArgumentInvalid, "why: 100%s"),
		"mydevice":                                             h.NewError(CodeDeviceNotFound, "mydevice"),
		"An internal error occurred":                           h.NewError(12345),
		"The queue of 'a%sb' holds 50 messages already":        h.NewError(CodeQueueDepthExceeded, "a%sb", "50"),
	} {
		if e.Text != want {
			t.Errorf("text %q, want %q", e.Text, want)
		}
	}
}

func TestTrackingIDHasTheDocumentedForm(t *testing.T) {
	h, _ := newTestHub(t)
	e := h.NewError(CodeUnauthorized)
	if !regexp.MustCompile(`^[0-9a-f]{32}-G:0-TimeStamp:01/01/2026 00:00:00$`).MatchString(e.TrackingID) {
		t.Errorf("tracking id %q", e.TrackingID)
	}
	if e.TrackingID == h.NewError(CodeUnauthorized).TrackingID {
		t.Error("two errors have one tracking id")
	}
}

func TestAsErrorHidesWhatIsNoHubError(t *testing.T) {
	h, _ := newTestHub(t)
	known := h.NewError(CodeLockLost)
	if e, created := AsError(fmt.Errorf("while settling: %w", known)); created || e != known {
		t.Errorf("AsError = %v, %v", e, created)
	}
	secret := errors.New("disk on fire")
	e, created := AsError(secret)
	if !created || e.Code != CodeServerError || e.Status != 500 || e.TrackingID == "" || e.Text != "An internal error occurred" {
		t.Errorf("AsError = %+v, %v", e, created)
	}
	if !errors.Is(e, secret) {
		t.Error("the cause is lost for the log")
	}
}

// errorOf is the hub error that err is, which a head renders.
func errorOf(err error) *Error {
	e, _ := AsError(err)
	return e
}
