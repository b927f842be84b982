package hostile

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/door"
)

var amqpDoors = []door.Door{door.AMQP, door.AMQPWS, door.PlainAMQP}

func eachAMQPDoor(t *testing.T, f func(t *testing.T, d door.Door)) {
	for _, d := range amqpDoors {
		t.Run(d.String(), func(t *testing.T) { f(t, d) })
	}
}

// amqpDial opens a byte stream to a door for AMQP.
func amqpDial(t *testing.T, d door.Door) net.Conn {
	t.Helper()
	switch d {
	case door.AMQPWS:
		c, err := target.backend.DialWebSocket(deadline(t), "AMQPWSB10")
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		return c
	case door.PlainAMQP:
		return tcpDial(t, d)
	}
	c, err := dialTLS(target, d)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// TestAMQPRefusesOtherProtocols with its own header. AMQP 2.2.
func TestAMQPRefusesOtherProtocols(t *testing.T) {
	attack(t)
	eachAMQPDoor(t, func(t *testing.T, d door.Door) {
		for _, said := range []string{"GET / HTTP/1.1\r\n\r\n", "AMQP\x00\x00\x09\x01", "AMQP\x01\x01\x00\x00", "AMQP\x02\x01\x00\x00", "AMQP\x00\x01\x01\x00", "amqp\x00\x01\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x00"} {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				c := amqpDial(t, d)
				_, err := c.Write([]byte(said))
				must(t, err)
				if answer := untilClosed(t, c); string(answer) != amqpHeader {
					t.Errorf("%q was answered with %q", said, answer)
				}
			})
		}
	})
}

func TestAMQPSASLThatFails(t *testing.T) {
	attack(t)
	d := target.device(t)
	eachAMQPDoor(t, func(t *testing.T, door door.Door) {
		for name, init := range map[string][]byte{
			"unknown mechanism":      performative(saslInit, symbol("SCRAM-SHA-256"), octets("x")),
			"mechanism of 60 KB":     performative(saslInit, symbol(strings.Repeat("x", 60_000))),
			"PLAIN without fields":   performative(saslInit, symbol("PLAIN"), octets("x")),
			"PLAIN, wrong password":  performative(saslInit, symbol("PLAIN"), octets("\x00"+d.DeviceID+"@sas."+address+"\x00wrong")),
			"PLAIN, unknown device":  performative(saslInit, symbol("PLAIN"), octets("\x00nobody@sas."+address+"\x00"+target.token(t, d))),
			"no fields":              performative(saslInit),
			"nothing":                {},
			"an open instead":        performative(amqpOpen, text("x")),
			"not described":          {0x40},
			"described for ever":     bytes.Repeat([]byte{0x00}, 60_000),
			"a list of 2^32-1":       append([]byte{0, 0x53, saslInit}, compound(0xd0, 0xFFFFFFFF, nil)...),
			"a list longer than all": {0, 0x53, saslInit, 0xd0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 1},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := amqpDial(t, door)
				_, err := c.Write(append([]byte(saslHeader), typedFrame(1, 0, init)...))
				must(t, err)
				said := untilClosed(t, c)
				if ok := []byte{0, 0x53, saslOutcome}; bytes.Contains(said, ok) && !refusedSASL(said) {
					t.Errorf("the hub said % x", said)
				}
			})
		}
	})
}

// refusedSASL reports whether there is an outcome and its code is not ok (0).
func refusedSASL(said []byte) bool {
	_, after, found := bytes.Cut(said, []byte{0, 0x53, saslOutcome})
	return found && !bytes.Contains(after[:min(len(after), 16)], []byte{0x50, 0}) // ubyte 0
}

