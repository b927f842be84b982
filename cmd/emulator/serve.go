package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/lmittmann/tint"

	"github.com/iolite-emulator/iolite"
	"github.com/iolite-emulator/iolite/certs"
	"github.com/iolite-emulator/iolite/hub"
)

// serveCmd are the flags of serve; their names are also the keys of the --config file.
type serveCmd struct {
	Config string `type:"existingfile" help:"YAML file with these flags as keys; a flag or a variable overrides it." placeholder:"FILE"`

	Bind         string   `default:"127.0.0.1" help:"Address of the five doors."`
	Hostname     string   `default:"localhost" help:"Host name printed in connection strings. Certificates are minted for whatever name the client asks for."`
	MQTTPort     port     `name:"mqtt-port" default:"8883" help:"Port of MQTT over TLS: a number, 0 for any free port, or off."`
	AMQPPort     port     `name:"amqp-port" default:"5671" help:"Port of AMQP over TLS."`
	HTTPSPort    port     `name:"https-port" default:"443" help:"Port of HTTPS and of MQTT and AMQP over WebSocket."`
	EventhubPort port     `name:"eventhub-port" default:"5672" help:"Port of plain AMQP, for UseDevelopmentEmulator=true clients."`
	StrictPorts  bool     `help:"Fail when a port needs a right we do not have, instead of moving that door to a free port."`
	Control      string   `default:"127.0.0.1:8088" help:"Address of the control API and dashboard, or off."`
	ControlHost  []string `help:"Further host name that the control API answers to; repeatable." placeholder:"NAME"`

	Device           []string      `help:"Create a device at start; repeatable. Its keys are derived from a fixed secret, so they never change." placeholder:"NAME"`
	Seed             string        `type:"existingfile" help:"YAML file of devices, modules and messages to load before the doors open." placeholder:"FILE"`
	HTTPPoll         hub.PollMode  `name:"http-poll" default:"enforce" enum:"enforce,log,off" help:"What happens to a device that polls over HTTP too often: enforce (429), log or off."`
	HTTPPollInterval time.Duration `name:"http-poll-interval" default:"25m" help:"How often a device may poll."`
	FailOnViolation  bool          `help:"Exit with status 3 if any poll violation happened."`
	Partitions       int           `default:"4" help:"Partitions of the event log, 1 to 32."`
	Retain           int64         `default:"128" help:"Telemetry kept in memory, in MiB; the oldest goes first."`
	Retention        time.Duration `default:"24h" help:"How long telemetry is kept at most, by the hub's clock: 24h to 168h."`
	ConsumerGroup    []string      `help:"Consumer group of the Event Hubs-compatible endpoint, besides $$Default; repeatable." placeholder:"NAME"`

	Storage          string        `help:"Connection string of a storage account, or of Azurite over HTTPS, that file uploads go to; without it, the HTTPS door keeps them." placeholder:"STRING"`
	StorageContainer string        `default:"uploads" help:"Container that file uploads go to."`
	DataDir          string        `type:"path" help:"Where the HTTPS door keeps uploaded files; without it, in memory." placeholder:"DIR"`
	BlobSpace        int64         `default:"1024" help:"Space for uploaded files, in MiB."`
	UploadTTL        time.Duration `name:"upload-ttl" default:"1h" help:"Life of the SAS URI of a file upload, 1m to 24h."`

	Auth            string   `default:"strict" enum:"strict,off" help:"strict, or off to accept any credential."`
	X509CA          []string `name:"x509-ca" env:"IOLITE_X509_CA" type:"existingfile" help:"PEM file of a CA whose device certificates the hub accepts; repeatable." placeholder:"FILE"`
	TrustCA         []string `name:"trust-ca" env:"IOLITE_TRUST_CA" type:"existingfile" help:"PEM file of a CA that endpoints and storage elsewhere may have their certificates from, besides the system's; repeatable." placeholder:"FILE"`
	CertsDir        string   `default:"${certsDir}" help:"Where the development CA is kept."`
	CAUnconstrained bool     `name:"ca-unconstrained" help:"Make a CA without name constraints, for clients that cannot cope with them."`
	LogFormat       string   `default:"text" enum:"text,json" help:"text or json."`
	LogLevel        string   `default:"info" enum:"debug,info,warn,error" help:"debug, info, warn or error."`
}

// port is a port number, 0 for any, or "off".
type port iolite.Port

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *port) UnmarshalText(text []byte) error {
	if string(text) == "off" {
		*p = port(iolite.Off)
		return nil
	}
	n, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil {
		return fmt.Errorf("%q is neither a port number nor off", text)
	}
	*p = port(n)
	return nil
}

