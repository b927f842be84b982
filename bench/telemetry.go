package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"time"
)

// benchCase is one way to send telemetry, to several servers in turn.
type benchCase struct {
	group   string
	load    load
	conns   int
	targets []target
}

// loadLimit bounds one run of one case.
const loadLimit = time.Minute

// measureTelemetry runs every case against each of its servers in turn, round after round, so that whatever else the machine does meets
// all of them alike.
func (b *bench) measureTelemetry(ctx context.Context) error {
	cases, stop, err := b.cases(ctx)
	defer stop()
	if err != nil {
		return err
	}
	for round := range b.rounds {
		for i := range cases {
			c := &cases[i]
			for _, t := range c.targets {
				if err := ctx.Err(); err != nil {
					return err
				}
				micros, err := c.run(t, b.messages)
				if err != nil {
					return fmt.Errorf("%s, %s, %s: %w", c.group, c.load.name, t.name, err)
				}
				b.report.cost(c.group, c.load.name, t.name, micros)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d done\n", round+1, b.rounds)
	}
	return nil
}

// run sends about n messages and returns the server's CPU time for each, in microseconds.
func (c *benchCase) run(t target, n int) (float64, error) {
	var r *reader
	if t.read != nil {
		var err error
		if r, err = t.read(loadLimit); err != nil {
			return 0, err
		}
		defer r.close()
	}
	senders := make([]sender, c.conns)
	defer func() {
		for _, s := range senders {
			if s != nil {
				s.close()
			}
		}
	}()
	if err := inParallel(c.conns, 8, func(i int) (err error) {
		senders[i], err = t.dial(i, loadLimit)
		return err
	}); err != nil {
		return 0, err
	}
	if _, err := c.send(senders, r, c.conns*c.load.window); err != nil { // warms up
		return 0, err
	}
	before, err := t.cpu()
	if err != nil {
		return 0, err
	}
	sent, err := c.send(senders, r, n)
	if err != nil {
		return 0, err
	}
	after, err := t.cpu()
	return float64((after - before).Nanoseconds()) / 1000 / float64(sent), err
}

// send sends about n messages and returns when all are acknowledged, and read if there is a reader.
func (c *benchCase) send(senders []sender, r *reader, n int) (int, error) {
	if r != nil {
		r.reset()
	}
	sent, err := c.load.driveAll(senders, n)
	if err == nil && r != nil {
		err = r.await(sent)
	}
	return sent, err
}

// cases starts the servers. stop ends them and is never nil.
func (b *bench) cases(ctx context.Context) (list []benchCase, stop func(), err error) {
	var servers []*process
	stop = func() {
		for _, p := range servers {
			p.stop()
		}
	}
	e, err := b.emulator(ctx)
	if err != nil {
		return nil, stop, err
	}
	servers = append(servers, e.process)
	if err := e.register(ctx, allDevices); err != nil {
		return nil, stop, err
	}
	stop = func() {
		b.reportMemoryUnderLoad(e)
		_ = e.cleanUp(context.WithoutCancel(ctx))
		for _, p := range servers {
			p.stop()
		}
	}
	peers := peers{}
	if b.peers {
		peers, err = b.startPeers(&servers)
	}
	return b.selected(b.allCases(e, peers)), stop, err
}

// peers are the servers to compare with; a nil one is left out.
type peers struct{ mosquitto, floor, gathered, http *peerProcess }

func (b *bench) startPeers(servers *[]*process) (p peers, err error) {
	keep := func(started *peerProcess, err error) (*peerProcess, error) {
		if started != nil {
			*servers = append(*servers, started.process)
		}
		return started, err
	}
	if p.mosquitto, err = keep(b.startMosquitto()); err == errNoMosquitto {
		fmt.Fprintln(os.Stderr, err)
	} else if err != nil {
		return p, err
	}
	if p.floor, err = keep(b.startPeer("mqtt")); err != nil {
		return p, err
	}
	if p.gathered, err = keep(b.startPeer("gathered")); err != nil {
		return p, err
	}
	p.http, err = keep(b.startPeer("http"))
	return p, err
}

// allCases is the table of what is measured.
func (b *bench) allCases(e *emulator, p peers) []benchCase {
	of := func(dial func(int, time.Duration) (sender, error)) target {
		return target{name: emulatorName, process: e.process, dial: dial}
	}
	mqtt := []target{of(e.dialMQTT)}
	webSocket := []target{of(e.dialWebSocket)}
	read := []target{withReader(of(e.dialMQTT), e.readEvents)}
	https := []target{of(e.dialHTTPS)}
	if p.mosquitto != nil {
		m := p.mosquitto.mqttTarget("mosquitto", b.peerTLS)
		mqtt, read = append(mqtt, m), append(read, withReader(m, p.mosquitto.readAll(b.peerTLS)))
		m.dial = func(i int, limit time.Duration) (sender, error) {
			return dialWebSocket(p.mosquitto.webSocket, "/mqtt", b.peerTLS, mqttLogin{clientID: deviceID(i)}, eventsTopic(i), limit)
		}
		webSocket = append(webSocket, m)
	}
	if p.floor != nil {
		mqtt = append(mqtt, p.floor.mqttTarget("bare Go", b.peerTLS), p.gathered.mqttTarget("bare Go, gathered", b.peerTLS))
		https = append(https, target{name: "bare net/http", process: p.http.process, dial: func(_ int, limit time.Duration) (sender, error) {
			return dialHTTPS(p.http.address, "/", "none", b.peerTLS, limit)
		}})
	}
	amqp := []target{of(e.dialAMQP)}
	links := []target{of(e.dialManyLinks(b.conns))}
	var list []benchCase
	add := func(group string, conns int, targets []target, loads ...load) {
		for _, l := range loads {
			list = append(list, benchCase{group, l, conns, targets})
		}
	}
	add("MQTT", b.conns, mqtt, flood, each, one)
	add("MQTT, one reader of everything", b.conns, read, flood, each, one)
	add("MQTT over WebSocket", b.conns, webSocket, flood, each, one)
	add("AMQP", b.conns, amqp, flood, each, one)
	add("AMQP, one reader of everything", b.conns, []target{withReader(amqp[0], e.readEvents)}, flood, each, one)
	add(fmt.Sprintf("AMQP, %d links on one connection", b.conns), 1, links, flood.times(b.conns), each.times(b.conns))
	add("HTTPS", b.conns, https, one)
	add("HTTPS, one reader of everything", b.conns, []target{withReader(https[0], e.readEvents)}, one)
	return list
}

// times is the load of n devices that share a connection.
func (l load) times(n int) load { return load{l.name, l.unit, l.window * n} }

func withReader(t target, read func(time.Duration) (*reader, error)) target {
	t.read = read
	return t
}

// selected leaves the cases whose "group, load" matches the pattern that was asked for.
func (b *bench) selected(cases []benchCase) []benchCase {
	if b.pattern == "" {
		return cases
	}
	pattern := regexp.MustCompile(b.pattern)
	var list []benchCase
	for _, c := range cases {
		if pattern.MatchString(c.group + ", " + c.load.name) {
			list = append(list, c)
		}
	}
	return list
}
