package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/hub"
)

const (
	// backendLimit bounds all connections of this part.
	backendLimit = 10 * time.Minute
	// visibleRate is how many messages a second all devices together send where the rate is fixed.
	visibleRate = 1000
	// groupReaders is how many readers without owner level a partition has for one consumer group.
	groupReaders = 5
	// pacedDevices is how many devices send at visibleRate, in turn.
	pacedDevices = 20
)

// measureBackend measures what a back end sees of telemetry: how soon, how much at once, and what it costs the server.
func (b *bench) measureBackend(ctx context.Context) error {
	for _, measure := range []func(context.Context) error{b.measurePace, b.measureVisible, b.measureCatchUp, b.measureRoutes, b.measureUpload} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// audience is who reads while devices send.
type audience struct {
	name    string
	readers int // of partition 0
	stuck   int // readers that ask for everything and never take it
	rate    int // messages a second of all devices; 0: as fast as they go
}

// measureVisible sends to readers of one partition.
func (b *bench) measureVisible(ctx context.Context) error {
	e, err := launch(ctx, b.program, b.address, filepath.Join(b.dir, "kept"), "--consumer-group", "bench1", "--consumer-group", "bench2")
	if err != nil {
		return err
	}
	defer e.stop()
	if err := e.register(ctx, maxConns); err != nil {
		return err
	}
	for _, a := range []audience{
		{"1 reader, 1,000 messages/s", 1, 0, visibleRate}, {"1 reader, as fast as devices can", 1, 0, 0},
		{"no reader, as fast as devices can", 0, 0, 0},
		{"8 readers, 1,000 messages/s", 8, 0, visibleRate}, {"8 readers, as fast as devices can", 8, 0, 0},
		{"8 readers and one that is stuck, 1,000 messages/s", 8, 1, visibleRate}, {"8 readers and one that is stuck, as fast as devices can", 8, 1, 0},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := b.watch(e, a)
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		b.report.Backend = append(b.report.Backend, f)
	}
	return nil
}

// watch measures one audience.
func (b *bench) watch(e *emulator, a audience) (backendFigures, error) {
	f := backendFigures{Name: "MQTT to Event Hubs: " + a.name}
	var delays delays
	var readers []*reader
	defer func() {
		for _, r := range readers {
			r.close()
		}
	}()
	for i := range a.readers + a.stuck {
		what := reading{group: "bench" + strconv.Itoa(1+i/groupReaders), partitions: []int{0}, observe: delays.observe}
		read := e.read
		if i >= a.readers {
			read = e.readNothing
		}
		r, err := read(what, backendLimit)
		if err != nil {
			return f, err
		}
		readers = append(readers, r)
	}
	senders, err := e.stampedSenders(min(b.conns, pacedDevices))
	if err != nil {
		return f, err
	}
	defer closeAll(&senders)
	send := func(n int) (int, error) { return flood.driveAll(senders, n) }
	if a.rate > 0 {
		send = func(n int) (int, error) { return paced(senders, a.rate, n) }
	}
	if err := b.sendTo(readers[:a.readers], func() (int, error) { return flood.driveAll(senders, 1000) }); err != nil { // warms up
		return f, err
	}
	n := b.messages * 5
	if a.rate > 0 {
		n = b.pacedCount()
	}
	delays.forget()
	before, err := e.cpu()
	if err != nil {
		return f, err
	}
	begin := time.Now()
	if err := b.sendTo(readers[:a.readers], func() (sent int, err error) { f.Count, err = send(n); return f.Count, err }); err != nil {
		return f, err
	}
	took := time.Since(begin)
	after, err := e.cpu()
	f.PerSecond, f.CPU = float64(f.Count)/took.Seconds(), micros(after-before)/float64(f.Count)
	f.P50, f.P99 = delays.percentiles()
	return f, err
}

// sendTo sends and waits until each reader has got everything.
func (b *bench) sendTo(readers []*reader, send func() (int, error)) error {
	for _, r := range readers {
		r.reset()
	}
	n, err := send()
	for _, r := range readers {
		if err == nil {
			err = r.await(n)
		}
	}
	return err
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// stuckBuffer is the receive buffer of readers that never read: small, so that they are stuck soon.
const stuckBuffer = 64 << 10

// readNothing is a reader that asks for everything and never reads its socket.
func (e *emulator) readNothing(what reading, limit time.Duration) (*reader, error) {
	what.credit = 1 << 30
	nc, err := dialTLS(e.address("amqp"), e.tls, limit)
	if err != nil {
		return nil, err
	}
	if tcp, ok := nc.NetConn().(*net.TCPConn); ok {
		if err := tcp.SetReadBuffer(stuckBuffer); err != nil {
			_ = nc.Close()
			return nil, err
		}
	}
	if _, err := e.attachPartitions(nc, what); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return startReader(nc, func(func(int)) error { return nil }), nil
}

// delays are how long messages took from a device to a reader.
type delays struct {
	mu    sync.Mutex
	times []float64 // microseconds
}

var stampMark = []byte(`{"t":"`)

// stampDigits is how many digits the time of sending has, in nanoseconds.
const stampDigits = 19

// observe takes a message that has come.
func (d *delays) observe(payload []byte) {
	now := time.Now().UnixNano()
	at := bytes.Index(payload, stampMark)
	if at < 0 || at+len(stampMark)+stampDigits > len(payload) {
		return
	}
	sent, err := strconv.ParseInt(string(payload[at+len(stampMark):][:stampDigits]), 10, 64)
	if err != nil {
		return
	}
	d.add(time.Duration(now - sent))
}

func (d *delays) add(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.times = append(d.times, micros(t))
}

func (d *delays) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.times = nil
}

func (d *delays) percentiles() (p50, p99 float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.times)
	return percentile(d.times, 50), percentile(d.times, 99)
}

