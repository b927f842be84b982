package broker

import (
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
	"github.com/iolite-emulator/iolite/hub"
)

// full is a JSON text of the largest payload of a direct method.
func full() string { return `"` + strings.Repeat("x", 128<<10-2) + `"` }

// A client that does not read costs no more than maxBacklog, however many direct methods are called on it. The calls end with its
// connection, long before it would count as slow by the time it takes; another device notices nothing.
func TestDirectMethodsThatPileUpCutTheClient(t *testing.T) {
	r := newRig(t)
	c := r.pipe()
	c.hello("d1")
	c.subscribe(0, methodsFilter)
	other := r.connect("d2")
	other.subscribe(0, methodsFilter)
	const calls = maxBacklog/(128<<10) + 1
	var calling sync.WaitGroup
	for range calls {
		calling.Go(func() {
			if _, err := r.invoke(device("d1"), "flood", full()); errorCode(err) != hub.CodeConnectionClosed {
				t.Error(err)
			}
		})
	}
	calling.Wait()
	r.expectRule("slow-consumer")
	done := r.invokeLater(device("d2"), "reboot", "")
	other.expectPublish("$iothub/methods/POST/reboot/?$rid=1")
	other.send(telemetry("$iothub/methods/res/200/?$rid=1", 0, ""))
	if got := <-done; got.err != nil {
		t.Error(got.err)
	}
}

// The same for desired properties: back ends that change them do not wait for the device.
func TestDesiredChangesThatPileUpCutTheClient(t *testing.T) {
	r := newRig(t)
	c := r.pipe()
	c.hello("d1")
	c.subscribe(0, desiredFilter)
	patch := "{" + members(7, 4000) + "}"
	for range maxBacklog/len(patch) + 10 { // those behind the last one that fits find nobody
		r.desire(device("d1"), patch)
	}
	r.expectRule("slow-consumer")
	r.eventually("the end of the session", func() bool { return len(r.hub.Connections()) == 0 })
}

// What the client has read no longer counts: a client that reads gets more than could ever wait for it at once.
func TestAClientThatReadsIsNotCutByWhatWasPushed(t *testing.T) {
	r := newRig(t)
	c := r.connect("d1")
	c.subscribe(0, desiredFilter)
	patch, version := "{"+members(7, 4000)+"}", 1
	for range 3 {
		_ = c.conn.SetDeadline(clock.Wall().Add(patient)) // of each round: that much takes its time on a busy machine
		for range maxBacklog / 2 / len(patch) {
			r.desire(device("d1"), patch)
		}
		for range maxBacklog / 2 / len(patch) {
			version++
			c.expectPublish("$iothub/twin/PATCH/properties/desired/?$version=" + strconv.Itoa(version))
		}
	}
}

// Answers wait for the client: who asks for his twin without reading is no longer read from, and then cut.
func TestAClientThatReadsNoTwinIsCut(t *testing.T) {
	r := newRig(t, impatient(connectTimeout, 500*time.Millisecond))
	r.desire(device("d1"), "{"+members(7, 4000)+"}")
	c := r.pipe()
	c.hello("d1")
	c.subscribe(0, twinFilter)
	request, sent := encode(t, get("1")), 0
	for {
		if _, err := c.conn.Write(request); err != nil {
			break
		}
		sent++
	}
	r.expectRule("slow-consumer")
	// One chunk hangs in the write, another one waits with one answer too many, and the inbox holds what was read with the last request.
	if most := (2*highWater+28000)/28000 + 2; sent > most {
		t.Errorf("%d requests were taken from a client that does not read, want at most %d", sent, most)
	}
}

// The same where the reader writes the answers itself: it waits for the client within a read, and the end of the connection comes from elsewhere.
func TestAClientThatReadsNoTwinIsCutOnTCP(t *testing.T) {
	r := newRig(t, impatient(connectTimeout, 500*time.Millisecond))
	r.desire(device("d1"), "{"+members(7, 4000)+"}")
	c := r.connect("d1")
	c.subscribe(0, twinFilter)
	request := encode(t, get("1"))
	for {
		if _, err := c.conn.Write(request); err != nil {
			break
		}
	}
	r.expectRule("slow-consumer")
	r.eventually("the end of the session", func() bool { return len(r.hub.Connections()) == 0 })
}

