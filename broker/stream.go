package broker

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/door"
)

// The limits of a stream. Real time: they are about sockets.
const (
	// connectTimeout is how long a new connection may be silent before its CONNECT is complete.
	connectTimeout = 20 * time.Second
	// writeTimeout is how long a peer may refuse to take a chunk before it counts as a slow consumer and is cut.
	writeTimeout = 30 * time.Second
	// closeTimeout is the same for what is left to say while closing.
	closeTimeout = 2 * time.Second
	// highWater is how many bytes may wait for the peer before reading from it stops.
	highWater = 64 << 10
	// writeChunk is the most that is written under one deadline.
	writeChunk = 64 << 10
	// maxBacklog is how many bytes may wait for the peer before one more push makes it a slow consumer, which is cut: room for a hundred direct
	// methods of full size, and for all cloud-to-device messages that are ever on their way.
	maxBacklog = 16 << 20
	// readSlack and maxSlack bound how much more patient a stream may be than it has to be, as a part of its patience and by themselves:
	// deadlines cost, and are not set for less.
	readSlack = 64
	maxSlack  = time.Second
	// maxUnrested is how many bytes are read before what has been gathered is written even though there is more to be read.
	maxUnrested = 64 << 10
	// keepBuffer is the largest write buffer that goes back to the pool.
	keepBuffer = 64 << 10
)

// stream is a connection with its deadlines, which gathers what is written: packets are appended to a buffer, so that everything that
// became ready meanwhile goes out in one write. Answers go out when the reader is about to wait for the peer, so that a burst of messages
// is acknowledged by one write: the reader writes them itself where the connection can tell that it is about to wait. Otherwise, and for
// pushed messages, which go at once, a goroutine writes that lives only as long as the buffer is not empty.
//
// read and send belong to the reading goroutine; the other methods to any.
type stream struct {
	conn     *door.Conn
	patience time.Duration // how long the peer may take for a whole packet
	stall    time.Duration // how long it may refuse to take a chunk; at least half of it
	rearm    bool          // the next read begins a packet

	mu       sync.Mutex
	room     sync.Cond // signalled when out became shorter, or the stream ended
	out      *[]byte   // complete packets for the peer; nil when there are none
	after    []func()  // called when out has been written
	writing  int32     // bytes that flush has taken out of out and not yet written
	flushing bool      // the flush goroutine lives
	closing  bool
	slow     bool          // the peer did not read for stall, or not enough
	failed   error         // of the write that failed
	done     chan struct{} // closed when conn is closed
	finished bool

	writeArmed time.Time // when the write deadline was set
	readArmed  time.Time // when the read deadline was set; only read uses it
	tells      bool      // the connection calls idle
	unrested   int32     // bytes read since answers began to wait; only read and idle use it
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func (s *stream) init(c *door.Conn, patience, stall time.Duration) {
	s.conn, s.patience, s.stall = c, patience, stall
	s.done = make(chan struct{})
	s.room.L = &s.mu
	s.tells = c.OnIdle(s.idle)
}

// read reads what the peer sent. Before it waits, or when it has read much without waiting, it sets the gathered answers on their way.
func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	if s.out == nil {
		s.unrested = 0
	} else if !s.tells || s.unrested >= maxUnrested {
		s.unrested = 0
		s.startFlush()
	}
	s.armRead()
	s.mu.Unlock()
	n, err := s.conn.Read(p)
	s.unrested += int32(n)
	return n, err
}

// armRead sets the read deadline when a packet begins and the last one is used up by a part that does not matter: by so much more the
// peer may be late. The caller holds mu.
func (s *stream) armRead() {
	if !s.rearm || s.closing {
		return
	}
	s.rearm = false
	now, slack := clock.Wall(), min(s.patience/readSlack, maxSlack)
	if now.Sub(s.readArmed) <= slack {
		return
	}
	s.readArmed = now
	_ = s.conn.SetReadDeadline(now.Add(s.patience + slack))
}

// wait sets how long the peer may take from its next packet on.
func (s *stream) wait(patience time.Duration) {
	s.patience, s.readArmed = patience, time.Time{}
}

// answer writes what has been gathered before the reader is about to wait, in place of the reader.
func (s *stream) answer() {
	if s.tells {
		s.idle()
	}
}

// idle writes what has been gathered, on the goroutine that reads, which is about to wait for the peer: another goroutine would only have to
// be woken for it. It leaves to flush what that would take care of anyway, and what ends the connection, which must not be closed here.
func (s *stream) idle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unrested = 0
	if s.out == nil || s.flushing || s.finished {
		return
	}
	s.flushing = true
	s.writeOut()
	s.flushing = false
	if s.out != nil || s.after != nil || s.closing || s.failed != nil {
		s.startFlush()
	}
}

