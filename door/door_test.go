package door

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var discard = slog.New(slog.DiscardHandler)

// open listens on any port of loopback and closes at the test's end.
func open(t *testing.T, config *tls.Config, head func(*Conn)) *Listener {
	t.Helper()
	l, err := Listen(t.Context(), AMQP, "127.0.0.1:0", config, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	l.Serve(head)
	return l
}

func dial(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func TestConnectionKnowsItsDoorAndCountsBytes(t *testing.T) {
	conns := make(chan *Conn, 1)
	l := open(t, selfSigned(t), func(c *Conn) {
		_, _ = io.CopyN(c, c, 5)
		conns <- c
	})
	client, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	c := <-conns
	if c.Door() != AMQP || c.TLS() == nil || c.BytesIn() != 5 || c.BytesOut() != 5 {
		t.Errorf("door %v, TLS %v, %d bytes in, %d out", c.Door(), c.TLS() != nil, c.BytesIn(), c.BytesOut())
	}
	if over := c.Over(c, AMQPWS); over.Door() != AMQPWS || over.TLS() != c.TLS() || over.BytesIn() != 0 {
		t.Errorf("over: door %v, %d bytes in", over.Door(), over.BytesIn())
	}
}

func TestCloseWriteEndsThePeersReadingAtOnce(t *testing.T) {
	for name, config := range map[string]*tls.Config{"plain": nil, "TLS": selfSigned(t)} {
		t.Run(name, func(t *testing.T) {
			l := open(t, config, func(c *Conn) {
				_, _ = c.Write([]byte("last words"))
				if err := c.CloseWrite(); err != nil {
					t.Error(err)
				}
				_, _ = io.Copy(io.Discard, c) // and still listens
			})
			var client io.ReadCloser = dial(t, l)
			if config != nil {
				client = tls.Client(client.(net.Conn), &tls.Config{InsecureSkipVerify: true})
			}
			if said, err := io.ReadAll(client); err != nil || string(said) != "last words" {
				t.Errorf("the peer read %q, %v", said, err)
			}
			_ = client.Close()
		})
	}
	over := new(Conn).Over(nil, MQTTWS)
	if err := over.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a WebSocket: %v", err)
	}
}

func TestCutResetsThePeerAndEndsABlockedRead(t *testing.T) {
	reading, ended := make(chan *Conn, 1), make(chan error, 1)
	l := open(t, nil, func(c *Conn) {
		reading <- c
		_, err := c.Read(make([]byte, 1))
		ended <- err
	})
	client := dial(t, l)
	c := <-reading
	c.Cut()
	c.Cut()
	if err := <-ended; err == nil {
		t.Error("the read went on")
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer saw %v, want a reset", err)
	}
}

func TestCloseCutsEveryConnectionAndWaitsForItsHead(t *testing.T) {
	reading, ended := make(chan struct{}), make(chan struct{}, 3)
	l := open(t, nil, func(c *Conn) {
		reading <- struct{}{}
		_, _ = c.Read(make([]byte, 1))
		ended <- struct{}{}
	})
	for range 3 {
		dial(t, l)
		<-reading
	}
	l.Close()
	if len(ended) != 3 {
		t.Errorf("%d of 3 heads had ended", len(ended))
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the door is still open")
	}
}

func TestBadHandshakeHarmsNobodyElse(t *testing.T) {
	served := make(chan struct{}, 1)
	l := open(t, selfSigned(t), func(*Conn) { served <- struct{}{} })
	silent, garbage := dial(t, l), dial(t, l)
	_ = silent // says nothing, and is cut when the door closes
	if _, err := garbage.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, garbage); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	good, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	<-served
}

func TestListenSaysWhichDoorCannotOpen(t *testing.T) {
	l := open(t, nil, func(*Conn) {})
	if _, err := Listen(context.Background(), MQTT, l.Addr().String(), nil, discard); !errors.Is(err, syscall.EADDRINUSE) || err.Error()[:18] != "open the mqtt door" {
		t.Errorf("a taken port: %v", err)
	}
}

func TestEveryDoorHasAName(t *testing.T) {
	seen := map[string]bool{}
	for d := MQTT; d <= Control; d++ {
		if seen[d.String()] || d.String() == "unknown" {
			t.Errorf("door %d is called %q", d, d)
		}
		seen[d.String()] = true
	}
	if Door(0).String() != "unknown" || Door(200).String() != "unknown" {
		t.Error("no door has a name")
	}
}
