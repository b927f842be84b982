package amqp10

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/clock"
)

func selfSigned(b testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: clock.Wall().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		b.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTLS measures acknowledged messages over TLS on loopback, client included, on 10 connections: flood writes 16
// together, each writes 16 TLS records, w1 one at a time. The CPU time per message is what survives a noisy machine.
func BenchmarkTLS(b *testing.B) {
	for _, mode := range []struct {
		name             string
		inFlight, record int
	}{{"flood", 16, 16}, {"each", 16, 1}, {"w1", 1, 1}} {
		b.Run(mode.name, func(b *testing.B) { benchmarkTLS(b, mode.inFlight, mode.record) })
	}
}

func benchmarkTLS(b *testing.B, inFlight, perRecord int) {
	const conns = 10
	config := &tls.Config{Certificates: []tls.Certificate{selfSigned(b)}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := NewServer(Config{CreditWindow: 1 << 20, IncomingWindow: 1 << 20, MaxUnsettledPerLink: 1 << 20})
	var serving sync.WaitGroup
	serving.Add(conns)
	go func() {
		for range conns {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer serving.Done()
				server.ServeConn(tls.Server(nc, config), accepter{b})
			}()
		}
	}()
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for range conns {
		ready.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			nc, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				b.Error(err)
				return
			}
			defer nc.Close()
			r := &rawClient{t: b, nc: nc}
			r.send(amqpHeader, fr(0, descOpen, "bench"), begin(0), attachSender("l", 0))
			r.header(0)
			for _, desc := range []uint64{descOpen, descBegin, descAttach, descFlow} {
				r.expect(desc)
			}
			ready.Done()
			<-start
			drive(b, r, b.N/conns+1, inFlight, perRecord)
		}()
	}
	ready.Wait()
	b.ResetTimer()
	before := cpuTime()
	close(start)
	done.Wait()
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/1e3, "cpu-us/msg")
	ln.Close()
	serving.Wait()
}

// drive sends n messages, inFlight at a time, and waits for the acknowledgement of each lot.
func drive(b *testing.B, r *rawClient, n, inFlight, perRecord int) {
	one := frp(0, descTransfer, telemetryPayload(b), uint32(0), uint32(1<<30), []byte("0123456789abcdef"), uint32(0), false)
	at := bytes.Index(one, []byte{codeUint, 0x40, 0, 0, 0}) + 1
	record := bytes.Repeat(one, perRecord)
	id, acked := uint32(1<<30), uint32(1<<30)
	in := make([]byte, 64<<10)
	have := 0
	for sent := 0; sent < n; sent += inFlight {
		for range inFlight / perRecord {
			for i := range perRecord {
				be.PutUint32(record[i*len(one)+at:], id)
				id++
			}
			if _, err := r.nc.Write(record); err != nil {
				b.Error(err)
				return
			}
		}
		for acked != id {
			m, err := r.nc.Read(in[have:])
			if err != nil {
				b.Error(err)
				return
			}
			have += m
			used := 0
			for have-used >= 8 && have-used >= int(be.Uint32(in[used:])) {
				size := int(be.Uint32(in[used:]))
				if in[used+10] == descDisposition {
					d := newDecoder(in[used+8:used+size], Limits{})
					d.descriptor()
					var p dispositionFrame
					p.decode(&d)
					acked = p.last + 1
				}
				used += size
			}
			have = copy(in, in[used:have])
		}
	}
}