// TestAMQPFramesThatAreNone: the hub says why in a close, and hangs up.
func TestAMQPFramesThatAreNone(t *testing.T) {
	attack(t)
	properties := func(value []byte) []byte {
		return frame(0, performative(amqpOpen, text("x"), null, null, null, null, null, null, null, null, value))
	}
	deep := func(n int) []byte { // a list in a list in a list
		b := []byte{0x45}
		for range n {
			if len(b) > 60_000 {
				break
			}
			b = compound(0xd0, 1, b)
		}
		return b
	}
	nested := func(v []byte) []byte { return compound(0xd1, 2, join(symbol("a"), v)) }
	for name, test := range map[string]struct {
		said []byte
		want string // condition of the close
	}{
		"frame of 0 bytes":                  {[]byte{0, 0, 0, 0, 2, 0, 0, 0}, "framing-error"},
		"frame of 7 bytes":                  {[]byte{0, 0, 0, 7, 2, 0, 0, 0}, "framing-error"},
		"frame of half a million bytes":     {[]byte{0, 7, 0xA1, 0x20, 2, 0, 0, 0}, "framing-error"},
		"frame of 4 GB":                     {[]byte{0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0}, "framing-error"},
		"data offset 0":                     {[]byte{0, 0, 0, 8, 0, 0, 0, 0}, "framing-error"},
		"data offset behind the frame":      {[]byte{0, 0, 0, 8, 0xFF, 0, 0, 0}, "framing-error"},
		"SASL frame":                        {typedFrame(1, 0, performative(amqpOpen, text("x"))), ""},
		"unknown frame type":                {typedFrame(9, 0, performative(amqpOpen, text("x"))), ""},
		"not a performative":                {frame(0, []byte{0x40}), ""},
		"unknown performative":              {frame(0, performative(0x7F)), ""},
		"transfer before open":              {frame(0, performative(amqpTransfer, u32(0))), ""},
		"begin before open":                 {begin(0), ""},
		"open without fields":               {frame(0, performative(amqpOpen)), "*"},
		"open on channel 7":                 {frame(7, performative(amqpOpen, text("x"))), "*"},
		"second open":                       {append(open(), open()...), ""},
		"max-frame-size of 10":              {frame(0, performative(amqpOpen, text("x"), null, u32(10))), ""},
		"container id is a map":             {frame(0, performative(amqpOpen, nested(null))), ""},
		"container id longer than all":      {frame(0, performative(amqpOpen, []byte{0xb1, 0xFF, 0xFF, 0xFF, 0xFF})), ""},
		"properties of 2^32-1 entries":      {properties(compound(0xd1, 0xFFFFFFFF, nil)), ""},
		"properties with an odd count":      {properties(compound(0xd1, 3, join(symbol("a"), null, symbol("b")))), "*"},
		"lists in lists, 5000 deep":         {properties(nested(deep(5000))), ""},
		"an array of 2^32-1 nulls":          {properties(nested(compound(0xf0, 0xFFFFFFFF, []byte{0x40}))), ""},
		"an array of 2^32-1 empty lists":    {properties(nested(compound(0xf0, 0xFFFFFFFF, []byte{0x45}))), ""},
		"an array of 60,000 uint0":          {properties(nested(compound(0xf0, 60_000, []byte{0x43}))), ""},
		"arrays in arrays":                  {properties(nested(compound(0xf0, 1, bytes.Repeat([]byte{0xf0, 0, 0, 0xF0, 0, 0, 0, 0, 1}, 5000)))), ""},
		"descriptors described":             {properties(nested(bytes.Repeat([]byte{0}, 50_000))), ""},
		"begin on channel 65535":            {append(open(), begin(65535)...), ""},
		"begin twice on a channel":          {join(open(), begin(0), begin(0)), ""},
		"end of no session":                 {join(open(), frame(3, performative(amqpEnd))), ""},
		"attach without a session":          {join(open(), attach("l", 0, true, "$cbs")), ""},
		"begin that answers nobody":         {join(open(), frame(0, performative(amqpBegin, ushort(9), u32(0), u32(1), u32(1)))), "*"},
		"begin with windows of words":       {join(open(), frame(0, performative(amqpBegin, null, text("x"), text("y"), text("z")))), ""},
		"attach cut short":                  {join(open(), begin(0), frame(0, append([]byte{0, 0x53, amqpAttach, 0xd0, 0, 0, 0, 100, 0, 0, 0, 3}, text("l")...))), ""},
		"disposition with roles of numbers": {join(open(), begin(0), frame(0, performative(amqpDisposition, u32(1), u32(0)))), ""},
	} {
		for _, d := range amqpDoors {
			t.Run(d.String()+" "+name, func(t *testing.T) {
				t.Parallel() // the hub waits two seconds for the client's close
				c := amqpDial(t, d)
				_, _ = c.Write(append([]byte(amqpHeader), test.said...))
				if test.want == "*" { // legal or not: it may not do harm
					_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
					_, _ = c.Read(make([]byte, 1000))
					return
				}
				began := time.Now()
				said := untilClosed(t, c)
				if !bytes.Contains(said, []byte{0, 0x53, amqpClose}) || !bytes.Contains(said, []byte("amqp:"+test.want)) && !bytes.Contains(said, []byte(test.want)) {
					t.Errorf("the hub said %q", said)
				}
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("it hung up after %v", took)
				}
			})
		}
	}
}