// stampedSender writes the time into each message.
type stampedSender struct {
	*mqttSender
	at int // where it stands in a packet
}

func (s stampedSender) send(n int) error {
	now := strconv.AppendInt(nil, time.Now().UnixNano(), 10)
	for i := range n {
		copy(s.burst[i*s.size+s.at:], now)
	}
	return s.mqttSender.send(n)
}

// stampedSenders connects devices whose events belong to partition 0.
func (e *emulator) stampedSenders(n int) ([]sender, error) {
	var senders []sender
	for i := 0; i < e.registered && len(senders) < n; i++ {
		if hub.PartitionOf(deviceID(i), e.partitions) != 0 {
			continue
		}
		l, err := e.login(i)
		if err != nil {
			return senders, err
		}
		s, err := dialMQTT(e.address("mqtt"), e.tls, l, eventsTopic(i), backendLimit)
		if err != nil {
			return senders, err
		}
		m := s.(*mqttSender)
		at := m.size - bodySize
		for i := range maxBurst {
			b := m.burst[i*m.size+at:]
			copy(b[copy(b, stampMark)+stampDigits:], `","pad":"`)
		}
		senders = append(senders, stampedSender{m, at + len(stampMark)})
	}
	return senders, nil
}

// paced has all senders together send n messages at a rate, each of them one after the other; it returns how many were acknowledged.
func paced(senders []sender, rate, n int) (int, error) {
	interval := time.Duration(len(senders)) * time.Second / time.Duration(rate)
	share := n / len(senders)
	begin := time.Now()
	err := inParallel(len(senders), len(senders), func(i int) error {
		next := begin.Add(interval * time.Duration(i) / time.Duration(len(senders)))
		for range share {
			time.Sleep(time.Until(next))
			next = next.Add(interval)
			if _, err := one.drive(senders[i], 1); err != nil {
				return err
			}
		}
		return nil
	})
	return share * len(senders), err
}

// measureCatchUp stores events, and reads them all from the first on.
func (b *bench) measureCatchUp(ctx context.Context) error {
	retain := b.stored*(bodySize+1024)>>20 + 64
	e, err := launch(ctx, b.program, b.address, filepath.Join(b.dir, "kept"), "--retain", strconv.Itoa(retain), "--consumer-group", "bench")
	if err != nil {
		return err
	}
	defer e.stop()
	if err := e.register(ctx, b.conns); err != nil {
		return err
	}
	n, err := e.store(b.conns, b.stored)
	if err != nil {
		return err
	}
	for _, readers := range []int{1, groupReaders} {
		f, err := e.catchUp(n, readers)
		if err != nil {
			return fmt.Errorf("catch-up: %w", err)
		}
		b.report.Backend = append(b.report.Backend, f)
	}
	return nil
}

