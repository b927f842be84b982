package amqp10

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/go-amqp"
)

// These tests let an independent client, go-amqp, speak to the engine.

func TestClientSendsAndIsAccepted(t *testing.T) {
	modes := map[string]struct {
		opts    amqp.SenderOptions
		settled bool
	}{
		"default":   {amqp.SenderOptions{}, false},
		"unsettled": {amqp.SenderOptions{SettlementMode: amqp.SenderSettleModeUnsettled.Ptr()}, false},
		"settled":   {amqp.SenderOptions{SettlementMode: amqp.SenderSettleModeSettled.Ptr()}, true},
		"second": {amqp.SenderOptions{
			SettlementMode:              amqp.SenderSettleModeUnsettled.Ptr(),
			RequestedReceiverSettleMode: amqp.ReceiverSettleModeSecond.Ptr(),
		}, false},
	}
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			p := newTestPeer()
			sender, err := session(t, dial(t, Config{}, p, nil)).NewSender(testContext(t), "/target", &mode.opts)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 600 { // more than the credit and half the session window
				if err := sender.Send(testContext(t), amqp.NewMessage([]byte(fmt.Sprint(i))), nil); err != nil {
					t.Fatal(err)
				}
			}
			p.wait(t, "all messages", func() bool { return len(p.received) == 600 })
			if got := p.received[0].Settled(); got != mode.settled {
				t.Errorf("Settled() = %v, want %v", got, mode.settled)
			}
			for i, d := range p.received {
				var m Message
				if err := m.Decode(d.Payload, Limits{}); err != nil || string(m.Data[0]) != fmt.Sprint(i) {
					t.Fatalf("message %d is %q, %v", i, d.Payload, err)
				}
			}
			l := p.links[0]
			l.session.conn.mu.Lock()
			defer l.session.conn.mu.Unlock()
			if name != "second" && l.unsettled != 0 { // in mode second the last confirmation may be under way
				t.Errorf("%d deliveries still counted as unsettled", l.unsettled)
			}
		})
	}
}

func TestClientLearnsEveryOutcome(t *testing.T) {
	p := newTestPeer()
	outcomes := []func(*Delivery){
		(*Delivery).Accept,
		func(d *Delivery) {
			d.Reject(&Error{CondNotAllowed, "no", Map{{Symbol("k"), int32(7)}}})
		},
		(*Delivery).Release,
		func(d *Delivery) { d.Modify(Modified{DeliveryFailed: true, Annotations: Map{{Symbol("a"), "b"}}}) },
	}
	p.attach = func(l *Link) (Node, *Error) {
		return &sink{peer: p, handle: func(d *Delivery) {
			outcomes[0](d)
			outcomes = outcomes[1:]
		}}, nil
	}
	sender, err := session(t, dial(t, Config{}, p, nil)).NewSender(testContext(t), "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []amqp.DeliveryState
	for range 4 {
		receipt, err := sender.SendWithReceipt(testContext(t), amqp.NewMessage([]byte("m")), nil)
		if err != nil {
			t.Fatal(err)
		}
		st, err := receipt.Wait(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, st)
	}
	if _, ok := got[0].(*amqp.StateAccepted); !ok {
		t.Errorf("got %T, want accepted", got[0])
	}
	if r, ok := got[1].(*amqp.StateRejected); !ok || r.Error == nil || r.Error.Condition != "amqp:not-allowed" || r.Error.Info["k"] != int32(7) {
		t.Errorf("got %#v, want rejected with the error", got[1])
	}
	if _, ok := got[2].(*amqp.StateReleased); !ok {
		t.Errorf("got %T, want released", got[2])
	}
	if m, ok := got[3].(*amqp.StateModified); !ok || !m.DeliveryFailed || m.MessageAnnotations["a"] != "b" {
		t.Errorf("got %#v, want modified", got[3])
	}
}

func TestClientReceives(t *testing.T) {
	modes := map[string]amqp.ReceiverOptions{
		"first":   {Credit: 7},
		"second":  {Credit: 7, SettlementMode: amqp.ReceiverSettleModeSecond.Ptr()},
		"settled": {Credit: 7, RequestedSenderSettleMode: amqp.SenderSettleModeSettled.Ptr()},
	}
	for name, opts := range modes {
		t.Run(name, func(t *testing.T) {
			p := newTestPeer()
			p.attach = func(l *Link) (Node, *Error) {
				n := &source{peer: p, settle: true}
				for i := range 100 {
					n.queue = append(n.queue, encode(t, fmt.Sprint(i)))
				}
				return n, nil
			}
			receiver, err := session(t, dial(t, Config{}, p, nil)).NewReceiver(testContext(t), "/source", &opts)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				m, err := receiver.Receive(testContext(t), nil)
				if err != nil {
					t.Fatal(err)
				}
				if got := string(m.GetData()); got != fmt.Sprint(i) {
					t.Fatalf("message %d is %q", i, got)
				}
				if err := receiver.AcceptMessage(testContext(t), m); err != nil {
					t.Fatal(err)
				}
			}
			if name == "settled" {
				return
			}
			p.wait(t, "all settlements", func() bool { return len(p.settled) == 100 })
			for i, e := range p.settled {
				if e.state != (Accepted{}) || e.tagLen != 16 || e.tag[1] != byte(i) || e.settled != (name == "first") {
					t.Fatalf("settlement %d is %+v", i, e)
				}
			}
		})
	}
}

