//go:build unix

package door

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// serveIdle opens a door whose head answers with what onIdle says when it has read everything there is, and returns the head's error.
func serveIdle(t *testing.T, config *tls.Config, size int, onIdle func(c *Conn, got []byte)) (*Listener, chan error) {
	t.Helper()
	ended := make(chan error, 1)
	l := open(t, config, func(c *Conn) {
		var got []byte
		if !c.OnIdle(func() { onIdle(c, got) }) {
			t.Error("the connection cannot tell that it is idle")
		}
		for {
			p := make([]byte, size)
			n, err := c.Read(p)
			got = append(got, p[:n]...)
			if err != nil {
				ended <- err
				return
			}
		}
	})
	return l, ended
}

// What was read in several reads is answered by one write, from within the read that finds nothing more.
func TestIdleIsToldOnceEverythingHasBeenRead(t *testing.T) {
	for name, config := range map[string]*tls.Config{"plain": nil, "TLS": selfSigned(t)} {
		t.Run(name, func(t *testing.T) {
			answered := 0
			l, ended := serveIdle(t, config, 3, func(c *Conn, got []byte) {
				if len(got) == answered {
					return
				}
				if _, err := c.Write(got[answered:]); err != nil {
					t.Error(err)
				}
				answered = len(got)
			})
			client := dial(t, l)
			if config != nil {
				client = tls.Client(client, &tls.Config{InsecureSkipVerify: true})
			}
			for _, said := range []string{"a burst of words", "and more"} {
				if _, err := io.WriteString(client, said); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 64)
				if n, err := client.Read(got); err != nil || string(got[:n]) != said {
					t.Fatalf("the answer was %q, %v", got[:n], err)
				}
			}
			_ = client.Close()
			if err := <-ended; !errors.Is(err, io.EOF) {
				t.Errorf("the head read to %v", err)
			}
		})
	}
}

// A read that tells ends like any other: by a deadline, which may come from within idle, by Close, by a reset.
func TestAReadThatTellsItIsIdleStillEnds(t *testing.T) {
	t.Run("deadline", func(t *testing.T) {
		l, ended := serveIdle(t, nil, 8, func(c *Conn, _ []byte) { _ = c.SetReadDeadline(time.Now()) })
		dial(t, l)
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("close", func(t *testing.T) {
		idle := make(chan *Conn, 1)
		l, ended := serveIdle(t, nil, 8, func(c *Conn, _ []byte) { idle <- c })
		dial(t, l)
		_ = (<-idle).Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		idle := make(chan struct{}, 1)
		l, ended := serveIdle(t, nil, 8, func(*Conn, []byte) { idle <- struct{}{} })
		client := dial(t, l)
		<-idle
		_ = client.(*net.TCPConn).SetLinger(0)
		_ = client.Close()
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}

func TestOnlyTCPTellsThatItIsIdle(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if Wrap(a, MQTT).OnIdle(func() {}) {
		t.Error("a pipe says that it can tell")
	}
}