// store sends about n messages over MQTT.
func (e *emulator) store(conns, n int) (int, error) {
	senders := make([]sender, conns)
	for i := range senders {
		s, err := e.dialMQTT(i, backendLimit)
		if err != nil {
			return 0, err
		}
		defer s.close()
		senders[i] = s
	}
	return flood.driveAll(senders, n)
}

// catchUp has some readers read all n events at once.
func (e *emulator) catchUp(n, readers int) (backendFigures, error) {
	f := backendFigures{Name: fmt.Sprintf("catch-up of %d events, all partitions, readers: %d", n, readers), Count: n * readers}
	before, err := e.cpu()
	if err != nil {
		return f, err
	}
	begin := time.Now()
	err = inParallel(readers, readers, func(int) error {
		r, err := e.read(reading{group: "bench", earliest: true}, backendLimit)
		if err != nil {
			return err
		}
		defer r.close()
		return r.await(n)
	})
	took := time.Since(begin)
	if err != nil {
		return f, err
	}
	after, err := e.cpu()
	f.PerSecond, f.CPU = float64(f.Count)/took.Seconds(), micros(after-before)/float64(f.Count)
	return f, err
}

// measureRoutes sends telemetry past routes, one set after the other in each round.
func (b *bench) measureRoutes(ctx context.Context) error {
	e, err := launch(ctx, b.program, b.address, filepath.Join(b.dir, "kept"))
	if err != nil {
		return err
	}
	defer e.stop()
	if err := e.register(ctx, b.conns); err != nil {
		return err
	}
	senders := make([]sender, b.conns)
	for i := range senders {
		s, err := e.dialTyped(i)
		if err != nil {
			return err
		}
		defer s.close()
		senders[i] = s
	}
	cases := []struct {
		name       string
		conditions []string
	}{
		{"no routes", nil},
		{"1 route, true", []string{"true"}},
		{"1 route, a property", []string{"door = 'x'"}},
		{"10 routes, a property each", repeated("door = 'x'", 10)},
		{"1 route, $body", []string{"$body.temperature > 100"}},
		{"10 routes, $body each", repeated("$body.temperature > 100", 10)},
	}
	costs := make([]series, len(cases))
	for range b.rounds {
		for i, c := range cases {
			if err := e.route(ctx, c.conditions); err != nil {
				return err
			}
			micros, err := e.floodCost(senders, b.messages)
			if err != nil {
				return err
			}
			costs[i].add(micros)
		}
	}
	for i, c := range cases {
		b.report.Backend = append(b.report.Backend, backendFigures{Name: "MQTT flood, " + c.name, Count: b.messages * b.rounds, CPU: costs[i].Median})
	}
	return nil
}

func repeated(condition string, n int) []string {
	return slices.Repeat([]string{condition}, n)
}

// floodCost is the server's CPU time per message, in microseconds.
func (e *emulator) floodCost(senders []sender, n int) (float64, error) {
	before, err := e.cpu()
	if err != nil {
		return 0, err
	}
	sent, err := flood.driveAll(senders, n)
	if err != nil {
		return 0, err
	}
	after, err := e.cpu()
	return micros(after-before) / float64(sent), err
}

// dialTyped connects a device whose messages say that they are JSON, as $body conditions want it.
func (e *emulator) dialTyped(i int) (sender, error) {
	l, err := e.login(i)
	if err != nil {
		return nil, err
	}
	return dialMQTT(e.address("mqtt"), e.tls, l, eventsTopic(i)+"$.ct=application%2Fjson&$.ce=utf-8&door=y", backendLimit)
}

// route gives the hub one route to the built-in endpoint for each condition.
func (e *emulator) route(ctx context.Context, conditions []string) error {
	routes := make([]string, len(conditions))
	for i, c := range conditions {
		routes[i] = fmt.Sprintf(`{"name":"r%d","source":"DeviceMessages","condition":%q,"endpointNames":["events"],"isEnabled":true}`, i, c)
	}
	return e.put(ctx, "http://"+e.control+"/iolite/v1/routing", `{"routes":[`+strings.Join(routes, ",")+`]}`)
}

func (e *emulator) put(ctx context.Context, url, body string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	_, err = do(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, request)
	return err
}