func encode(t testing.TB, body string) []byte {
	t.Helper()
	b, err := (&Message{Body: BodyData, Data: [][]byte{[]byte(body)}}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLargeMessagesAreCutIntoFramesBothWays(t *testing.T) {
	for _, frame := range []uint32{512, 4096, 65536, 1 << 20} {
		t.Run(fmt.Sprint(frame), func(t *testing.T) {
			body := strings.Repeat("0123456789abcdef", 1<<16-1)
			p := newTestPeer()
			p.attach = func(l *Link) (Node, *Error) {
				l.SetMaxMessageSize(2 << 20)
				if l.Role() == RoleReceiver {
					return &sink{peer: p, handle: (*Delivery).Accept}, nil
				}
				return &source{peer: p, queue: [][]byte{encode(t, body), encode(t, "small"), encode(t, body)}}, nil
			}
			s := session(t, dial(t, Config{MaxFrameSize: frame, MaxOutput: 64 << 10}, p, &amqp.ConnOptions{MaxFrameSize: frame}))
			sender, err := s.NewSender(testContext(t), "x", nil)
			if err != nil {
				t.Fatal(err)
			}
			receiver, err := s.NewReceiver(testContext(t), "x", &amqp.ReceiverOptions{Credit: 10})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{body, "small", body} {
				m, err := receiver.Receive(testContext(t), nil)
				if err != nil {
					t.Fatal(err)
				}
				if string(m.GetData()) != want {
					t.Fatalf("received %d bytes, want %d", len(m.GetData()), len(want))
				}
				if err := receiver.AcceptMessage(testContext(t), m); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := sender.Send(testContext(t), amqp.NewMessage([]byte(body)), nil); err != nil {
					t.Fatal(err)
				}
			}
			p.wait(t, "the messages", func() bool { return len(p.received) == 2 })
			for _, d := range p.received {
				if !bytes.HasSuffix(d.Payload, []byte(body)) {
					t.Fatalf("received %d bytes, want %d", len(d.Payload), len(body))
				}
			}
		})
	}
}

func TestDrainUsesUpCredit(t *testing.T) {
	p := newTestPeer()
	s := session(t, dial(t, Config{}, p, nil))
	receiver, err := s.NewReceiver(testContext(t), "x", &amqp.ReceiverOptions{Credit: -1})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := receiver.IssueCredit(50); err != nil {
			t.Fatal(err)
		}
		if err := receiver.DrainCredit(testContext(t), nil); err != nil {
			t.Fatal(err)
		}
		if got := p.links[0].Credit(); got != 0 {
			t.Fatalf("%d credit left after drain", got)
		}
	}
}

func TestSASL(t *testing.T) {
	tests := map[string]struct {
		sasl     amqp.SASLType
		code     SASLCode
		mech     string
		response string
	}{
		"anonymous": {amqp.SASLTypeAnonymous(), SASLOK, "ANONYMOUS", "anonymous"},
		"plain":     {amqp.SASLTypePlain("user", "pass"), SASLOK, "PLAIN", "\x00user\x00pass"},
		"long":      {amqp.SASLTypePlain("user", strings.Repeat("p", 30<<10)), SASLOK, "PLAIN", "\x00user\x00" + strings.Repeat("p", 30<<10)},
		"external":  {amqp.SASLTypeExternal(""), SASLOK, "EXTERNAL", ""},
		"refused":   {amqp.SASLTypePlain("user", "wrong"), SASLAuth, "PLAIN", "\x00user\x00wrong"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := newTestPeer()
			var mech, response string
			p.sasl = func(m string, r []byte) SASLCode {
				mech, response = m, string(r)
				return tt.code
			}
			conn, err := amqp.NewConn(testContext(t), serve(t, Config{}, p), &amqp.ConnOptions{SASLType: tt.sasl})
			if (err == nil) != (tt.code == SASLOK) {
				t.Fatalf("NewConn: %v", err)
			}
			if err == nil {
				conn.Close()
			}
			p.wait(t, "the end", func() bool { return len(p.closed) == 1 })
			if mech != tt.mech || response != tt.response {
				t.Errorf("asked for %q with %d bytes, want %q with %d", mech, len(response), tt.mech, len(tt.response))
			}
			if tt.code != SASLOK && !errors.Is(p.closed[0], errSASL) {
				t.Errorf("Closed got %v", p.closed[0])
			}
		})
	}
}