// opened is a connection with one session, past the hub's answers.
func opened(t *testing.T, d door.Door) net.Conn {
	t.Helper()
	c := amqpDial(t, d)
	_, err := c.Write(join([]byte(amqpHeader), open(), begin(0)))
	must(t, err)
	must(t, readFull(c, make([]byte, 8)))
	for _, want := range []byte{amqpOpen, amqpBegin} {
		if f, err := readAMQP(c); err != nil || f.descriptor != want {
			t.Fatalf("the hub said % x, %v", f.body, err)
		}
	}
	return c
}

// putRaw puts a token over a $cbs link with handle 0, as delivery 0, and waits until that is settled.
func putRaw(t *testing.T, c net.Conn, token string) {
	t.Helper()
	_, err := c.Write(attach("cbs", 0, false, "$cbs"))
	must(t, err)
	expect(t, c, amqpFlow) // there is credit
	put := join([]byte{0, 0x53, 0x73}, compound(0xd0, 1, text("1")), []byte{0, 0x53, 0x74},
		compound(0xd1, 6, join(text("operation"), text("put-token"), text("type"), text("servicebus.windows.net:sastoken"), text("name"), text("x"))),
		[]byte{0, 0x53, 0x77}, text(token))
	_, err = c.Write(frame(0, append(performative(amqpTransfer, u32(0), u32(0), octets("t"), u32(0), no, no), put...)))
	must(t, err)
	expect(t, c, amqpDisposition)
}

// expect reads frames until one of that performative comes.
func expect(t *testing.T, c net.Conn, descriptor byte) amqpFrame {
	t.Helper()
	for {
		f, err := readAMQP(c)
		if err != nil {
			t.Fatalf("instead of a performative %#x: %v", descriptor, err)
		}
		if f.descriptor == descriptor {
			return f
		}
	}
}

// TestAMQPSessionsAndLinksThatGoWrong end with the documented error and, where it is the session's or the link's fault alone, leave
// the connection.
func TestAMQPSessionsAndLinksThatGoWrong(t *testing.T) {
	attack(t)
	d := target.device(t)
	telemetry := "/devices/" + d.DeviceID + "/messages/events/"
	transfer := func(handle uint32, id []byte, rest ...[]byte) []byte {
		return frame(0, append(performative(amqpTransfer, append([][]byte{u32(handle), id, octets("t"), u32(0), no, no}, rest...)...), 0, 0x53, 0x75, 0xa0, 1, 'x'))
	}
	cbs := attach("cbs", 0, false, "$cbs")
	for name, test := range map[string]struct {
		said       []byte
		descriptor byte
		want       string
	}{
		"telemetry without a token":               {attach("l", 0, false, telemetry), amqpDetach, "amqp:unauthorized-access"},
		"devicebound without a token":             {attach("l", 0, true, "/devices/"+d.DeviceID+"/messages/devicebound"), amqpDetach, "amqp:unauthorized-access"},
		"C2D without a token":                     {attach("l", 0, false, "/messages/devicebound"), amqpDetach, "amqp:unauthorized-access"},
		"feedback without a token":                {attach("l", 0, true, "/messages/serviceBound/feedback"), amqpDetach, "amqp:unauthorized-access"},
		"events without a token":                  {attach("l", 0, true, "iolite/ConsumerGroups/$Default/Partitions/0"), amqpDetach, "amqp:unauthorized-access"},
		"no such node":                            {attach("l", 0, true, "/no/such/node"), amqpDetach, "amqp:not-found"},
		"an address of 25 KB":                     {attach("l", 0, true, strings.Repeat("x", 25_000)), amqpDetach, "amqp:not-found"},
		"an address with NUL":                     {attach("l", 0, true, "/devices/\x00/messages/devicebound"), amqpDetach, ""},
		"an address badly encoded":                {attach("l", 0, true, "/devices/%zz/messages/devicebound"), amqpDetach, ""},
		"with $cbs: a handle used twice":          {attach("other", 0, false, "$cbs"), amqpEnd, "amqp:session:handle-in-use"},
		"detach of no link":                       {frame(0, performative(amqpDetach, u32(9))), amqpEnd, "amqp:session:unattached-handle"},
		"transfer on no link":                     {transfer(9, u32(0)), amqpEnd, "amqp:session:unattached-handle"},
		"flow on no link":                         {frame(0, performative(amqpFlow, u32(0), u32(5000), u32(0), u32(5000), u32(9), u32(0), u32(1))), amqpEnd, "amqp:session:unattached-handle"},
		"with $cbs: transfer without delivery-id": {transfer(0, null), amqpEnd, "amqp:"},
		"with $cbs: delivery-id goes back":        {join(transfer(0, u32(5)), transfer(0, u32(4))), amqpEnd, "amqp:"},
		"with $cbs: delivery-id leaps half round": {join(transfer(0, u32(0)), transfer(0, u32(1<<31))), amqpEnd, "amqp:"},
	} {
		for _, door := range amqpDoors {
			t.Run(door.String()+" "+name, func(t *testing.T) {
				t.Parallel()
				c := opened(t, door)
				if strings.HasPrefix(name, "with $cbs") {
					_, err := c.Write(cbs)
					must(t, err)
					expect(t, c, amqpFlow) // there is credit
				}
				_, err := c.Write(test.said)
				must(t, err)
				if f := expect(t, c, test.descriptor); !bytes.Contains(f.body, []byte(test.want)) {
					t.Errorf("the hub said %q, want %s", f.body, test.want)
				}
			})
		}
	}
}

