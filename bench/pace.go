package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// The rows of what is sent at visibleRate. pacedLoopbackName is the least that a round trip takes at that rate: between two messages,
// threads and processors sleep, which round trips without a pause never let them.
const (
	pacedPrefix       = "1,000 messages/s: "
	pacedLoopbackName = pacedPrefix + loopbackName
	pacedAckName      = pacedPrefix + "MQTT device to PUBACK"
	pacedReaderName   = pacedPrefix + "MQTT device to Event Hubs reader"
)

// timedSender notes how long its messages take to be acknowledged, one at a time.
type timedSender struct {
	sender
	sent  time.Time
	until *delays
}

func (s *timedSender) send(n int) error {
	s.sent = time.Now()
	return s.sender.send(n)
}

func (s *timedSender) acks() (int, error) {
	n, err := s.sender.acks()
	s.until.add(time.Since(s.sent))
	return n, err
}

// timed wraps senders.
func timed(senders []sender, until *delays) []sender {
	list := make([]sender, len(senders))
	for i, s := range senders {
		list[i] = &timedSender{sender: s, until: until}
	}
	return list
}

// measurePace measures how soon messages at a fixed rate are acknowledged and read, in turn with a bare server and the emulator before a change.
func (b *bench) measurePace(ctx context.Context) error {
	if !b.wanted(pacedReaderName) {
		return nil
	}
	var measures []func() error
	if b.peers {
		floor, err := b.startPeer("mqtt")
		if err != nil {
			return err
		}
		defer floor.stop()
		measures = append(measures, func() error { return b.paceFloor(floor) })
	}
	for i, program := range []string{b.program, b.against} {
		if program == "" {
			continue
		}
		e, err := launch(ctx, program, b.address, filepath.Join(b.dir, fmt.Sprint("paced", i)))
		if err != nil {
			return err
		}
		defer e.stop()
		if err := e.register(ctx, maxConns); err != nil {
			return err
		}
		suffix := ""
		if i > 0 {
			suffix = ", " + againstName
		}
		measures = append(measures, func() error { return b.paceEmulator(e, suffix) })
	}
	for range b.rounds {
		for _, measure := range measures {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := measure(); err != nil {
				return err
			}
		}
	}
	return nil
}

// pacedCount is how many messages a run at visibleRate sends.
func (b *bench) pacedCount() int { return max(int(visibleRate*b.paced.Seconds()), 100) }

// paceFloor is one run against a bare server.
func (b *bench) paceFloor(floor *peerProcess) error {
	var senders []sender
	defer closeAll(&senders)
	for i := range pacedDevices {
		s, err := dialMQTT(floor.address, b.peerTLS, mqttLogin{clientID: fmt.Sprint("d", i)}, "topic", backendLimit)
		if err != nil {
			return err
		}
		senders = append(senders, s)
	}
	var until delays
	cost, err := floor.cost(func() (int, error) { return paced(timed(senders, &until), visibleRate, b.pacedCount()) })
	b.report.exchange(until.roundTrip(pacedLoopbackName, cost))
	return err
}

// paceEmulator is one run against an emulator with one reader.
func (b *bench) paceEmulator(e *emulator, suffix string) error {
	var read, acknowledged delays
	r, err := e.read(reading{group: "$Default", partitions: []int{0}, observe: read.observe}, backendLimit)
	if err != nil {
		return err
	}
	defer r.close()
	senders, err := e.stampedSenders(pacedDevices)
	defer closeAll(&senders)
	if err != nil {
		return err
	}
	cost, err := e.cost(func() (n int, err error) {
		err = b.sendTo([]*reader{r}, func() (int, error) {
			n, err = paced(timed(senders, &acknowledged), visibleRate, b.pacedCount())
			return n, err
		})
		return n, err
	})
	ack, seen := acknowledged.roundTrip(pacedAckName+suffix, cost), read.roundTrip(pacedReaderName+suffix, cost)
	b.report.exchange(ack)
	b.report.exchange(seen)
	return err
}

// roundTrip is what a row says of the delays of one run.
func (d *delays) roundTrip(name string, cost float64) roundTrip {
	f := roundTrip{name: name, width: pacedDevices, cpu: cost}
	f.p50, f.p99 = d.percentiles()
	f.count = len(d.times)
	return f
}

// cost is the server's CPU time for each thing of what f does, in microseconds.
func (p *process) cost(f func() (int, error)) (float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	n, err := f()
	if err != nil || n == 0 {
		return 0, err
	}
	after, err := p.cpu()
	return micros(after-before) / float64(n), err
}

// closeAll closes senders.
func closeAll(senders *[]sender) {
	for _, s := range *senders {
		s.close()
	}
}
