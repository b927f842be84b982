package hostile

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/go-amqp"

	"github.com/iolite-emulator/iolite/backend"
	"github.com/iolite-emulator/iolite/door"
)

// eventConn is a connection of a back end that may read events.
func eventConn(t *testing.T, d door.Door) *amqp.Conn {
	t.Helper()
	conn, err := target.backend.DialAMQP(deadline(t), d)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	token, err := target.backend.Token()
	must(t, err)
	must(t, backend.PutToken(deadline(t), conn, token))
	return conn
}

func eventSession(t *testing.T, d door.Door) *amqp.Session {
	t.Helper()
	session, err := eventConn(t, d).NewSession(deadline(t), nil)
	must(t, err)
	return session
}

// refusal returns the condition that an attach was refused with.
func refusal(err error) amqp.ErrCond {
	var link *amqp.LinkError
	var e *amqp.Error
	switch {
	case errors.As(err, &link) && link.RemoteErr != nil:
		return link.RemoteErr.Condition
	case errors.As(err, &e):
		return e.Condition
	}
	return ""
}

// TestEventReadersOfWhatIsNotThere are refused with the documented conditions, again and again, and leave nothing behind.
func TestEventReadersOfWhatIsNotThere(t *testing.T) {
	attack(t)
	const argument, outOfRange = "com.microsoft:argument-error", "com.microsoft:argument-out-of-range"
	long := strings.Repeat("g", 3000)
	cases := map[string]struct {
		address, selector string
		epoch             any
		want              amqp.ErrCond
	}{
		"an event hub":             {address: "other/ConsumerGroups/$Default/Partitions/0", want: amqp.ErrCondNotFound},
		"a consumer group":         {address: "iolite/ConsumerGroups/nobody/Partitions/0", want: amqp.ErrCondNotFound},
		"a group of 3,000 letters": {address: "iolite/ConsumerGroups/" + long + "/Partitions/0", want: amqp.ErrCondNotFound},
		"a group with NUL":         {address: "iolite/ConsumerGroups/\x00/Partitions/0", want: amqp.ErrCondNotFound},
		"an event hub of control":  {address: "$management/ConsumerGroups/$Default/Partitions/0", want: amqp.ErrCondNotFound},
		"a partition":              {address: "iolite/ConsumerGroups/$Default/Partitions/4", want: outOfRange},
		"a negative partition":     {address: "iolite/ConsumerGroups/$Default/Partitions/-1", want: outOfRange},
		"a huge partition":         {address: "iolite/ConsumerGroups/$Default/Partitions/" + strings.Repeat("9", 1000), want: outOfRange},
		"an offset":                {selector: "amqp.annotation.x-opt-offset > '9223372036854775807'", want: argument},
		"a sequence number":        {selector: "amqp.annotation.x-opt-sequence-number >= '9223372036854775807'", want: argument},
		"an offset that is none":   {selector: "amqp.annotation.x-opt-offset > '1e3'", want: argument},
		"a number too large":       {selector: "amqp.annotation.x-opt-offset > '99999999999999999999'", want: argument},
		"a year":                   {selector: "amqp.annotation.x-opt-enqueued-time > '9223372036854775807'", want: argument},
		"a selector":               {selector: strings.Repeat("(", 2000), want: argument},
		"a negative owner level":   {epoch: int64(-1), want: argument},
		"an owner level of text":   {epoch: "1", want: argument},
		"an owner level of lists":  {epoch: []any{int64(1)}, want: argument},
	}
	session := eventSession(t, door.PlainAMQP)
	for name, c := range cases {
		o := &amqp.ReceiverOptions{}
		if c.selector != "" {
			o.Filters = []amqp.LinkFilter{amqp.NewSelectorFilter(c.selector)}
		}
		if c.epoch != nil {
			o.Properties = map[string]any{"com.microsoft:epoch": c.epoch}
		}
		if c.address == "" {
			c.address = "iolite/ConsumerGroups/idle/Partitions/0"
		}
		for range 20 {
			l, err := session.NewReceiver(deadline(t), c.address, o)
			if err == nil || refusal(err) != c.want {
				t.Errorf("%s: %v, want %s", name, err, c.want)
				if l != nil {
					_ = l.Close(deadline(t))
				}
				break
			}
		}
	}
	group, err := target.control.ConsumerGroup(deadline(t), "iolite", "idle")
	must(t, err)
	if len(group.Readers) != 0 {
		t.Errorf("readers that were refused are there: %+v", group.Readers)
	}
}

// TestEventReadersThatStealFromEachOther: however many at once, in the end nobody has the partition whom nobody knows of.
func TestEventReadersThatStealFromEachOther(t *testing.T) {
	attack(t)
	const address = "iolite/ConsumerGroups/idle/Partitions/1"
	var wg sync.WaitGroup
	for i := range 8 {
		conn := eventConn(t, []door.Door{door.PlainAMQP, door.AMQP}[i%2])
		wg.Go(func() {
			for n := range 50 {
				// A session for each: go-amqp uses a handle again before it has answered the detach that it was stolen with.
				session, err := conn.NewSession(deadline(t), nil)
				if err != nil {
					t.Errorf("reader %d: %v", i, err)
					return
				}
				o := &amqp.ReceiverOptions{Credit: 10}
				if n%5 != 0 {
					o.Properties = map[string]any{"com.microsoft:epoch": int64(n % 7)}
				}
				_, err = session.NewReceiver(deadline(t), address, o)
				if err != nil && refusal(err) != amqp.ErrCondStolen && refusal(err) != amqp.ErrCondResourceLimitExceeded {
					t.Errorf("reader %d: %v", i, err)
					return
				}
				if n%2 == 0 {
					_ = session.Close(deadline(t))
				}
			}
		})
	}
	wg.Wait()
	session := eventSession(t, door.AMQP)
	l, err := session.NewReceiver(deadline(t), address, &amqp.ReceiverOptions{Properties: map[string]any{"com.microsoft:epoch": int64(100)}})
	must(t, err)
	group, err := target.control.ConsumerGroup(deadline(t), "iolite", "idle")
	must(t, err)
	for _, r := range group.Readers {
		if r.Partition == "1" && (r.OwnerLevel == nil || *r.OwnerLevel != 100) {
			t.Errorf("%+v reads, too", r)
		}
	}
	must(t, l.Close(deadline(t)))
}
