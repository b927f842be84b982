package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/auth"
)

const (
	apiVersion = "2021-04-12"
	tokenLife  = 6 * time.Hour
	// readyLimit is how long a server may take to answer for the first time.
	readyLimit = 30 * time.Second
	// bulkSize is the most devices of one request.
	bulkSize = 100
	// bulkWidth is how many such requests are under way at the same time, so that the server never waits for the next.
	bulkWidth = 4
)

// deviceKey is the key of every device that we make.
var deviceKey = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x42}, 32))

// info is what we need of GET /iolite/v1/info.
type info struct {
	Version  string `json:"version"`
	Hub      string `json:"hub"`
	Hostname string `json:"hostname"`
	Bind     string `json:"bind"`
	Doors    []struct {
		Name string `json:"name"`
		Port int    `json:"port"`
	} `json:"doors"`
	Policies []struct {
		Name       string `json:"name"`
		PrimaryKey string `json:"primaryKey"`
	} `json:"policies"`
}

// emulator is a real emulator process.
type emulator struct {
	*process
	control    string // address of the control API
	info       info
	tls        *tls.Config
	partitions int
	registered int        // devices 0 to registered-1 exist
	silent     []net.Conn // devices that are connected while others send
}

// launch starts the program on free ports of address with the CA in certs and more flags, and waits until it is ready.
func launch(ctx context.Context, program, address, certs string, flags ...string) (*emulator, error) {
	control, err := freeAddress(address)
	if err != nil {
		return nil, err
	}
	p, err := start(program, append(emulatorFlags(address, control, certs), flags...)...)
	if err != nil {
		return nil, err
	}
	if _, err := p.awaitReady(control, time.Millisecond); err != nil {
		p.stop()
		return nil, err
	}
	e, err := attach(ctx, p, control, 4)
	if err != nil {
		p.stop()
	}
	return e, err
}

func emulatorFlags(address, control, certs string) []string {
	return []string{"serve", "--bind", address, "--control", control, "--certs-dir", certs, "--log-level", "warn",
		"--mqtt-port", "0", "--amqp-port", "0", "--https-port", "0", "--eventhub-port", "0", "--partitions", "4"}
}

// attach gets to know a running emulator.
func attach(ctx context.Context, p *process, control string, partitions int) (*emulator, error) {
	e := &emulator{process: p, control: control, partitions: partitions}
	text, err := get(ctx, "http://"+control+"/iolite/v1/info")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &e.info); err != nil {
		return nil, err
	}
	pem, err := get(ctx, "http://"+control+"/iolite/v1/ca.pem")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("ca.pem holds no certificate")
	}
	e.tls = clientConfig(roots, e.info.Hostname)
	return e, nil
}

// clientConfig is the handshake that today's SDKs do. Records are as long as what is written.
func clientConfig(roots *x509.CertPool, name string) *tls.Config {
	return &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
		SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true}
}

// address returns where a door is.
func (e *emulator) address(door string) string {
	for _, d := range e.info.Doors {
		if d.Name == door {
			return net.JoinHostPort(e.info.Bind, strconv.Itoa(d.Port))
		}
	}
	return ""
}

// deviceID names a device that we made.
func deviceID(i int) string { return fmt.Sprintf("bench-%05d", i) }

// deviceToken returns a token of a device.
func (e *emulator) deviceToken(i int) (string, error) {
	return auth.NewToken(e.info.Hostname+"/devices/"+deviceID(i), deviceKey, "", until(tokenLife))
}

// ownerClaim is a token of the policy with every right.
func (e *emulator) ownerClaim(path string) (claim, error) {
	for _, p := range e.info.Policies {
		if p.Name == "iothubowner" {
			resource := e.info.Hostname + "/" + path
			token, err := auth.NewToken(resource, p.PrimaryKey, p.Name, until(tokenLife))
			return claim{resource, token}, err
		}
	}
	return claim{}, errors.New("the hub has no policy iothubowner")
}

// register makes sure that devices 0 to n-1 exist. When it fails, some of them may.
func (e *emulator) register(ctx context.Context, n int) error {
	first := e.registered
	if n <= first {
		return nil
	}
	client := e.restClient()
	defer client.CloseIdleConnections()
	requests := (n - first + bulkSize - 1) / bulkSize
	err := inParallel(requests, bulkWidth, func(i int) error {
		return e.bulk(ctx, client, "createOrUpdate", first+i*bulkSize, min(first+(i+1)*bulkSize, n))
	})
	if err != nil {
		return fmt.Errorf("register devices: %w", err)
	}
	e.registered = n
	return nil
}

// restClient is a client of a back end, with as many connections as are used at the same time.
func (e *emulator) restClient() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: e.tls, MaxIdleConnsPerHost: bulkWidth}}
}

// cleanUp removes our devices from an emulator that is not ours.
func (e *emulator) cleanUp(ctx context.Context) error {
	if e.cmd != nil {
		return nil
	}
	client := e.restClient()
	defer client.CloseIdleConnections()
	for first := 0; first < e.registered; first += bulkSize {
		if err := e.bulk(ctx, client, "delete", first, min(first+bulkSize, e.registered)); err != nil {
			return err
		}
	}
	return nil
}

// bulk does one operation on devices first to end-1.
func (e *emulator) bulk(ctx context.Context, client *http.Client, mode string, first, end int) error {
	items := make([]any, 0, bulkSize)
	for i := first; i < end; i++ {
		keys := map[string]string{"primaryKey": deviceKey, "secondaryKey": deviceKey}
		items = append(items, map[string]any{"id": deviceID(i), "importMode": mode, "status": "enabled",
			"authentication": map[string]any{"type": "sas", "symmetricKey": keys}})
	}
	text, err := json.Marshal(items)
	if err != nil {
		return err
	}
	claim, err := e.ownerClaim("")
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+e.address("https")+"/devices?api-version="+apiVersion, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", claim.token)
	_, err = do(client, request)
	return err
}

func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return do(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, request)
}

func do(c *http.Client, request *http.Request) ([]byte, error) {
	answer, err := c.Do(request)
	if err != nil {
		return nil, err
	}
	text, err := readAll(answer)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", request.Method, request.URL.Path, answer.Status, text)
	}
	return text, err
}

func readAll(answer *http.Response) ([]byte, error) {
	defer func() { _ = answer.Body.Close() }()
	return io.ReadAll(io.LimitReader(answer.Body, 1<<20))
}

// freeAddress returns address with a port that was free a moment ago.
func freeAddress(address string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// build compiles the command of the module above into dir.
func build(ctx context.Context, dir string) (string, error) {
	const module = "github.com/iolite-emulator/iolite"
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("find %s (run this in its directory bench): %w", module, err)
	}
	program := filepath.Join(dir, "emulator")
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./cmd/emulator")
	command.Dir = strings.TrimSpace(string(root))
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the emulator: %w: %s", err, text)
	}
	return program, nil
}