func TestRefusedAttachTellsTheClientWhy(t *testing.T) {
	why := strings.Repeat("not you ", maxDescription/8)
	p := newTestPeer()
	p.attach = func(l *Link) (Node, *Error) {
		if l.Address() == "denied" {
			return nil, &Error{CondUnauthorizedAccess, why + "at all", Map{{Symbol("com.microsoft:tracking-id"), "42"}}}
		}
		return &sink{peer: p, handle: (*Delivery).Accept}, nil
	}
	s := session(t, dial(t, Config{}, p, nil))
	for range 3 { // handles are free again afterwards
		var aerr *amqp.Error
		if _, err := s.NewSender(testContext(t), "denied", nil); !errors.As(err, &aerr) || aerr.Condition != amqp.ErrCondUnauthorizedAccess || aerr.Info["com.microsoft:tracking-id"] != "42" || aerr.Description != why {
			t.Errorf("NewSender: %v", err)
		}
		if _, err := s.NewReceiver(testContext(t), "denied", nil); !errors.As(err, &aerr) || aerr.Condition != amqp.ErrCondUnauthorizedAccess {
			t.Errorf("NewReceiver: %v", err)
		}
	}
	sender, err := s.NewSender(testContext(t), "allowed", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.Send(testContext(t), amqp.NewMessage([]byte("x")), nil); err != nil {
		t.Fatal(err)
	}
	if len(p.detached) != 0 {
		t.Errorf("Detached was called for refused links: %v", p.detached)
	}
}

func TestRefusedOpen(t *testing.T) {
	p := newTestPeer()
	p.open = func(*Conn, *Open) *Error { return &Error{Condition: CondNotFound, Description: "no such hub"} }
	conn, err := amqp.NewConn(testContext(t), serve(t, Config{}, p), nil)
	if err == nil { // open succeeded, then close came
		_, err = conn.NewSession(testContext(t), nil)
		conn.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "no such hub") {
		t.Errorf("got %v", err)
	}
}

func TestManySessionsAndLinks(t *testing.T) {
	p := newTestPeer()
	conn := dial(t, Config{}, p, nil)
	const sessions = 100
	var wg sync.WaitGroup
	for i := range sessions {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s, err := conn.NewSession(testContext(t), nil)
			if err != nil {
				t.Error(err)
				return
			}
			for range 3 {
				// The same name everywhere: names are unique only per session and role.
				sender, err := s.NewSender(testContext(t), "x", &amqp.SenderOptions{Name: "same"})
				if err != nil {
					t.Error(err)
					return
				}
				receiver, err := s.NewReceiver(testContext(t), "x", &amqp.ReceiverOptions{Name: "same"})
				if err != nil {
					t.Error(err)
					return
				}
				if err := sender.Send(testContext(t), amqp.NewMessage([]byte{byte(i)}), nil); err != nil {
					t.Error(err)
				}
				if err := sender.Close(testContext(t)); err != nil {
					t.Error(err)
				}
				if err := receiver.Close(testContext(t)); err != nil {
					t.Error(err)
				}
			}
			if err := s.Close(testContext(t)); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	p.wait(t, "every session to end", func() bool { return p.ended == sessions && len(p.detached) == 6*sessions })
	p.conn.mu.Lock()
	defer p.conn.mu.Unlock()
	if len(p.conn.sessions)+len(p.conn.channels)+p.conn.links+p.conn.partial != 0 {
		t.Errorf("left over: %d sessions, %d channels, %d links, %d bytes", len(p.conn.sessions), len(p.conn.channels), p.conn.links, p.conn.partial)
	}
}

func TestServerSideEndings(t *testing.T) {
	reason := &Error{Condition: "test:over", Description: "enough"}
	endings := map[string]func(l *Link){
		"link":    func(l *Link) { l.Detach(reason) },
		"session": func(l *Link) { l.Session().End(reason) },
		"conn":    func(l *Link) { l.Conn().Close(reason) },
		"abort":   func(l *Link) { l.Conn().Abort() },
	}
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			p := newTestPeer()
			conn := dial(t, Config{}, p, nil)
			s := session(t, conn)
			receiver, err := s.NewReceiver(testContext(t), "x", nil)
			if err != nil {
				t.Fatal(err)
			}
			end(p.links[0])
			end(p.links[0]) // a second call does nothing
			_, err = receiver.Receive(testContext(t), nil)
			if err == nil || name != "abort" && !strings.Contains(err.Error(), "enough") {
				t.Errorf("receiver got %v", err)
			}
			p.wait(t, "Detached", func() bool { return len(p.detached) == 1 })
			if name != "abort" && p.detached[0] != reason {
				t.Errorf("Detached got %v", p.detached[0])
			}
			if _, err := p.links[0].Send(nil, 0, nil, true); !errors.Is(err, ErrDetached) {
				t.Errorf("Send on the link: %v", err)
			}
			// What was not ended lives on.
			switch name {
			case "link":
				if _, err := s.NewSender(testContext(t), "y", nil); err != nil {
					t.Error(err)
				}
			case "session":
				session(t, conn)
			default:
				p.wait(t, "Closed", func() bool { return len(p.closed) == 1 })
			}
		})
	}
}