// send takes a whole packet, which is on its way by the next read or close. It waits only while the peer leaves highWater
// bytes unread.
func (s *stream) send(packet []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.awaitRoom(); err != nil {
		return err
	}
	s.append(packet)
	return nil
}

// push takes a whole packet without ever waiting and sets it on its way; after is called from another goroutine when it has
// been written, and not when it could not be. It reports whether the stream still takes packets. A packet that would have more than
// maxBacklog bytes wait ends the stream: what is pushed has no other bound than what back ends care to send.
func (s *stream) push(packet []byte, after func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.failed != nil {
		return false
	}
	if s.backlog()+len(packet) > maxBacklog {
		s.giveUp()
		return false
	}
	s.append(packet)
	if after != nil {
		s.after = append(s.after, after)
	}
	s.startFlush()
	return true
}

// close ends reading, lets what has been taken go out for at most closeTimeout, and closes the connection. It does not wait
// for that; done tells. It may be called more than once.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startClose()
}

// startClose is close. The caller holds mu.
func (s *stream) startClose() {
	if s.closing {
		return
	}
	s.closing = true
	now := clock.Wall()
	_ = s.conn.SetReadDeadline(now)
	_ = s.conn.SetWriteDeadline(now.Add(closeTimeout))
	s.startFlush()
	s.room.Broadcast()
}

// backlog is how many bytes wait for the peer. The caller holds mu.
func (s *stream) backlog() int {
	if s.out == nil {
		return int(s.writing)
	}
	return int(s.writing) + len(*s.out)
}

// giveUp closes the stream of a peer that does not read, at once and without what waits for it. The caller holds mu.
func (s *stream) giveUp() {
	s.slow, s.out, s.after = true, nil, nil
	s.startClose()
	_ = s.conn.SetWriteDeadline(clock.Wall())
}

// awaitRoom waits while too much is unread. The caller holds mu.
func (s *stream) awaitRoom() error {
	for s.out != nil && len(*s.out) > highWater && !s.closing && s.failed == nil {
		s.startFlush()
		s.room.Wait()
	}
	switch {
	case s.failed != nil:
		return s.failed
	case s.closing:
		return net.ErrClosed
	}
	return nil
}

// append adds to the write buffer. The caller holds mu.
func (s *stream) append(p []byte) {
	if s.out == nil {
		s.out = buffers.Get().(*[]byte)
	}
	*s.out = append(*s.out, p...)
}

// startFlush makes sure that the flush goroutine lives. The caller holds mu.
func (s *stream) startFlush() {
	if !s.flushing && !s.finished {
		s.flushing = true
		go s.flush()
	}
}

// flush writes until nothing is left, then ends; if the stream is closing or broken, so does the connection.
func (s *stream) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.failed == nil && (s.out != nil || s.after != nil) {
		s.writeOut()
	}
	s.flushing = false
	if s.closing || s.failed != nil {
		s.finish()
	}
}

// writeOut writes what waits. The caller holds mu, which is free meanwhile, and is the only one to write.
func (s *stream) writeOut() {
	batch, after := s.out, s.after
	s.out, s.after = nil, nil
	if batch != nil {
		s.writing = int32(len(*batch))
	}
	s.mu.Unlock()
	err := s.write(batch)
	recycle(batch)
	if err == nil {
		for _, f := range after {
			f()
		}
	}
	s.mu.Lock()
	s.failed, s.slow, s.writing = err, s.slow || isTimeout(err) && !s.closing, 0
	s.room.Broadcast()
}

// finish closes the connection, once: politely when all has been said, else at once. The caller holds mu.
func (s *stream) finish() {
	if s.finished {
		return
	}
	s.finished = true
	s.mu.Unlock()
	if s.failed == nil {
		_ = s.conn.Close()
	} else {
		s.conn.Cut()
	}
	close(s.done)
	s.mu.Lock()
}

// write hands a batch to the connection in chunks, each under a deadline of its own.
func (s *stream) write(batch *[]byte) error {
	if batch == nil {
		return nil
	}
	for rest := *batch; len(rest) > 0; {
		s.armWrite()
		n, err := s.conn.Write(rest[:min(len(rest), writeChunk)])
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// armWrite sets the write deadline when the last one is half used up.
func (s *stream) armWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := clock.Wall()
	if s.closing || now.Sub(s.writeArmed) < s.stall/2 {
		return
	}
	s.writeArmed = now
	_ = s.conn.SetWriteDeadline(now.Add(s.stall))
}

func recycle(batch *[]byte) {
	if batch != nil && cap(*batch) <= keepBuffer {
		*batch = (*batch)[:0]
		buffers.Put(batch)
	}
}

// isSlow reports whether the stream ended because the peer did not read.
func (s *stream) isSlow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