// defaultCertsDir is where the CA is kept unless told otherwise; empty when the user has no configuration directory.
func defaultCertsDir() string {
	dir, err := certs.DefaultDir()
	if err != nil {
		return ""
	}
	return dir
}

// maxRetain is the most that --retain and --blob-space take, in MiB: a terabyte.
const maxRetain = 1 << 20

// Validate implements kong.Validatable. Zero is a default for iolite.Options, but bad usage here: it would not do what it says.
func (s *serveCmd) Validate() error {
	switch {
	case s.Partitions < 1 || s.Partitions > 32:
		return fmt.Errorf("partitions: %d is not between 1 and 32", s.Partitions)
	case s.Retain < 1 || s.Retain > maxRetain:
		return fmt.Errorf("retain: %d is not between 1 and %d MiB", s.Retain, maxRetain)
	case s.Retention < hub.MinRetention || s.Retention > hub.MaxRetention:
		return fmt.Errorf("retention: %v is not between %v and %v", s.Retention, hub.MinRetention, hub.MaxRetention)
	case s.BlobSpace < 1 || s.BlobSpace > maxRetain:
		return fmt.Errorf("blob-space: %d is not between 1 and %d MiB", s.BlobSpace, maxRetain)
	case s.UploadTTL < time.Minute || s.UploadTTL > 24*time.Hour:
		return fmt.Errorf("upload-ttl: %v is not between 1m and 24h", s.UploadTTL)
	case s.HTTPPollInterval <= 0:
		return fmt.Errorf("http-poll-interval: %v is no time to wait; --http-poll off is the way to switch the rule off", s.HTTPPollInterval)
	}
	return nil
}

// Run serves until it is interrupted.
func (s *serveCmd) Run(a *app) error {
	o, err := s.options(a.stderr)
	if err != nil {
		return err
	}
	if s.Seed != "" {
		f, err := os.Open(s.Seed)
		if err != nil {
			return err
		}
		defer f.Close()
		o.Seed = f
	}
	var violations atomic.Int64
	o.OnViolation = func(hub.Violation) { violations.Add(1) }
	if s.Auth == "off" {
		o.Logger.Warn("authentication is off: every client is believed to be who it says it is")
	}
	e, err := iolite.Start(a.ctx, o)
	if err != nil {
		return err
	}
	defer e.Close()
	if err := greet(a.stdout, e, greetFlags{s.Control, s.CertsDir}); err != nil {
		return err
	}
	tidyMemory(a.ctx) // until it is interrupted
	if n := violations.Load(); n > 0 && s.FailOnViolation {
		return exitError{exitViolation, fmt.Errorf("%d HTTP poll violations, see the log", n)}
	}
	return nil
}

func (s *serveCmd) options(stderr io.Writer) (iolite.Options, error) {
	cas, err := readCAs(s.X509CA)
	if err != nil {
		return iolite.Options{}, err
	}
	trusted, err := readCAs(s.TrustCA)
	if err != nil {
		return iolite.Options{}, err
	}
	return iolite.Options{
		Bind: s.Bind, Hostname: s.Hostname, StrictPorts: s.StrictPorts, Control: s.Control, ControlHosts: s.ControlHost,
		MQTT: iolite.Port(s.MQTTPort), AMQP: iolite.Port(s.AMQPPort), HTTPS: iolite.Port(s.HTTPSPort), EventHub: iolite.Port(s.EventhubPort),
		Devices: s.Device, SeedName: s.Seed, HTTPPoll: s.HTTPPoll, HTTPPollInterval: s.HTTPPollInterval,
		Partitions: s.Partitions, EventBytes: s.Retain << 20, Retention: s.Retention, ConsumerGroups: s.ConsumerGroup, AuthOff: s.Auth == "off",
		Storage: s.Storage, StorageContainer: s.StorageContainer, DataDir: s.DataDir, BlobBytes: s.BlobSpace << 20, UploadTTL: s.UploadTTL,
		CertsDir: s.CertsDir, Unconstrained: s.CAUnconstrained, CAs: cas, TrustedCAs: trusted,
		Logger: newLogger(stderr, s.LogFormat, s.LogLevel), Version: version(),
	}, nil
}

// newLogger writes to w; level is one of the flag's words.
func newLogger(w io.Writer, format, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo // kong has checked the word
	}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{Level: l, NoColor: !isTerminal(w), TimeFormat: "15:04:05.000"}))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// readCAs reads every certificate of the PEM files.
func readCAs(files []string) ([]*x509.Certificate, error) {
	var cas []*x509.Certificate
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		found, err := parseCAs(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		cas = append(cas, found...)
	}
	return cas, nil
}

func parseCAs(text []byte) ([]*x509.Certificate, error) {
	var cas []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		cas = append(cas, ca)
	}
	if len(cas) == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	return cas, nil
}
