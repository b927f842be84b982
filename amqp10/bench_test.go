package amqp10

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
)

// telemetry is a typical message of 256 bytes: some properties, a JSON body.
func telemetry() *Message {
	now := Timestamp(1700000000000)
	return &Message{
		MessageAnnotations: Map{{Symbol("iothub-interface-id"), "urn:x:y:1"}},
		Properties: &Properties{
			MessageID: "0f8fad5b-d9cb-469f-a165-70867728950e", To: "/devices/device-0001/messages/events",
			ContentType: "application/json", ContentEncoding: "utf-8", CreationTime: &now,
		},
		ApplicationProperties: Map{{"temperatureAlert", "false"}, {"iothub-creation-time-utc", "2024-01-01T00:00:00Z"}},
		Body:                  BodyData,
		Data:                  [][]byte{bytes.Repeat([]byte("x"), 40)},
	}
}

func telemetryPayload(b testing.TB) []byte {
	payload, err := telemetry().Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	return payload
}

func BenchmarkMessageDecode(b *testing.B) {
	payload := telemetryPayload(b)
	b.Run("amqp10", func(b *testing.B) {
		b.ReportAllocs()
		defer reportCPU(b)()
		b.SetBytes(int64(len(payload)))
		var m Message
		for b.Loop() {
			if err := m.Decode(payload, Limits{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("go-amqp", func(b *testing.B) {
		b.ReportAllocs()
		defer reportCPU(b)()
		b.SetBytes(int64(len(payload)))
		for b.Loop() {
			var m amqp.Message
			if err := m.UnmarshalBinary(payload); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMessageEncode(b *testing.B) {
	payload := telemetryPayload(b)
	b.Run("amqp10", func(b *testing.B) {
		b.ReportAllocs()
		defer reportCPU(b)()
		m := telemetry()
		buf := make([]byte, 0, 512)
		for b.Loop() {
			var err error
			if buf, err = m.Append(buf[:0]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("amqp10-new-buffer", func(b *testing.B) {
		b.ReportAllocs()
		defer reportCPU(b)()
		m := telemetry()
		for b.Loop() {
			if _, err := m.Append(nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("go-amqp", func(b *testing.B) {
		b.ReportAllocs()
		defer reportCPU(b)()
		var m amqp.Message
		if err := m.UnmarshalBinary(payload); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := m.MarshalBinary(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// reportCPU reports the CPU time per operation, which survives a busy machine better than the time on the wall.
func reportCPU(b *testing.B) func() {
	before := cpuTime()
	return func() { b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op") }
}

// feed is a connection that plays a client from memory: it sends a preamble, then transfers until n are sent, at most
// perRead at a time, and swallows what it is sent. It stays within the credit it is granted, which it does not read: the
// benchmark grants enough.
type feed struct {
	net.Conn
	preamble  []byte
	transfers []byte // perRead of them
	size      int
	idAt      int // where the delivery-id stands in a transfer
	id        uint32
	left      int
	perRead   int
	granted   chan struct{} // closed by the first write: it ends with the credit
	once      sync.Once
	written   atomic.Int64
	rest      []byte
}

func (f *feed) Read(b []byte) (int, error) {
	switch {
	case len(f.rest) > 0:
	case len(f.preamble) > 0:
		f.rest, f.preamble = f.preamble, nil
	case f.left <= 0:
		return 0, io.EOF
	default:
		<-f.granted
		n := min(f.perRead, f.left)
		for i := range n {
			be.PutUint32(f.transfers[i*f.size+f.idAt:], f.id)
			f.id++
		}
		f.left -= n
		f.rest = f.transfers[:n*f.size]
	}
	n := copy(b, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func (f *feed) Write(b []byte) (int, error) {
	f.written.Add(int64(len(b)))
	f.once.Do(func() { close(f.granted) })
	return len(b), nil
}
func (f *feed) Close() error                     { return nil }
func (f *feed) SetDeadline(time.Time) error      { return nil }
func (f *feed) SetReadDeadline(time.Time) error  { return nil }
func (f *feed) SetWriteDeadline(time.Time) error { return nil }

func newFeed(b testing.TB, n, perRead int) *feed {
	one := frp(0, descTransfer, telemetryPayload(b), uint32(0), uint32(1<<30), []byte("0123456789abcdef"), uint32(0), false)
	at := bytes.Index(one, []byte{codeUint, 0x40, 0, 0, 0}) + 1
	if at == 0 {
		b.Fatalf("no delivery-id in %x", one)
	}
	f := &feed{size: len(one), idAt: at, perRead: perRead, left: n, granted: make(chan struct{})}
	f.transfers = bytes.Repeat(one, perRead)
	f.preamble = bytes.Join([][]byte{amqpHeader, fr(0, descOpen, "bench"), begin(0), attachSender("l", 0)}, nil)
	return f
}

type accepter struct{ testing.TB }

func (accepter) SASL(string, []byte) SASLCode    { return SASLOK }
func (accepter) Open(*Conn, *Open) *Error        { return nil }
func (accepter) SessionEnded(*Session)           {}
func (accepter) Closed(*Conn, error)             {}
func (accepter) Detached(*Link, *Error)          {}
func (accepter) Receive(l *Link, d *Delivery)    { d.Accept() }
func (n accepter) Attach(l *Link) (Node, *Error) { return n, nil }

// BenchmarkReceive is the engine's share of receiving and accepting a message: frames in memory, no socket.
func BenchmarkReceive(b *testing.B) {
	for _, perRead := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("%d-per-read", perRead), func(b *testing.B) {
			b.ReportAllocs()
			defer reportCPU(b)()
			f := newFeed(b, b.N, perRead)
			cfg := Config{CreditWindow: 1 << 31, MaxUnsettledPerLink: 1 << 31, IncomingWindow: 1 << 31}
			b.ResetTimer()
			if err := NewServer(cfg).ServeConn(f, accepter{b}); !errors.Is(err, io.EOF) {
				b.Fatal(err)
			}
		})
	}
}

// sendFeed is a client in memory that grants credit and swallows what it is sent; it hangs up when told.
type sendFeed struct {
	feed
	hangUp chan struct{}
}

func (f *sendFeed) Read(b []byte) (int, error) {
	if len(f.preamble) > 0 || len(f.rest) > 0 {
		return f.feed.Read(b)
	}
	<-f.hangUp
	return 0, io.EOF
}

// BenchmarkSend is the engine's share of sending a message of 256 bytes: no socket.
func BenchmarkSend(b *testing.B) {
	b.ReportAllocs()
	defer reportCPU(b)()
	f := &sendFeed{hangUp: make(chan struct{})}
	f.granted = make(chan struct{})
	f.preamble = bytes.Join([][]byte{amqpHeader, fr(0, descOpen, "bench"), begin(0), attachReceiver("l", 0, 0), grant(0, 1<<32-1, 0, 1<<32-1)}, nil)
	p := newTestPeer()
	flowed := make(chan *Link, 100)
	p.attach = func(*Link) (Node, *Error) { return pusher{flowed}, nil }
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewServer(Config{}).ServeConn(f, p)
	}()
	l := <-flowed
	payload, tag := make([]byte, 256), make([]byte, 16)
	b.ResetTimer()
	for range b.N {
		for {
			_, err := l.Send(tag, 0, payload, true)
			if err == nil {
				break
			}
			<-flowed // busy: wait for room
		}
	}
	b.StopTimer()
	close(f.hangUp)
	<-done
}

type pusher struct{ flowed chan *Link }

func (n pusher) Flow(l *Link, _ uint32, _ bool)                   { n.flowed <- l }
func (pusher) Settled(*Link, uint32, []byte, DeliveryState, bool) {}
func (pusher) Detached(*Link, *Error)                             {}

// BenchmarkIdleConnection reports the memory the engine holds for a connection with one session and two links, socket and
// goroutine stack apart.
func BenchmarkIdleConnection(b *testing.B) {
	feeds := make([]*sendFeed, b.N)
	var wg sync.WaitGroup
	server := NewServer(Config{})
	ready := make(chan struct{}, b.N)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range feeds {
		f := &sendFeed{hangUp: make(chan struct{})}
		f.granted = ready
		f.once.Do(func() {})
		f.preamble = bytes.Join([][]byte{amqpHeader, fr(0, descOpen, "bench"), begin(0), attachSender("s", 0), attachSender("r", 1)}, nil)
		feeds[i] = f
		wg.Add(1)
		go func() {
			defer wg.Done()
			server.ServeConn(f, accepter{b})
		}()
	}
	for _, f := range feeds {
		for f.written.Load() == 0 {
			runtime.Gosched()
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(b.N), "B/conn")
	b.ReportMetric(float64(after.StackInuse-before.StackInuse)/float64(b.N), "stack-B/conn")
	for _, f := range feeds {
		close(f.hangUp)
	}
	wg.Wait()
}