// TestAMQPHarmlessNonsense is answered or ignored, and the connection goes on.
func TestAMQPHarmlessNonsense(t *testing.T) {
	attack(t)
	eachAMQPDoor(t, func(t *testing.T, d door.Door) {
		c := opened(t, d)
		_, err := c.Write(join(
			frame(0, nil), // heartbeat
			frame(0, performative(amqpDisposition, no, u32(0), u32(0xFFFFFFFF), yes, performative(0x24))),
			frame(0, performative(amqpDisposition, yes, u32(0x80000000), u32(0x7FFFFFFF), yes, performative(0x24))),
			frame(0, performative(amqpFlow, u32(0xFFFFFFFF), u32(0xFFFFFFFF), u32(0xFFFFFFFF), u32(0xFFFFFFFF))),
			attach("replies", 1, true, "$cbs"),
			frame(0, performative(amqpFlow, u32(0), u32(5000), u32(0), u32(5000), u32(1), u32(0xFFFFFFFF), u32(0xFFFFFFFF), null, yes, yes)),
			frame(0, performative(amqpClose)),
		))
		must(t, err)
		if f := expect(t, c, amqpClose); bytes.Contains(f.body, []byte("amqp:")) {
			t.Errorf("the hub said %q", f.body)
		}
	})
}

// TestAMQPThousandsOfSessionsAndLinks up to the limits and beyond, which are announced errors.
func TestAMQPThousandsOfSessionsAndLinks(t *testing.T) {
	attack(t)
	before := target.gauge(t, "process_resident_memory_bytes")
	for range 2 {
		c := opened(t, door.PlainAMQP)
		go func() {
			var said []byte
			for channel := range 8191 {
				said = append(said, begin(uint16(channel+1))...)
			}
			for handle := range 4097 {
				said = append(said, attach(fmt.Sprint(handle), uint32(handle), handle%2 == 0, "$cbs")...)
			}
			_, _ = c.Write(said)
		}()
		for begins := 0; begins < 8191; {
			f, err := readAMQP(c)
			must(t, err)
			if f.descriptor == amqpBegin {
				begins++
			}
		}
		for refused := false; !refused; { // the one too many
			f := expect(t, c, amqpDetach)
			refused = bytes.Contains(f.body, []byte("amqp:resource-limit-exceeded"))
		}
	}
	grown := target.gauge(t, "process_resident_memory_bytes") - before
	t.Logf("two connections with all their sessions and links: %.0f MiB", grown/(1<<20))
	if grown > 200<<20 {
		t.Errorf("two connections cost %.0f MiB", grown/(1<<20))
	}
}

