package amqpsrv

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
	"github.com/iolite-emulator/iolite/store"
)

// crowd is a hub with one partition and events of one device in it.
type crowd struct {
	*rig
	session  *hub.DeviceSession
	messages []hub.Telemetry
}

// newCrowd makes a hub that sends messages with bodies of that many bytes, in batches.
func newCrowd(t testing.TB, body, batch int, bytes int64) *crowd {
	c := &crowd{rig: newRig(t, rigOptions{engine: store.NewMemory(store.MemoryOptions{Partitions: 1, EventBytes: bytes})})}
	key := c.device("d1")
	p, err := c.hub.Authenticate(c.ctx(), hub.Credential{Token: c.deviceToken(key, time.Hour)}, store.Key{})
	c.must(err)
	c.session, err = c.hub.OpenDevice(c.ctx(), p, key, hub.DeviceOptions{})
	c.must(err)
	m := hub.Telemetry{SystemProperties: store.SystemProperties{MessageID: "123e4567-e89b-12d3-a456-426614174000", ContentType: "application/json", ContentEncoding: "utf-8"},
		Properties: []store.Property{{Name: "temperatureAlert", Value: "false"}, {Name: "level", Value: "normal"}}, Body: make([]byte, body)}
	for range batch {
		c.messages = append(c.messages, m)
	}
	for _, group := range []string{"a", "b", "c", "d", "e"} {
		c.must(c.hub.Admin().PutConsumerGroup(c.ctx(), "", group))
	}
	return c
}

// publish stores n batches.
func (c *crowd) publish(n int) {
	c.t.Helper()
	for range n {
		c.must(c.session.SendTelemetry(c.t.Context(), c.messages...))
	}
}

// tap is a reader that only counts what comes.
type tap struct {
	conn net.Conn
	r    *bufio.Reader
}

// tap attaches a reader with credit for everything there will ever be.
func (c *crowd) tap(group, selector string, credit uint32) *tap {
	c.t.Helper()
	conn := c.dial()
	r := rawOpen(c.t, conn, 65536)
	const window = math.MaxInt32
	r.send(0, performBegin, nil, nil, uint32(0), uint32(window), uint32(5000))
	r.ours[0] = r.expect(performBegin).channel
	r.cbsPair(0, 0)
	r.putOn(0, 0, 0, c.policyToken("localhost", "service", time.Hour))
	from := amqp10.Described{Descriptor: uint64(describedSource), Value: amqp10.List{"iolite/ConsumerGroups/" + group + "/Partitions/0", nil, nil, nil, nil, nil, nil,
		amqp10.Map{{Key: amqp10.Symbol(selectorFilter), Value: amqp10.Described{Descriptor: amqp10.Symbol(selectorFilter), Value: "amqp.annotation.x-opt-offset > '" + selector + "'"}}}}}
	r.send(0, performAttach, nil, "events", uint32(2), true, uint8(amqp10.SndSettled), uint8(0), from, target("t"))
	if f := r.expect(performAttach); f.field(5) == nil {
		c.t.Fatalf("refused: %v", r.expect(performDetach).fields)
	}
	r.send(0, performFlow, nil, uint32(1), uint32(window), uint32(1), uint32(5000), uint32(2), uint32(0), credit)
	c.must(conn.SetDeadline(time.Time{}))
	return &tap{conn, bufio.NewReaderSize(conn, 256<<10)}
}

// count reads until n events have come, each in a frame of its own, and returns how many bytes that took.
func (t *tap) count(n int) (octets int64, err error) {
	for n > 0 {
		head, err := t.r.Peek(8)
		if err != nil {
			return octets, err
		}
		size := int(binary.BigEndian.Uint32(head))
		start, err := t.r.Peek(min(size, 11)) // head is not valid any more
		if err != nil {
			return octets, err
		}
		if size > 10 && start[10] == performTransfer {
			n--
		}
		if _, err := t.r.Discard(size); err != nil {
			return octets, err
		}
		octets += int64(size)
	}
	return octets, nil
}

// A reader that does not read its socket, and one that grants no credit, cost memory that does not depend on how much there is to
// read, and the others get everything meanwhile.
func TestReadersThatDoNotReadCostLittleAndSlowNobody(t *testing.T) {
	c := newCrowd(t, 30<<10, 8, 256<<20)
	const stored, later, idle = 200, 100, 20 // batches of 240 KiB: 47 MiB and 23 MiB
	c.publish(stored)
	before := heapInUse()
	for i := range idle {
		credit := uint32(math.MaxInt32)
		if i%2 == 0 {
			credit = 0
		}
		c.tap([]string{"a", "b", "c", "d"}[i%4], "-1", credit)
	}
	reader := c.tap("e", "-1", math.MaxInt32)
	if _, err := reader.count(stored * len(c.messages)); err != nil {
		t.Fatal(err)
	}
	// What an output buffer holds at most, and the events that a reader has read ahead, which point into the log.
	const each = 2 << 20
	if grown := heapInUse() - before; grown > (idle+1)*each {
		t.Errorf("%d readers cost %d KiB each", idle+1, grown/(idle+1)>>10)
	}
	c.publish(later)
	if _, err := reader.count(later * len(c.messages)); err != nil {
		t.Fatal(err)
	}
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkCatchUp reads a million stored events of 256 bytes from the beginning, through a socket.
func BenchmarkCatchUp(b *testing.B) {
	const events, batch = 1_000_000, 500
	c := newCrowd(b, 256, batch, 2<<30)
	c.publish(events / batch)
	for _, readers := range []int{1, 2} {
		b.Run(fmt.Sprint("readers=", readers), func(b *testing.B) {
			var octets int64
			b.ReportAllocs()
			for range b.N {
				octets = readAll(b, c, readers, events)
			}
			total := float64(b.N) * float64(readers) * events
			b.ReportMetric(total/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/total, "ns/event")
			b.ReportMetric(float64(octets)/events, "wire-B/event")
		})
	}
}

// readAll has several readers read everything.
func readAll(b *testing.B, c *crowd, readers, events int) (octets int64) {
	b.Helper()
	done := make(chan error, readers)
	for i := range readers {
		t := c.tap([]string{"a", "b"}[i%2], "-1", math.MaxInt32)
		go func() {
			n, err := t.count(events)
			if i == 0 {
				octets = n
			}
			_ = t.conn.Close()
			done <- err
		}()
	}
	for range readers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	return octets
}

// BenchmarkFanOut publishes events of 256 bytes while readers of one partition follow; with a reader beside them that never reads its
// socket, the numbers must be the same.
func BenchmarkFanOut(b *testing.B) {
	for _, readers := range []int{1, 8} {
		for _, slow := range []bool{false, true} {
			b.Run("readers="+strconv.Itoa(readers)+",slow="+strconv.FormatBool(slow), func(b *testing.B) { benchmarkFanOut(b, readers, slow) })
		}
	}
}

func benchmarkFanOut(b *testing.B, readers int, slow bool) {
	c := newCrowd(b, 256, 1, 1<<30)
	taps := make([]*tap, readers)
	for i := range taps {
		taps[i] = c.tap([]string{"a", "b"}[i%2], "@latest", math.MaxInt32)
	}
	if slow {
		c.tap("c", "@latest", math.MaxInt32)
	}
	c.publish(1) // whoever is not there yet would miss some
	for _, t := range taps {
		if _, err := t.count(1); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	done := make(chan error, readers)
	for _, t := range taps {
		go func() {
			_, err := t.count(b.N)
			done <- err
		}()
	}
	c.publish(b.N)
	for range taps {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s/reader")
}
