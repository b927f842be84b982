package broker

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/iolite-emulator/iolite/store"
)

// A Will is stored as telemetry with iothub-MessageType=Will, unless the client says goodbye.
func TestWill(t *testing.T) {
	tests := map[string]struct {
		end  func(*rig, *client)
		sent bool
	}{
		"goodbye":     {func(_ *rig, c *client) { c.disconnect() }, false},
		"lost":        {func(_ *rig, c *client) { _ = c.conn.Close() }, true},
		"half packet": {func(_ *rig, c *client) { _, _ = c.conn.Write([]byte{0x30, 9, 0}); _ = c.conn.Close() }, true},
		"offence":     {func(_ *rig, c *client) { c.send(telemetry("x", 0, "")); c.expectClosed() }, true},
		"cut":         {func(r *rig, c *client) { r.hub.Disconnect("d1"); c.expectClosed() }, true},
		"reset":       {func(r *rig, c *client) { _ = r.hub.Reset(context.Background()); c.expectClosed() }, false},
		"replaced":    {func(r *rig, c *client) { r.connect("d1"); c.expectClosed() }, true},
		"deleted": {func(r *rig, c *client) {
			_ = r.hub.Admin().DeleteIdentity(context.Background(), device("d1"), "*")
			c.expectClosed()
		}, false},
		"shutdown": {func(r *rig, c *client) { r.broker.Close(); c.expectClosed() }, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := r.connect("d1", will("devices/d1/messages/events/%24.ct=text%2Fplain&a=b", 1), func(p *packets.ConnectParams) { p.WillRetain = true })
			test.end(r, c)
			left := 0
			if name == "replaced" {
				left = 1
			}
			r.eventually("the end of the connection", func() bool { return r.connections() == left })
			var got []store.Property
			for _, e := range r.events() {
				if string(e.Body) != "bye" || e.ContentType != "text/plain" {
					t.Errorf("stored %+v", e)
				}
				got = append(got, e.Properties...)
			}
			var want []store.Property
			if test.sent {
				want = []store.Property{property("a", "b"), property("mqtt-retain", "true"), property("iothub-MessageType", "Will")}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