// pacer is a connection that is always at rest, and knows its read deadline.
type pacer struct {
	net.Conn
	deadline time.Time
	set      int
}

func (p *pacer) SetReadDeadline(t time.Time) error {
	p.deadline = t
	p.set++
	return nil
}

func (p *pacer) Read([]byte) (int, error) { return 0, nil }

// A deadline is set for few packets only, and yet none comes before the packet's patience has passed, or much later.
func TestReadDeadlinesAreSeldomSetAndNeverEarly(t *testing.T) {
	p := new(pacer)
	var s stream
	s.init(door.Wrap(p, door.MQTT), 20*time.Second, time.Minute)
	read := func(patience time.Duration) {
		t.Helper()
		before := clock.Wall()
		s.rearm = true
		if _, err := s.read(nil); err != nil {
			t.Fatal(err)
		}
		if early, late := before.Add(patience), clock.Wall().Add(patience+maxSlack); p.deadline.Before(early) || p.deadline.After(late) {
			t.Errorf("the deadline is %v after the read began, want %v", p.deadline.Sub(before), patience)
		}
	}
	read(20 * time.Second)
	for range 1000 {
		read(20 * time.Second)
	}
	if p.set > 100 {
		t.Errorf("%d deadlines for 1,000 packets", p.set)
	}
	s.wait(time.Hour) // a CONNECT with a long keep-alive
	read(time.Hour)
	s.wait(time.Second) // and with a short one
	read(time.Second)
	set := p.set
	if _, err := s.read(nil); err != nil || p.set != set {
		t.Error("a part of a packet moved its deadline")
	}
}

// A client that sends faster than it is served, so that there is always more to read, is answered all the same.
func TestAReaderThatNeverWaitsAnswersAllTheSame(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, c := range []net.Conn{client, server} {
		_ = c.SetDeadline(clock.Wall().Add(patient))
	}
	const answer = "an answer"
	_ = client.(*net.TCPConn).SetWriteBuffer(4 * maxUnrested) // all is there before the first read
	if _, err := client.Write(make([]byte, 2*maxUnrested)); err != nil {
		t.Fatal(err)
	}
	var s stream
	s.init(door.Wrap(server, door.MQTT), patient, patient)
	if err := s.send([]byte(answer)); err != nil {
		t.Fatal(err)
	}
	for read, p := 0, make([]byte, 4<<10); read < maxUnrested+2*len(p); {
		n, err := s.read(p)
		if err != nil {
			t.Fatal(err)
		}
		read += n
	}
	got := make([]byte, len(answer))
	if _, err := io.ReadFull(client, got); err != nil || string(got) != answer {
		t.Errorf("the client got %q, %v", got, err)
	}
}

// torrent is a connection whose peer always has more to say.
type torrent struct {
	pacer
	written chan string
}

func (*torrent) Read(p []byte) (int, error) { return len(p), nil }

func (*torrent) SetWriteDeadline(time.Time) error { return nil }

func (*torrent) Close() error { return nil }

func (c *torrent) Write(p []byte) (int, error) {
	c.written <- string(p)
	return len(p), nil
}

// Gigabytes that asked for no answer do not make the next one wait.
func TestAnAnswerAfterAFloodComesLikeAnyOther(t *testing.T) {
	c := &torrent{written: make(chan string, 1)}
	var s stream
	s.init(door.Wrap(c, door.MQTT), patient, patient)
	s.tells = true
	read := func(bytes, atOnce int) {
		t.Helper()
		for p := make([]byte, atOnce); bytes > 0; bytes -= atOnce {
			if _, err := s.read(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	read(2<<30, 1<<20)
	if err := s.send([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	read(maxUnrested+1024, 1024)
	select {
	case got := <-c.written:
		if got != "answer" {
			t.Errorf("%q", got)
		}
	case <-time.After(patient):
		t.Error("no answer")
	}
	s.close()
	<-s.done
}