// TestAMQPUnfinishedMessagesAreBounded: a message of many frames that never ends costs its limit and no more.
func TestAMQPUnfinishedMessagesAreBounded(t *testing.T) {
	attack(t)
	before := target.gauge(t, "process_resident_memory_bytes")
	for range 4 {
		c := opened(t, door.PlainAMQP)
		var said []byte
		for handle := range 300 { // 64 KiB announced for each
			said = append(said, attach(fmt.Sprint(handle), uint32(handle), false, "$cbs")...)
		}
		_, err := c.Write(said)
		must(t, err)
		go func() {
			payload := append([]byte{0, 0x53, 0x75, 0xb0, 0, 0x10, 0, 0}, make([]byte, 30_000)...)
			for round := range 40 {
				for handle := range 300 {
					id := null
					if round == 0 {
						id = u32(uint32(handle))
					}
					f := frame(0, append(performative(amqpTransfer, u32(uint32(handle)), id, octets("t"), u32(0), no, yes), payload...))
					if _, err := c.Write(f); err != nil {
						return
					}
				}
			}
		}()
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		for {
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				break
			}
		}
		drop(c)
	}
	grown := target.gauge(t, "process_resident_memory_bytes") - before
	t.Logf("unfinished messages: %.0f MiB", grown/(1<<20))
	if grown > 250<<20 {
		t.Errorf("unfinished messages cost %.0f MiB", grown/(1<<20))
	}
}

func TestAMQPConnectionsThatDieInTheMiddle(t *testing.T) {
	attack(t)
	whole := join([]byte(amqpHeader), open(), begin(0), attach("l", 0, false, "$cbs"), frame(0, append(performative(amqpTransfer, u32(0), u32(0), octets("t"), u32(0), no, yes), make([]byte, 1000)...)))
	eachAMQPDoor(t, func(t *testing.T, d door.Door) {
		for cut := 1; cut < len(whole); cut += 29 {
			c := amqpDial(t, d)
			_, err := c.Write(whole[:cut])
			must(t, err)
			drop(c)
		}
	})
}

// TestAMQPTokens: $cbs refuses each that is none with a status, keeps the connection, and the device stays out.
func TestAMQPTokens(t *testing.T) {
	attack(t)
	d, other := target.device(t), target.device(t)
	forms := tokenForms(t, d, other)
	eachAMQPDoor(t, func(t *testing.T, door door.Door) {
		for name, token := range forms {
			if token == "" || name == "another device's" || strings.HasPrefix(name, "policy ") {
				continue // fine for $cbs: they prove somebody else
			}
			conn, err := target.backend.DialAMQP(deadline(t), door)
			must(t, err)
			if err := backend.PutToken(deadline(t), conn, token); err == nil {
				t.Errorf("%s: the token was taken", name)
			}
			session, err := conn.NewSession(deadline(t), nil)
			must(t, err)
			if _, err := session.NewSender(deadline(t), "/devices/"+d.DeviceID+"/messages/events/", nil); err == nil || !strings.Contains(err.Error(), "unauthorized-access") {
				t.Errorf("%s: sending: %v", name, err)
			}
			must(t, conn.Close())
		}
		conn, err := target.backend.DialAMQP(deadline(t), door)
		must(t, err)
		defer conn.Close()
		must(t, backend.PutToken(deadline(t), conn, target.token(t, other)))
		session, err := conn.NewSession(deadline(t), nil)
		must(t, err)
		if _, err := session.NewSender(deadline(t), "/devices/"+d.DeviceID+"/messages/events/", nil); err == nil || !strings.Contains(err.Error(), "unauthorized-access") {
			t.Errorf("with another device's token: %v", err)
		}
	})
}

