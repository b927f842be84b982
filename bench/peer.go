package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// runPeer is the program that the emulator is compared with: no rules, no memory, the least that answers. It ends with SIGTERM.
func runPeer(args []string) error {
	flags := flag.NewFlagSet("peer", flag.ContinueOnError)
	kind := flags.String("kind", "", "mqtt, gathered, mochi, mochi-ws, http or start")
	address := flags.String("address", "127.0.0.1:0", "address and port to listen on; only the address for start")
	control := flags.String("control", "", "of start: where GET /readyz is answered")
	certs := flags.String("certs", "", "directory of "+certFile+" and "+keyFile)
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	cert, err := tls.LoadX509KeyPair(filepath.Join(*certs, certFile), filepath.Join(*certs, keyFile))
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	switch *kind {
	case "mqtt":
		return serveTLS(ctx, *address, config, answerEach)
	case "gathered":
		return serveTLS(ctx, *address, config, answerGathered)
	case "mochi":
		return serveMochi(ctx, listeners.NewTCP(listeners.Config{ID: "mqtt", Address: *address, TLSConfig: config}))
	case "mochi-ws":
		return serveMochi(ctx, listeners.NewWebsocket(listeners.Config{ID: "mqtt", Address: *address, TLSConfig: config}))
	case "http":
		return serveNoContent(ctx, *address, config)
	case "start":
		return serveStart(ctx, *address, *control, config)
	}
	return fmt.Errorf("there is no peer of the kind %q", *kind)
}

// serveTLS hands every connection to head until ctx ends.
func serveTLS(ctx context.Context, address string, config *tls.Config, head func(net.Conn)) error {
	l, err := tls.Listen("tcp", address, config)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go func() { // ends with the connection
			defer func() { _ = c.Close() }()
			head(c)
		}()
	}
}

// serveMochi is a bare mochi that lets everybody in.
func serveMochi(ctx context.Context, l listeners.Listener) error {
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return err
	}
	if err := server.AddListener(l); err != nil {
		return err
	}
	if err := server.Serve(); err != nil {
		return err
	}
	<-ctx.Done()
	return server.Close()
}

// serveNoContent answers every request with 204, once it has read the body.
func serveNoContent(ctx context.Context, address string, config *tls.Config) error {
	l, err := tls.Listen("tcp", address, config)
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	})}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	_ = server.Serve(l)
	return nil
}

// serveStart opens three TLS ports and says when they are open.
func serveStart(ctx context.Context, address, control string, config *tls.Config) error {
	for range 3 {
		l, err := tls.Listen("tcp", net.JoinHostPort(address, "0"), config)
		if err != nil {
			return err
		}
		go func() { // ends with the process
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_ = c.Close()
			}
		}()
	}
	server := &http.Server{Addr: control, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	_ = server.ListenAndServe()
	return nil
}

// answerEach answers what one read brought with one write, on the goroutine that reads.
func answerEach(c net.Conn) {
	var out []byte
	_ = readPackets(c, func(answer []byte) { out = append(out, answer...) }, func() error {
		if len(out) == 0 {
			return nil
		}
		_, err := c.Write(out)
		out = out[:0]
		return err
	})
}

// answerGathered has a second goroutine write, which takes all answers that became ready while it wrote the last ones.
func answerGathered(c net.Conn) {
	var (
		mu     sync.Mutex
		ready  = sync.NewCond(&mu)
		out    []byte
		closed bool
		writer sync.WaitGroup
	)
	writer.Go(func() {
		var batch []byte
		for {
			mu.Lock()
			for len(out) == 0 && !closed {
				ready.Wait()
			}
			batch, out = out, batch[:0]
			mu.Unlock()
			if len(batch) == 0 {
				return
			}
			if _, err := c.Write(batch); err != nil {
				return
			}
		}
	})
	_ = readPackets(c, func(answer []byte) {
		mu.Lock()
		out = append(out, answer...)
		mu.Unlock()
	}, func() error {
		ready.Signal()
		return nil
	})
	mu.Lock()
	closed = true
	mu.Unlock()
	ready.Signal()
	writer.Wait()
}

// readPackets answers MQTT packets until the connection ends; flush is called when all that came has been answered.
func readPackets(c net.Conn, answer func([]byte), flush func() error) error {
	in := make([]byte, 16<<10)
	have := 0
	for {
		n, err := c.Read(in[have:])
		if err != nil {
			return err
		}
		have += n
		used := 0
		for size := mqttSize(in[:have]); size > 0; size = mqttSize(in[used:have]) {
			answer(mqttAnswer(in[used : used+size]))
			used += size
		}
		have = copy(in, in[used:have])
		if err := flush(); err != nil || have == len(in) { // a packet that is too long
			return err
		}
	}
}

// mqttAnswer is the answer to one packet, nil when there is none.
func mqttAnswer(packet []byte) []byte {
	switch packet[0] >> 4 {
	case 1: // CONNECT
		return []byte{0x20, 2, 0, 0}
	case 3: // PUBLISH
		head := 2
		for packet[head-1] >= 0x80 {
			head++
		}
		if head+2 > len(packet) {
			return nil // garbage
		}
		id := head + 2 + int(packet[head])<<8 + int(packet[head+1])
		if id+2 > len(packet) {
			return nil
		}
		return []byte{0x40, 2, packet[id], packet[id+1]}
	case 8: // SUBSCRIBE, of one filter, with one byte of length
		if len(packet) < 4 {
			return nil
		}
		return []byte{0x90, 3, packet[2], packet[3], 0}
	}
	return nil
}
