package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// piecemeal is a peer whose bytes arrive in pieces of the given sizes, over and over.
type piecemeal struct {
	scripted
	sizes []int
	next  int
}

func (p *piecemeal) Read(b []byte) (int, error) {
	size := p.sizes[p.next%len(p.sizes)]
	p.next++
	return p.in.Read(b[:min(size, len(b))])
}

// Whatever requests follow each other on a connection, pipelined, and wherever TCP cuts the stream, each message has the
// names of its own request.
func TestNamesStayWithTheirRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var raw bytes.Buffer
		var want []string
		for i := range rapid.IntRange(1, 12).Draw(t, "requests") {
			body := rapid.SampledFrom([]string{"", "x", "\r\n\r\n", "GET / HTTP/1.1\r\niothub-app-NO: 1\r\n\r\n", strings.Repeat("long ", 2000)}).Draw(t, "body")
			name := fmt.Sprintf("aB%dcD", i)
			switch rapid.SampledFrom([]string{"length", "chunked", "other"}).Draw(t, "framing") {
			case "length":
				fmt.Fprintf(&raw, "POST %s HTTP/1.1\r\nHost: x\r\niothub-app-%s: 1\r\nContent-Length: %d\r\n\r\n%s", eventsOf, name, len(body), body)
			case "chunked":
				half := len(body) / 2
				fmt.Fprintf(&raw, "POST %s HTTP/1.1\r\nHost: x\r\niothub-app-%s: 1\r\nTransfer-Encoding: chunked\r\n\r\n", eventsOf, name)
				for _, part := range []string{body[:half], body[half:]} {
					if part != "" {
						fmt.Fprintf(&raw, "%X;ext=1\r\n%s\r\n", len(part), part)
					}
				}
				raw.WriteString("0\r\nTrailer: iothub-app-NO\r\n\r\n")
			default:
				fmt.Fprintf(&raw, "GET /none HTTP/1.1\r\nHost: x\r\niothub-app-%s: 1\r\n\r\n", name)
				continue
			}
			want = append(want, name)
		}
		sizes := rapid.SliceOfN(rapid.IntRange(1, 5000), 1, 10).Draw(t, "sizes")
		var got []string
		for _, e := range serveAll(t, &piecemeal{scripted: scripted{in: bytes.NewReader(raw.Bytes())}, sizes: sizes}) {
			for _, p := range e.Properties {
				got = append(got, p.Name)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("names (-want +got):\n%s", diff)
		}
	})
}

// serveAll serves one connection of a device to its end and returns the events stored.
func serveAll(t rapid.TB, peer *piecemeal) []store.Event {
	h, err := hub.New(hub.Config{
		Engine: store.NewMemory(store.MemoryOptions{Partitions: 1}), Clock: clock.NewManual(start), Logger: slog.New(slog.DiscardHandler), AuthOff: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := h.Admin().CreateIdentity(context.Background(), store.Identity{Key: store.Key{DeviceID: "d1"}}); err != nil {
		t.Fatal(err)
	}
	s := New(Config{Hub: h, Logger: slog.New(slog.DiscardHandler)})
	defer s.Close()
	s.Serve(door.Wrap(peer, door.HTTPS))
	reader, err := h.Admin().OpenReader(context.Background(), hub.ReaderOptions{Group: "$Default", Partition: "0"})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	events, err := reader.Next(context.Background(), 100)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// A header block that is too large is refused by net/http and not kept by us.
func TestWireKeepsNoMoreThanAHeaderBlock(t *testing.T) {
	endless := &scripted{in: bytes.NewReader([]byte("POST / HTTP/1.1\r\nX: " + strings.Repeat("y", 1<<20)))}
	w := newWire(door.Wrap(endless, door.HTTPS))
	buffer := make([]byte, 4096)
	for {
		if _, err := w.Read(buffer); err != nil {
			break
		}
	}
	if w.pending != nil || w.state != ignoring {
		t.Errorf("state %v, pending %v", w.state, w.pending)
	}
}

func TestSlowRequestsRunOutOfTime(t *testing.T) {
	hurry := func(s *Server) {
		const patience = 500 * time.Millisecond // and so long a busy machine may take to bring what is sent
		s.http.ReadHeaderTimeout, s.http.ReadTimeout = patience, patience
	}
	for name, test := range map[string]struct{ raw, want string }{
		"silent":        {"", ""},
		"half a header": {"POST " + eventsOf + " HTTP/1.1\r\nHos", "HTTP/1.1 400 Bad Request"},
		"half a body":   {"POST " + eventsOf + " HTTP/1.1\r\nHost: x\r\nAuthorization: TOKEN\r\nContent-Length: 10\r\n\r\nhalf", "HTTP/1.1 400 Bad Request"},
		"half a chunk":  {"POST " + eventsOf + " HTTP/1.1\r\nHost: x\r\nAuthorization: TOKEN\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", "HTTP/1.1 400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTunedRig(t, hurry)
			r.device("d1")
			got := r.exchange(strings.Replace(test.raw, "TOKEN", r.deviceToken("d1"), 1))
			if line, _, _ := strings.Cut(got, "\r\n"); line != test.want {
				t.Errorf("answer %q, want %q", line, test.want)
			}
			if n := len(r.events()); n != 0 {
				t.Errorf("%d events, want 0", n)
			}
		})
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	r := newTunedRig(t, func(s *Server) { s.http.IdleTimeout = 50 * time.Millisecond })
	if got := r.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 404 ") {
		t.Errorf("answer %.40q", got)
	}
}

// Deadlines of HTTP may come early by a moment, those of what is spoken on a WebSocket may not.
func TestDeadlineIsSetWhenItMatters(t *testing.T) {
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	for _, test := range []struct {
		name            string
		applied, wanted time.Time
		slack           time.Duration
		want            bool
	}{
		{"none, as before", time.Time{}, time.Time{}, deadlineSlack, false},
		{"first", time.Time{}, at(1), deadlineSlack, true},
		{"taken back", at(1), time.Time{}, deadlineSlack, true},
		{"a little later", at(1), at(3), deadlineSlack, false},
		{"much later", at(1), at(4), deadlineSlack, true},
		{"earlier", at(2), at(1), deadlineSlack, true},
		{"a little later, exact", at(1), at(2), 0, true},
		{"the same, exact", at(1), at(1), 0, false},
	} {
		d := deadline{applied: test.applied, wanted: test.wanted}
		if got := d.differs(test.slack); got != test.want {
			t.Errorf("%s: differs %v, want %v", test.name, got, test.want)
		}
	}
}

func TestClosedServerRefusesConnections(t *testing.T) {
	s := New(Config{Logger: slog.New(slog.DiscardHandler)})
	s.Close()
	c := &scripted{in: bytes.NewReader([]byte("GET / HTTP/1.1\r\n\r\n"))}
	s.Serve(door.Wrap(c, door.HTTPS))
	if c.out != 0 {
		t.Errorf("%d bytes were answered", c.out)
	}
}
