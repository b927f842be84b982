package amqp10

import (
	"net"
	"testing"
)

// lends is a connection whose reads return all of the room but short bytes of it.
type lends struct {
	net.Conn
	short int
}

func (l lends) Read(p []byte) (int, error) { return len(p) - l.short, nil }

// Over WebSocket the headers of frames take a part of the room.
func TestInputGrowsWhenReadsNearlyFillIt(t *testing.T) {
	for _, test := range []struct{ short, want int }{{0, 4 * smallInput}, {smallInput / 8, 4 * smallInput}, {smallInput / 2, smallInput}} {
		var in input
		if _, err := in.fill(lends{short: test.short}, 1); err != nil {
			t.Fatal(err)
		}
		if len(in.buf) != test.want || len(in.unread()) != smallInput-test.short {
			t.Errorf("%d bytes short of the room: %d unread of %d, want room for %d", test.short, len(in.unread()), len(in.buf), test.want)
		}
	}
}
