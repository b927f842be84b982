package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// garbageRate is how many bytes a second go to each door.
	garbageRate = 1 << 20
	// garbageChunk is what one connection carries at most; the server ends most of them long before.
	garbageChunk = 64 << 10
	// abuserLimit bounds a connection of an abuser.
	abuserLimit = time.Minute
	// stuckKind and deafKind are abuses that only an IoT Hub can suffer.
	stuckKind, deafKind = "stuck", "deaf"
	// deafDevices are devices that ask and never read what is answered.
	deafDevices = 50
	// deafPad is how many bytes a reported property of theirs has, and deafPause lies between two requests.
	deafPad, deafPause = 4000, 10 * time.Millisecond
	// stuckReaders are readers that take nothing.
	stuckReaders = 8
)

// victim is a server as an abuser sees it.
type victim struct {
	secure  []string // addresses of doors with TLS
	plain   []string // and of those without
	tls     *tls.Config
	connect func(i int) (net.Conn, error) // a device that is silent
}

// victim is the emulator with all its doors. Device 0 is left to the client that is watched.
func (e *emulator) victim() *victim {
	return &victim{
		secure: []string{e.address("mqtt"), e.address("amqp"), e.address("https")}, plain: []string{e.address("eventhub")},
		tls: e.tls, connect: func(i int) (net.Conn, error) { return e.connectIdle(1 + i) },
	}
}

// peerVictim is a peer that speaks MQTT at address, with the certificate in dir.
func peerVictim(address, dir string) (*victim, error) {
	pem, err := os.ReadFile(filepath.Join(dir, certFile))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config := clientConfig(roots, "localhost")
	p := &peerProcess{address: address}
	return &victim{secure: []string{address}, tls: config, connect: func(i int) (net.Conn, error) { return p.connectIdle(config, 1+i) }}, nil
}

// abuse is what an abuser process does to a server until it is stopped.
type abuse struct {
	name    string
	kind    string
	n       int // connections, where the kind has a number of them
	devices int // that are registered for it
	stored  int // events that are stored before
}

// abuses is the table of what is done. A number of connections that the limit of open files does not allow is lowered.
func (b *bench) abuses(limit int) []abuse {
	open := min(b.halfOpen, limit-spareFiles)
	if open < b.halfOpen {
		fmt.Fprintf(os.Stderr, "%d half-open handshakes need more open files than the limit of %d: there are %d\n", b.halfOpen, limit, open)
	}
	storm := min(b.storm, limit-spareFiles)
	return []abuse{
		{name: fmt.Sprintf("%d half-open TLS handshakes", open), kind: "half-open", n: open},
		{name: fmt.Sprintf("%d readers that take nothing", stuckReaders), kind: stuckKind, n: stuckReaders, stored: abuseStored},
		{name: fmt.Sprintf("%d devices that never read an answer", deafDevices), kind: deafKind, n: deafDevices, devices: deafDevices},
		{name: fmt.Sprintf("%d devices that reconnect", storm), kind: "storm", n: storm, devices: storm},
		{name: "1 MiB/s of garbage on each door, before TLS", kind: "garbage"},
		{name: "1 MiB/s of garbage on each door, within TLS", kind: "garbage-tls"},
	}
}

// runAbuser is the program that does one abuse. It ends with SIGTERM, and says on standard error what it did.
func runAbuser(args []string) error {
	flags := flag.NewFlagSet("abuser", flag.ContinueOnError)
	kind := flags.String("kind", "", "half-open, stuck, deaf, storm, garbage or garbage-tls")
	control := flags.String("control", "", "control `address` of the emulator")
	peer := flags.String("peer", "", "or `address` of a peer that speaks MQTT")
	certs := flags.String("certs", "", "its certificate's `directory`")
	n := flags.Int("n", 1, "connections")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if _, err := raiseFileLimit(); err != nil {
		return err
	}
	var done tally
	if err := doAbuse(ctx, *kind, *control, *peer, *certs, *n, &done); err != nil {
		return err
	}
	_, err := fmt.Fprintln(os.Stderr, done.String())
	return err
}

// doAbuse finds the victim, and does one kind of abuse to it until ctx ends.
func doAbuse(ctx context.Context, kind, control, peer, certs string, n int, done *tally) error {
	if peer != "" {
		v, err := peerVictim(peer, certs)
		if err != nil {
			return err
		}
		return v.suffer(ctx, kind, n, done)
	}
	e, err := attach(ctx, &process{}, control, 4)
	if err != nil {
		return err
	}
	if kind == stuckKind {
		return e.takeNothing(ctx, n, done)
	}
	return e.victim().suffer(ctx, kind, n, done)
}

