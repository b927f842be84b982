package main

import (
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

// readEvents reads every partition of the emulator's Event Hubs-compatible endpoint from now on.
func (e *emulator) readEvents(limit time.Duration) (*reader, error) {
	nc, err := dialTLS(e.address("amqp"), e.tls, limit)
	if err != nil {
		return nil, err
	}
	r, err := e.readPartitions(nc)
	if err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("reader: %w", err)
	}
	return r, nil
}

func (e *emulator) readPartitions(nc *tls.Conn) (*reader, error) {
	c, err := openAMQP(nc, e.info.Hostname)
	if err != nil {
		return nil, err
	}
	owner, err := e.ownerClaim(e.info.Hub)
	if err != nil {
		return nil, err
	}
	n := uint32(e.partitions)
	if _, err := c.putTokens(n, []claim{owner}); err != nil {
		return nil, err
	}
	for p := range n {
		address := fmt.Sprintf("%s/ConsumerGroups/$Default/Partitions/%d", e.info.Hub, p)
		if _, err := nc.Write(append(attachFrame(p, true, address, latestFilter()), creditFrame(p, 0, readerCredit)...)); err != nil {
			return nil, err
		}
		if _, err := c.expect(descAttach); err != nil {
			return nil, err
		}
	}
	return startReader(nc, func(seen func(int)) error { return c.countTransfers(n, seen) }), nil
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

// countTransfers counts messages on links 0 to n-1 and keeps up their credit.
func (c *amqpConn) countTransfers(n uint32, seen func(int)) error {
	deliveries, granted := make([]uint32, n), make([]uint32, n)
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
			count++
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
