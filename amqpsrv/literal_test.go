package amqpsrv

import (
	"testing"
	"time"

	"github.com/Azure/go-amqp"
)

// % is legal in an id: Node sends it as it is, C# encodes it. Whose token the connection holds says which of the two it was.
func TestIDsThatLookEncoded(t *testing.T) {
	r := newRig(t, rigOptions{})
	looks, plain := r.device("a%41"), r.device("aA")
	sends := func(session *amqp.Session, address, want string) {
		t.Helper()
		r.must(r.telemetry(r.sender(session, address), "x"))
		found := false
		for _, c := range r.hub.Connections() {
			found = found || c.DeviceID == want
		}
		if !found {
			t.Errorf("%s: %s is not connected", address, want)
		}
	}
	sends(r.as(r.deviceToken(looks, time.Hour)), "/devices/a%41/messages/events", "a%41")
	sends(r.as(r.deviceToken(looks, time.Hour)), "/devices/a%2541/messages/events", "a%41")
	sends(r.as(r.deviceToken(plain, time.Hour)), "/devices/a%41/messages/events", "aA")
	_, err := r.as(r.deviceToken(plain, time.Hour)).NewSender(r.ctx(), "/devices/a%2541/messages/events", nil)
	r.wantRefusal(err, amqp.ErrCondUnauthorizedAccess)
}
