package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
			for j := range c.targets {
				t := c.targets[(j+round)%len(c.targets)] // nobody is always the first
				if err := ctx.Err(); err != nil {
					return err
				}
				cost, err := c.run(t, b.messages)
				if err != nil {
					return fmt.Errorf("%s, %s, %s: %w", c.group, c.load.name, t.name, err)
				}
				b.report.cost(c.group, c.load.name, t.name, cost)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d done\n", round+1, b.rounds)
	}
	return nil
}

// spent is CPU time for each acknowledged message, in microseconds.
type spent struct{ server, client float64 }

// run sends about n messages and returns what each of them cost.
func (c *benchCase) run(t target, n int) (spent, error) {
	var r *reader
	if t.read != nil {
		var err error
		if r, err = t.read(loadLimit); err != nil {
			return spent{}, err
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
		return spent{}, err
	}
	if _, err := c.send(senders, r, c.conns*c.load.window); err != nil { // warms up
		return spent{}, err
	}
	return spending(t.process, func() (int, error) { return c.send(senders, r, n) })
}

// spending returns what each message that send sends costs the server and this process.
func spending(server *process, send func() (int, error)) (spent, error) {
	client := &process{pid: os.Getpid()}
	before, err := server.cpu()
	if err != nil {
		return spent{}, err
	}
	own, err := client.cpu()
	if err != nil {
		return spent{}, err
	}
	sent, err := send()
	if err != nil {
		return spent{}, err
	}
	after, err := server.cpu()
	if err != nil {
		return spent{}, err
	}
	ownAfter, err := client.cpu()
	return spent{micros(after-before) / float64(sent), micros(ownAfter-own) / float64(sent)}, err
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
	stop = func() {
		b.reportMemoryUnderLoad(e)
		_ = e.cleanUp(context.WithoutCancel(ctx))
		for _, p := range servers {
			p.stop()
		}
	}
	if err := e.prepare(ctx, b.beside); err != nil {
		return nil, stop, err
	}
	list = b.waysOf(e, emulatorName)
	if b.against != "" {
		other, err := launch(ctx, b.against, b.address, filepath.Join(b.dir, "kept"))
		if err != nil {
			return nil, stop, err
		}
		servers = append(servers, other.process)
		if err := other.prepare(ctx, b.beside); err != nil {
			return nil, stop, err
		}
		for i, c := range b.waysOf(other, againstName) {
			list[i].targets = append(list[i].targets, c.targets...)
		}
	}
	if b.peers {
		err = b.addPeers(ctx, list, &servers)
	}
	return b.selected(list), stop, err
}

// prepare registers the devices that send, and connects others that are silent.
func (e *emulator) prepare(ctx context.Context, silent int) error {
	if err := e.register(ctx, allDevices+silent); err != nil {
		return err
	}
	e.silent = make([]net.Conn, silent) // until the process ends
	return inParallel(silent, dialWidth, func(i int) (err error) {
		e.silent[i], err = e.connectIdle(allDevices + i)
		return err
	})
}

// addPeers starts the peers and adds them to the cases that they take.
func (b *bench) addPeers(ctx context.Context, list []benchCase, servers *[]*process) error {
	peers, err := b.startPeers(ctx, servers)
	if err != nil {
		return err
	}
	for i := range list {
		list[i].targets = append(list[i].targets, b.peersOf(peers, list[i].group)...)
	}
	return nil
}

// peers are the servers to compare with; a nil one is left out.
type peers struct{ mosquitto, rabbitmq, proton, mochi, mochiWS, floor, gathered, http *peerProcess }

func (b *bench) startPeers(ctx context.Context, servers *[]*process) (p peers, err error) {
	keep := func(started *peerProcess, err error) (*peerProcess, error) {
		if started != nil {
			*servers = append(*servers, started.process)
		}
		return started, err
	}
	if p.mosquitto, err = keep(b.startMosquitto()); errors.Is(err, errNoMosquitto) {
		b.report.Environment.missing(err)
	} else if err != nil {
		return p, err
	}
	if p.rabbitmq, err = keep(b.startRabbitMQ()); errors.Is(err, errNoRabbitMQ) {
		b.report.Environment.missing(err)
	} else if err != nil {
		return p, err
	}
	if p.proton, err = keep(b.startProton(ctx)); errors.Is(err, errNoProton) {
		b.report.Environment.missing(err)
	} else if err != nil {
		return p, err
	}
	if p.mochi, err = keep(b.startPeer("mochi")); err != nil {
		return p, err
	}
	if p.mochiWS, err = keep(b.startPeer("mochi-ws")); err != nil {
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

// The ways to send, as they are called in the report.
const (
	groupMQTT      = "MQTT"
	groupMQTTRead  = "MQTT, one reader of everything"
	groupWebSocket = "MQTT over WebSocket"
	groupAMQP      = "AMQP"
	groupAMQPWS    = "AMQP over WebSocket"
	groupAMQPRead  = "AMQP, one reader of everything"
	groupLinks     = "AMQP, all links on one connection"
	groupHTTPS     = "HTTPS"
	groupHTTPSRead = "HTTPS, one reader of everything"
)

// waysOf is the table of what is measured.
func (b *bench) waysOf(e *emulator, name string) (list []benchCase) {
	add := func(group string, conns int, read bool, dial func(int, time.Duration) (sender, error), loads ...load) {
		t := target{name: name, process: e.process, dial: dial}
		if read {
			t.read = e.readEvents
		}
		for _, l := range loads {
			list = append(list, benchCase{group, l, conns, []target{t}})
		}
	}
	add(groupMQTT, b.conns, false, e.dialMQTT, flood, each, one)
	add(groupMQTTRead, b.conns, true, e.dialMQTT, flood, each, one)
	add(groupWebSocket, b.conns, false, e.dialWebSocket, flood, each, one)
	add(groupAMQP, b.conns, false, e.dialAMQP, flood, each, one)
	add(groupAMQPWS, b.conns, false, e.dialAMQPWebSocket, flood, each, one)
	add(groupAMQPRead, b.conns, true, e.dialAMQP, flood, each, one)
	add(groupLinks, 1, false, e.dialManyLinks(b.conns), flood.times(b.conns), each.times(b.conns))
	add(groupHTTPS, b.conns, false, e.dialHTTPS, one)
	add(groupHTTPSRead, b.conns, true, e.dialHTTPS, one)
	return list
}

// peersOf returns the peers that take what a group sends.
func (b *bench) peersOf(p peers, group string) (list []target) {
	mosquitto := func(read bool, dial func(int, time.Duration) (sender, error)) {
		if p.mosquitto == nil {
			return
		}
		t := target{name: mosquittoName, process: p.mosquitto.process, dial: dial}
		if read {
			t.read = p.mosquitto.readAll(b.peerTLS)
		}
		list = append(list, t)
	}
	amqp := func(name string, server *peerProcess, address string, links int) {
		if server != nil {
			list = append(list, target{name: name, process: server.process, dial: server.dialAMQP(b.peerTLS, address, links)})
		}
	}
	switch group {
	case groupMQTT:
		mosquitto(false, p.mosquitto.dialMQTT(b.peerTLS))
		list = append(list, target{name: mochiName, process: p.mochi.process, dial: p.mochi.dialMQTT(b.peerTLS)},
			target{name: bareName, process: p.floor.process, dial: p.floor.dialMQTT(b.peerTLS)},
			target{name: gatheredName, process: p.gathered.process, dial: p.gathered.dialMQTT(b.peerTLS)})
	case groupMQTTRead:
		mosquitto(true, p.mosquitto.dialMQTT(b.peerTLS))
	case groupWebSocket:
		mosquitto(false, func(i int, limit time.Duration) (sender, error) {
			return dialWebSocket(p.mosquitto.webSocket, "/mqtt", b.peerTLS, mqttLogin{clientID: deviceID(i)}, eventsTopic(i), limit)
		})
		list = append(list, target{name: mochiName, process: p.mochiWS.process, dial: func(i int, limit time.Duration) (sender, error) {
			return dialWebSocket(p.mochiWS.address, "/", b.peerTLS, mqttLogin{clientID: deviceID(i)}, eventsTopic(i), limit)
		}})
	case groupAMQP:
		amqp(rabbitmqName, p.rabbitmq, rabbitmqExchange, 1)
		amqp(protonName, p.proton, protonAddress, 1)
	case groupLinks:
		amqp(rabbitmqName, p.rabbitmq, rabbitmqExchange, b.conns)
		amqp(protonName, p.proton, protonAddress, b.conns)
	case groupHTTPS:
		list = append(list, target{name: netHTTPName, process: p.http.process, dial: func(_ int, limit time.Duration) (sender, error) {
			return dialHTTPS(p.http.address, "/", "none", b.peerTLS, limit)
		}})
	}
	return list
}

// times is the load of n devices that share a connection.
func (l load) times(n int) load { return load{l.name, l.unit, l.window * n} }

// selected leaves the cases that are wanted.
func (b *bench) selected(cases []benchCase) []benchCase {
	return slices.DeleteFunc(cases, func(c benchCase) bool { return !b.wanted(c.group + ", " + c.load.name) })
}

// wanted says whether a name matches the pattern that was asked for, as every name does when none was.
func (b *bench) wanted(name string) bool {
	matched, err := regexp.MatchString(b.pattern, name)
	return matched && err == nil // it was compiled before
}
