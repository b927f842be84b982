package amqp10

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// chaosPeer checks what is promised about callbacks: one at a time, in pairs, nothing after the end. Its nodes hand what they
// see to goroutines that send, settle and end things at random.
type chaosPeer struct {
	t       *testing.T
	work    chan func(*rand.Rand)
	busy    atomic.Int32
	mu      sync.Mutex
	links   map[*Link]bool // attached
	begun   map[*Session]bool
	closed  bool
	overall int
}

func (p *chaosPeer) enter(what string) func() {
	if p.busy.Add(1) != 1 {
		p.t.Errorf("%s at the same time as another callback", what)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.t.Errorf("%s after Closed", what)
	}
	p.overall++
	return func() { p.busy.Add(-1) }
}

func (p *chaosPeer) live(l *Link, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.links[l] {
		p.t.Errorf("%s after Detached", what)
	}
}

// do has f done by someone else, unless they are too busy.
func (p *chaosPeer) do(f func(*rand.Rand)) {
	select {
	case p.work <- f:
	default:
	}
}

func (p *chaosPeer) SASL(string, []byte) SASLCode { return SASLOK }
func (p *chaosPeer) Open(c *Conn, _ *Open) *Error {
	defer p.enter("Open")()
	return nil
}

func (p *chaosPeer) Attach(l *Link) (Node, *Error) {
	defer p.enter("Attach")()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links[l], p.begun[l.Session()] = true, true
	p.do(func(r *rand.Rand) { p.end(r, l) })
	return p, nil
}

// end now and then ends a link, its session or its connection.
func (p *chaosPeer) end(r *rand.Rand, l *Link) {
	switch r.IntN(40) {
	case 0:
		l.Conn().Close(&Error{Condition: "chaos"})
	case 1, 2, 3:
		l.Session().End(nil)
	case 4, 5, 6, 7, 8:
		l.Detach(&Error{Condition: "chaos"})
	}
}

func (p *chaosPeer) Detached(l *Link, _ *Error) {
	defer p.enter("Detached")()
	p.live(l, "Detached")
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

func (p *chaosPeer) SessionEnded(s *Session) {
	defer p.enter("SessionEnded")()
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if l.Session() == s {
			p.t.Error("SessionEnded before Detached of a link")
		}
	}
	delete(p.begun, s)
}

func (p *chaosPeer) Receive(l *Link, d *Delivery) {
	defer p.enter("Receive")()
	p.live(l, "Receive")
	settle := func(r *rand.Rand) {
		switch r.IntN(4) {
		case 0:
			d.Reject(&Error{Condition: "c"})
		case 1:
			d.Release()
		default:
			d.Accept()
		}
		p.end(r, l)
	}
	p.do(settle)
	p.do(settle)
}

func (p *chaosPeer) Flow(l *Link, credit uint32, drain bool) {
	defer p.enter("Flow")()
	p.live(l, "Flow")
	for range 2 {
		p.do(func(r *rand.Rand) {
			id, _ := l.Send([]byte("tag"), 0, make([]byte, r.IntN(3000)), r.IntN(2) == 0)
			if r.IntN(3) == 0 {
				l.Settle(id, Accepted{})
			}
			l.Drained()
		})
	}
}

func (p *chaosPeer) Settled(l *Link, id uint32, _ []byte, _ DeliveryState, _ bool) {
	defer p.enter("Settled")()
	p.live(l, "Settled")
	p.do(func(*rand.Rand) { l.Settle(id, Accepted{}) })
}

func (p *chaosPeer) Closed(*Conn, error) {
	defer p.enter("Closed")()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if len(p.links)+len(p.begun) != 0 {
		p.t.Errorf("%d links and %d sessions outlive the connection", len(p.links), len(p.begun))
	}
}

// TestChaos: whatever both sides do at the same time, callbacks keep their promises.
func TestChaos(t *testing.T) {
	var overall atomic.Int64
	t.Cleanup(func() {
		if overall.Load() < 1000 {
			t.Errorf("only %d callbacks: this tests nothing", overall.Load())
		}
	})
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			p := &chaosPeer{t: t, work: make(chan func(*rand.Rand), 100), links: map[*Link]bool{}, begun: map[*Session]bool{}}
			var workers sync.WaitGroup
			for i := range uint64(3) {
				workers.Add(1)
				go func() {
					defer workers.Done()
					r := rand.New(rand.NewPCG(seed, i))
					for f := range p.work {
						f(r)
					}
				}()
			}
			t.Cleanup(func() {
				close(p.work)
				workers.Wait()
				overall.Add(int64(p.overall))
			})
			nc := serve(t, Config{CloseTimeout: 100 * time.Millisecond, MaxOutput: 10000, CreditWindow: 5}, p)
			go io.Copy(io.Discard, nc)
			chaosClient(nc, rand.New(rand.NewPCG(seed, 99)))
			nc.Close()
		})
	}
}

// chaosClient sends frames that are right, or nearly.
func chaosClient(w io.Writer, r *rand.Rand) {
	write := func(frames ...[]byte) (err error) {
		for _, f := range frames {
			if _, err = w.Write(f); err != nil {
				break
			}
		}
		return err
	}
	write(amqpHeader, fr(0, descOpen, "chaos", nil, uint32(512)))
	var next [4]uint32 // delivery-ids
	var begun [4]bool
	for range 3000 {
		ch := uint16(r.IntN(4))
		h := uint32(r.IntN(3))
		var err error
		switch n := r.IntN(30); {
		case !begun[ch]:
			err = write(begin(ch))
			begun[ch], next[ch] = true, 0
			for handle := range uint32(3) {
				err = write(fr(ch, descAttach, fmt.Sprint(handle), handle, handle == 2, nil, uint8(r.IntN(2)), src("s"), tgt("t"), nil, nil, uint32(0)))
			}
		case n == 0:
			err = write(fr(ch, descEnd))
			begun[ch] = false
		case n == 1:
			err = write(fr(ch, descDetach, h, true), fr(ch, descAttach, fmt.Sprint(h), h, h == 2, nil, nil, src("s"), tgt("t"), nil, nil, uint32(0)))
		case n < 8:
			err = write(fr(ch, descFlow, uint32(0), uint32(r.IntN(50)), uint32(0), uint32(10), uint32(2), uint32(0), uint32(r.IntN(100)), nil, n == 2, n == 3))
		case n < 14:
			err = write(fr(ch, descDisposition, n%2 == 0, uint32(r.IntN(20)), uint32(r.IntN(40)), n < 11, Described{uint64(descAccepted), List{}}))
		default:
			err = write(frp(ch, descTransfer, make([]byte, r.IntN(300)), h%2, next[ch], []byte("t"), nil, n == 15, n == 16))
			if n != 16 {
				next[ch]++
			}
		}
		if err != nil {
			return
		}
	}
}