// suffer does one kind of abuse.
func (v *victim) suffer(ctx context.Context, kind string, n int, done *tally) error {
	switch kind {
	case "half-open":
		return v.halfOpen(ctx, n, done)
	case deafKind:
		return v.neverRead(ctx, n, done)
	case "storm":
		return v.storm(ctx, n, done)
	case "garbage", "garbage-tls":
		return v.garbage(ctx, kind == "garbage-tls", done)
	}
	return fmt.Errorf("there is no abuse of the kind %q", kind)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// halfOpen holds n connections on which a handshake was begun; what the server ends is begun again.
func (v *victim) halfOpen(ctx context.Context, n int, done *tally) error {
	hello, err := clientHello()
	if err != nil {
		return err
	}
	return untilDone(ctx, n, func(i int) error {
		c, err := net.Dial("tcp", v.secure[i%len(v.secure)])
		if err != nil {
			return err
		}
		defer context.AfterFunc(ctx, func() { _ = c.Close() })()
		defer func() { _ = c.Close() }()
		if _, err := c.Write(hello[:len(hello)/2]); err != nil {
			return err
		}
		done.add("begun", 1)
		if _, err := c.Read(make([]byte, 1)); ctx.Err() == nil {
			done.add("ended by the server", 1)
			return err
		}
		return nil
	}, done)
}

// clientHello is what a TLS client says first.
func clientHello() ([]byte, error) {
	server, client := net.Pipe()
	defer func() { _ = server.Close() }()
	go func() { // ends with the pipe
		_ = tls.Client(client, &tls.Config{ServerName: "localhost"}).Handshake()
		_ = client.Close()
	}()
	b := make([]byte, 16<<10)
	n, err := server.Read(b)
	return b[:n], err
}

// takeNothing attaches n readers from the first event on.
func (e *emulator) takeNothing(ctx context.Context, n int, done *tally) error {
	closeAll, err := e.attachStuck(n, true)
	defer closeAll()
	if err != nil {
		return err
	}
	done.add("readers", n)
	<-ctx.Done()
	return nil
}

// neverRead has n devices report much, ask for their twins again and again, and never read an answer, so that the answers soon fill what lies
// between them and the server. What the server ends is begun again.
func (v *victim) neverRead(ctx context.Context, n int, done *tally) error {
	pad := strings.Repeat("x", deafPad)
	report := publishPacket("$iothub/twin/PATCH/properties/reported/?$rid=1", fmt.Appendf(nil, `{"a":%q,"b":%q}`, pad, pad))
	request := publishPacket("$iothub/twin/GET/?$rid=2", nil)
	return untilDone(ctx, n, func(i int) error {
		device, err := v.connect(i)
		if err != nil {
			return err
		}
		c := device.(*tls.Conn)
		tcp := c.NetConn().(*net.TCPConn)
		defer context.AfterFunc(ctx, func() { _ = tcp.Close() })()
		defer func() { _ = tcp.Close() }()
		if err := errors.Join(mqttSubscribe(c, "$iothub/twin/res/#"), tcp.SetReadBuffer(stuckBuffer)); err != nil {
			return err
		}
		if _, err := c.Write(report); err != nil {
			return err
		}
		pace := time.NewTicker(deafPause)
		defer pace.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-pace.C:
			}
			if _, err := c.Write(request); err != nil {
				done.add("ended by the server", 1)
				return err
			}
			done.add("requests", 1)
		}
	}, done)
}

// storm connects n devices, cuts all of them when all are there, and begins again.
func (v *victim) storm(ctx context.Context, n int, done *tally) error {
	for ctx.Err() == nil {
		conns := make([]net.Conn, n)
		err := inParallel(n, n, func(i int) (err error) {
			if ctx.Err() != nil {
				return nil
			}
			conns[i], err = v.connect(i)
			if err == nil {
				done.add("connected", 1)
			}
			return err
		})
		for _, c := range conns {
			if c != nil {
				_ = c.(*tls.Conn).NetConn().Close() // as a network that fails, without a word
			}
		}
		if err != nil {
			done.add("rounds that failed: "+err.Error(), 1)
			continue
		}
		if ctx.Err() == nil {
			done.add("storms", 1)
		}
	}
	return nil
}

// garbage writes random bytes to every door, as much as garbageRate allows, on one connection after the other.
func (v *victim) garbage(ctx context.Context, inside bool, done *tally) error {
	addresses := v.secure
	if !inside {
		addresses = slices.Concat(v.secure, v.plain)
	}
	random := rand.NewChaCha8([32]byte{1})
	chunks := make([][]byte, len(addresses))
	for i := range chunks {
		chunks[i] = make([]byte, garbageChunk)
		_, _ = random.Read(chunks[i])
	}
	return untilDone(ctx, len(addresses), func(i int) error {
		next := time.After(time.Second * garbageChunk / garbageRate)
		n, err := v.throwAt(ctx, addresses[i], chunks[i], inside)
		done.add("connections", 1)
		done.add("bytes taken", n)
		select {
		case <-ctx.Done():
		case <-next:
		}
		return err
	}, done)
}

// throwAt writes a chunk on a connection of its own and waits for what the server says to it. That it ends the connection is no error.
func (v *victim) throwAt(ctx context.Context, address string, chunk []byte, inside bool) (int, error) {
	nc, err := (&net.Dialer{Timeout: abuserLimit}).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	defer func() { _ = nc.Close() }()
	c := nc
	if inside {
		secure := tls.Client(nc, v.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return 0, err
		}
		c = secure
	}
	n, _ := c.Write(chunk)
	_ = nc.SetReadDeadline(until(time.Second))
	_, _ = io.Copy(io.Discard, c)
	return n, nil
}

// untilDone does something over and over, width times at once, until ctx ends. What fails is counted, and done again a little later.
func untilDone(ctx context.Context, width int, do func(i int) error, done *tally) error {
	var wg sync.WaitGroup
	for i := range width {
		wg.Go(func() {
			for ctx.Err() == nil {
				err := do(i)
				if err == nil || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || ctx.Err() != nil {
					continue
				}
				done.add("failed", 1)
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
	}
	wg.Wait()
	return nil
}
