package main

import (
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"
)

// readerCredit is the prefetch of a partition: what Event Hubs clients ask for lies between 300 and 999.
const readerCredit = 1000

// reader receives everything that is sent, and counts.
type reader struct {
	nc   net.Conn
	done chan struct{} // closed when its goroutine ends

	mu   sync.Mutex
	more sync.Cond
	seen int
	err  error // why it ended
}

// startReader runs count, which calls its argument for what comes, on a goroutine that ends with the connection.
func startReader(nc net.Conn, count func(seen func(n int)) error) *reader {
	r := &reader{nc: nc, done: make(chan struct{})}
	r.more.L = &r.mu
	go func() {
		defer close(r.done)
		err := count(r.add)
		r.mu.Lock()
		r.err = err
		r.more.Broadcast()
		r.mu.Unlock()
	}()
	return r
}

func (r *reader) add(n int) {
	r.mu.Lock()
	r.seen += n
	r.more.Broadcast()
	r.mu.Unlock()
}

// await waits until n messages have come in all.
func (r *reader) await(n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.seen < n && r.err == nil {
		r.more.Wait()
	}
	if r.seen < n {
		return fmt.Errorf("the reader got %d of %d messages: %w", r.seen, n, r.err)
	}
	return nil
}

// reset forgets what has come.
func (r *reader) reset() {
	r.mu.Lock()
	r.seen = 0
	r.mu.Unlock()
}

func (r *reader) close() {
	_ = r.nc.Close()
	<-r.done
}

// reading says what a reader of the Event Hubs-compatible endpoint reads.
type reading struct {
	group      string               // consumer group
	partitions []int                // all when nil
	earliest   bool                 // from the oldest event, not from now on
	credit     uint32               // of each partition; readerCredit when 0
	observe    func(payload []byte) // called for every message; nil for nobody
}

// readEvents reads every partition of the emulator's Event Hubs-compatible endpoint from now on.
func (e *emulator) readEvents(limit time.Duration) (*reader, error) {
	return e.read(reading{group: "$Default"}, limit)
}

// read reads on a connection of its own, until limit.
func (e *emulator) read(what reading, limit time.Duration) (*reader, error) {
	nc, err := dialTLS(e.address("amqp"), e.tls, limit)
	if err != nil {
		return nil, err
	}
	c, err := e.attachPartitions(nc, what)
	if err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("reader: %w", err)
	}
	return startReader(nc, func(seen func(int)) error { return c.countTransfers(seen, what.observe) }), nil
}

// attachPartitions opens a link for each partition, and asks for events on it.
func (e *emulator) attachPartitions(nc *tls.Conn, what reading) (*amqpConn, error) {
	if what.partitions == nil {
		for p := range e.partitions {
			what.partitions = append(what.partitions, p)
		}
	}
	c, err := openAMQP(nc, e.info.Hostname)
	if err != nil {
		return nil, err
	}
	owner, err := e.ownerClaim(e.info.Hub)
	if err != nil {
		return nil, err
	}
	n := uint32(len(what.partitions))
	if _, err := c.putTokens(n, []claim{owner}); err != nil {
		return nil, err
	}
	filter := latestFilter()
	if what.earliest {
		filter = nil
	}
	for i, p := range what.partitions {
		address, handle := fmt.Sprintf("%s/ConsumerGroups/%s/Partitions/%d", e.info.Hub, what.group, p), uint32(i)
		if _, err := nc.Write(attachFrame(handle, true, address, filter)); err != nil {
			return nil, err
		}
		if _, err := c.expect(descAttach); err != nil {
			return nil, err
		}
	}
	for i := range what.partitions { // now that nothing but transfers is expected
		if _, err := nc.Write(creditFrame(uint32(i), 0, cmp.Or(what.credit, readerCredit))); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// latestFilter selects what is stored from now on.
func latestFilter() []byte {
	const key, selector = "apache.org:selector-filter:string", "amqp.annotation.x-opt-offset > '@latest'"
	b := append([]byte{0xd1, 0, 0, 0, 0, 0, 0, 0, 2, 0xa3, byte(len(key))}, key...)
	b = binary.BigEndian.AppendUint64(append(b, 0, 0x80), 0x0000468C00000004)
	b = append(append(b, 0xa1, byte(len(selector))), selector...)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-5))
	return b
}

// countTransfers counts messages on links that were attached with readerCredit, and keeps up their credit.
func (c *amqpConn) countTransfers(seen func(int), observe func([]byte)) error {
	var deliveries, granted []uint32 // by link
	for {
		count := 0
		p, err := c.next()
		for ; err == nil && p.descriptor != 0; p, err = c.buffered() {
			if p.descriptor != descTransfer {
				continue
			}
			var handle [1]uint32
			if _, err := p.uints(handle[:]); err != nil {
				return err
			}
			if observe != nil {
				observe(p.payload)
			}
			count++
			for int(handle[0]) >= len(deliveries) {
				deliveries, granted = append(deliveries, 0), append(granted, 0)
			}
			deliveries[handle[0]]++
		}
		if err != nil {
			return err
		}
		seen(count)
		if err := c.grant(deliveries, granted); err != nil {
			return err
		}
	}
}

// grant renews the credit of the links that have used half of it.
func (c *amqpConn) grant(deliveries, granted []uint32) error {
	for h := range deliveries {
		if deliveries[h]-granted[h] < readerCredit/2 {
			continue
		}
		granted[h] = deliveries[h]
		if _, err := c.nc.Write(creditFrame(uint32(h), deliveries[h], readerCredit)); err != nil {
			return err
		}
	}
	return nil
}