// TestAMQPMessagesThatAreRefused leave the link and everybody else.
func TestAMQPMessagesThatAreRefused(t *testing.T) {
	attack(t)
	d := target.device(t)
	conn, err := target.backend.DialAMQP(deadline(t), door.AMQP)
	must(t, err)
	defer conn.Close()
	must(t, backend.PutToken(deadline(t), conn, target.token(t, d)))
	session, err := conn.NewSession(deadline(t), nil)
	must(t, err)
	sender, err := session.NewSender(deadline(t), "/devices/"+d.DeviceID+"/messages/events/", nil)
	must(t, err)
	properties := map[string]any{}
	for i := range 5000 {
		properties[fmt.Sprint("a", i)] = rand.Text()
	}
	var deep any = "x"
	for range 60 {
		deep = []any{deep}
	}
	for name, m := range map[string]*amqp.Message{
		"256 KiB and a byte":          amqp.NewMessage(make([]byte, 256<<10+1)),
		"bad message id":              {Properties: &amqp.MessageProperties{MessageID: strings.Repeat("m", 129)}, Data: [][]byte{nil}},
		"deeply nested":               {Value: deep},
		"properties over 256 KiB":     {ApplicationProperties: properties, Data: [][]byte{make([]byte, 200_000)}},
		"an annotation that is a map": {Annotations: amqp.Annotations{"iothub-creation-time-utc": map[string]any{"a": []any{1, "b"}}}, Data: [][]byte{nil}, ApplicationProperties: map[string]any{"m": "x"}},
	} {
		err := sender.Send(deadline(t), m, nil)
		t.Log(name, ": ", err)
		if err == nil && name != "an annotation that is a map" {
			t.Errorf("%s: it was accepted", name)
		}
		if err := sender.Send(deadline(t), amqp.NewMessage([]byte("still here")), nil); err != nil {
			t.Fatalf("after %s: %v", name, err)
		}
	}
}

// TestEventReaderThatDoesNotRead costs a buffer, not the log, and holds up nobody; positions beyond all numbers are no surprise.
func TestEventReaderThatDoesNotRead(t *testing.T) {
	attack(t)
	c := opened(t, door.PlainAMQP)
	token, err := target.backend.Token()
	must(t, err)
	putRaw(t, c, token)
	var said []byte
	for handle := uint32(1); handle <= 4; handle++ {
		said = append(said, attach(fmt.Sprint(handle), handle, true, fmt.Sprintf("iolite/ConsumerGroups/idle/Partitions/%d", handle-1))...)
		said = append(said, frame(0, performative(amqpFlow, u32(0), u32(0xFFFFFFF), u32(1), u32(5000), u32(handle), u32(0), u32(0xFFFFFFFF)))...)
	}
	_, err = c.Write(said)
	must(t, err)
	before := target.gauge(t, "process_resident_memory_bytes")
	flood := target.device(t)
	f, err := dialTLS(target, door.MQTT)
	must(t, err)
	defer f.Close()
	if code, err := mqttConnect(f, flood.DeviceID, target.token(t, flood)); err != nil || code != 0 {
		t.Fatal("return code ", code, err)
	}
	topic := "devices/" + flood.DeviceID + "/messages/events/"
	ack := make([]byte, 4)
	_ = f.SetDeadline(time.Now().Add(patience))
	for i := range 200 { // 50 MB
		_, err := f.Write(mqttPublish(topic, 1, uint16(i+1), make([]byte, 250<<10)))
		must(t, err)
		must(t, readFull(f, ack))
	}
	grown := target.gauge(t, "process_resident_memory_bytes") - before
	t.Logf("grown by %.0f MiB", grown/(1<<20))
	expect(t, c, amqpTransfer) // it was one
	if grown > 300<<20 {
		t.Errorf("a reader that does not read costs %.0f MiB", grown/(1<<20))
	}
}

// TestAMQPRefusedLinksThatAreNeverDetachedAreBounded: whoever is refused a link and does not answer the detach costs the hub no
// more than the links it may have.
func TestAMQPRefusedLinksThatAreNeverDetachedAreBounded(t *testing.T) {
	attack(t)
	before := target.gauge(t, "process_resident_memory_bytes")
	c := opened(t, door.PlainAMQP)
	go func() {
		name := strings.Repeat("n", 20_000)
		for handle := range uint32(20_000) {
			if _, err := c.Write(attach(name+fmt.Sprint(handle), handle, true, "/no/such/node")); err != nil {
				return
			}
		}
	}()
	for {
		if f, err := readAMQP(c); err != nil || f.descriptor == amqpEnd || f.descriptor == amqpClose || bytes.Contains(f.body, []byte("n19999")) {
			break
		}
	}
	grown := target.gauge(t, "process_resident_memory_bytes") - before
	t.Logf("refused links: %.0f MiB", grown/(1<<20))
	if grown > 200<<20 {
		t.Errorf("refused links cost %.0f MiB", grown/(1<<20))
	}
}
