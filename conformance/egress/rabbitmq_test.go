package egress

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/hub"
)

// The ports of the broker: AMQP, Erlang's name service, and its distribution.
const brokerPort, epmdPort, distPort = "35672", "35673", "35674"

// definitions are a user, a durable queue, and one that the topic exchange fills.
const definitions = `{
	"users": [{"name": "iolite", "password": "s3cret", "tags": ""}], "vhosts": [{"name": "/"}],
	"permissions": [{"user": "iolite", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
	"queues": [
		{"name": "routed", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}},
		{"name": "alerts", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}},
		{"name": "full", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {"x-max-length": 2, "x-overflow": "reject-publish"}}
	],
	"exchanges": [], "parameters": [], "policies": [],
	"bindings": [{"source": "amq.topic", "vhost": "/", "destination": "alerts", "destination_type": "queue", "routing_key": "alerts.#", "arguments": {}}]
}`

// rabbit is a RabbitMQ of the test's own, whose queues survive when it is killed.
type rabbit struct {
	root, dir string
	epmd      *exec.Cmd
	broker    *exec.Cmd
	log       lockedBuffer
}

// newRabbit starts one that ends with the test.
func newRabbit(t *testing.T) *rabbit {
	t.Helper()
	b := &rabbit{root: os.Getenv("IOLITE_RABBITMQ"), dir: t.TempDir()}
	if b.root == "" {
		lacks(t, "RabbitMQ (Debian: rabbitmq-server)")
	}
	erts, err := filepath.Glob(filepath.Join(b.root, "usr/lib/erlang/erts-*/bin"))
	home, err2 := filepath.Glob(filepath.Join(b.root, "usr/lib/rabbitmq/lib/rabbitmq_server-*"))
	if err != nil || err2 != nil || len(erts) != 1 || len(home) != 1 {
		t.Fatalf("not one Erlang and one RabbitMQ in %s: %v, %v", b.root, erts, home)
	}
	for name, text := range map[string]string{
		// Erlang wherever it is: Debian's own script looks in /usr/lib alone.
		"bin/erl":          "#!/bin/sh\nexport ROOTDIR=" + filepath.Join(b.root, "usr/lib/erlang") + " BINDIR=" + erts[0] + " EMU=beam PROGNAME=erl\nexec \"$BINDIR/erlexec\" \"$@\"\n",
		"rabbitmq.conf":    "listeners.tcp.1 = " + nearAddress + ":" + brokerPort + "\nloopback_users = none\nload_definitions = " + filepath.Join(b.dir, "definitions.json") + "\nlog.console = true\n",
		"definitions.json": definitions,
		"enabled_plugins":  "[rabbitmq_amqp1_0].\n",
		"env.conf":         "",
	} {
		path := filepath.Join(b.dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(text), 0o700))
	}
	b.epmd = b.command(filepath.Join(erts[0], "epmd"))
	b.broker = b.command(filepath.Join(b.root, "usr/lib/rabbitmq/bin/rabbitmq-server"))
	b.broker.Env = append(b.broker.Env, "RABBITMQ_HOME="+home[0])
	t.Cleanup(func() {
		b.kill()
		end(b.epmd)
		if t.Failed() {
			log := b.log.String()
			t.Logf("--- the end of the broker's log\n%s", log[max(0, len(log)-16<<10):])
		}
	})
	must(t, b.epmd.Start())
	eventually(t, "Erlang's name service answers", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+epmdPort)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	b.start(t)
	return b
}

// command runs a program of the broker in a process group of its own.
func (b *rabbit) command(path string) *exec.Cmd {
	c := exec.Command(path)
	c.Env = []string{
		"PATH=" + filepath.Join(b.dir, "bin") + ":" + os.Getenv("PATH"), "HOME=" + b.dir, "LANG=C.UTF-8", "RABBITMQ_NODENAME=egress@localhost", "RABBITMQ_DIST_PORT=" + distPort,
		"ERL_EPMD_PORT=" + epmdPort, "ERL_EPMD_ADDRESS=127.0.0.1", "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_CONFIG_FILE=" + filepath.Join(b.dir, "rabbitmq"), "RABBITMQ_CONF_ENV_FILE=" + filepath.Join(b.dir, "env.conf"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(b.dir, "enabled_plugins"), "RABBITMQ_MNESIA_BASE=" + filepath.Join(b.dir, "mnesia"), "RABBITMQ_LOG_BASE=" + filepath.Join(b.dir, "log"),
	}
	c.Stdout, c.Stderr = &b.log, &b.log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// start starts the broker, the first time or again, and waits until it takes clients.
func (b *rabbit) start(t *testing.T) {
	t.Helper()
	again := b.command(b.broker.Path)
	again.Env = b.broker.Env
	b.broker = again
	must(t, b.broker.Start())
	eventually(t, "RabbitMQ takes clients", func() bool {
		conn, err := amqp.Dial(t.Context(), "amqp://iolite:s3cret@"+nearAddress+":"+brokerPort, nil)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// kill ends the broker at once, with all that belongs to it.
func (b *rabbit) kill() { end(b.broker) }

func end(c *exec.Cmd) {
	if c.Process != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
	}
}

// to is the connection string of one of its nodes.
func (b *rabbit) to(path string) string {
	return "Endpoint=amqp://iolite:s3cret@" + nearAddress + ":" + brokerPort + ";EntityPath=" + path
}

// read calls each for the messages of a queue, which it takes from there, until each has enough.
func (b *rabbit) read(t *testing.T, queue string, each func(*amqp.Message) (enough bool)) {
	t.Helper()
	ctx := deadline(t)
	conn, err := amqp.Dial(ctx, "amqp://iolite:s3cret@"+nearAddress+":"+brokerPort, nil)
	must(t, err)
	defer conn.Close()
	session, err := conn.NewSession(ctx, nil)
	must(t, err)
	// The plugin now and then forgets to go on when credit is topped up, so all there may be is granted at once.
	r, err := session.NewReceiver(ctx, "/amq/queue/"+queue, &amqp.ReceiverOptions{Credit: 50_000})
	must(t, err)
	n := 0
	for {
		m, err := r.Receive(ctx, nil)
		if err != nil {
			all, _ := near.control.EndpointHealth(context.Background())
			t.Fatalf("%v, after %d messages; health: %+v", err, n, all)
		}
		n++
		must(t, r.AcceptMessage(ctx, m))
		if each(m) {
			return
		}
	}
}

func queues(name, connection string) hub.Endpoints {
	return hub.Endpoints{ServiceBusQueues: []hub.ServiceBusEndpoint{{Name: name, ConnectionString: connection}}}
}

// wantRouted compares a message of device d, number n, with what a queue of Service Bus gets.
func wantRouted(t *testing.T, d *device, n int, m *amqp.Message) {
	t.Helper()
	got := map[string]any{"body": string(m.GetData()), "messageId": m.Properties.MessageID, "contentType": *m.Properties.ContentType, "contentEncoding": *m.Properties.ContentEncoding}
	for _, name := range []string{"level", "hub", "iothub-connection-device-id", "iothub-connection-auth-method", "iothub-message-source"} {
		got[name] = m.ApplicationProperties[name]
	}
	want := map[string]any{
		"body": fmt.Sprintf(`{"n":%d}`, n), "messageId": "m1", "contentType": "application/json", "contentEncoding": "utf-8", "level": "hot", "hub": "iolite",
		"iothub-connection-device-id": d.id, "iothub-connection-auth-method": `{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}`, "iothub-message-source": "Telemetry",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("message %d (-want +got):\n%s", n, diff)
	}
	if m.Header == nil || !m.Header.Durable {
		t.Errorf("message %d is not durable: %+v", n, m.Header)
	}
}

func TestRabbitMQ(t *testing.T) {
	b := newRabbit(t)
	for name, test := range map[string]func(*testing.T, *rabbit){
		"messages reach a queue and a topic in order": inOrder, "a broker that is killed mid-batch loses nothing": killed,
		"a queue that is full is tried until there is room": full, "a wrong password is told": wrongPassword,
	} {
		t.Run(name, func(t *testing.T) { test(t, b) })
	}
}

func inOrder(t *testing.T, b *rabbit) {
	endpoints := queues("q", b.to("/amq/queue/routed"))
	endpoints.ServiceBusTopics = []hub.ServiceBusEndpoint{{Name: "t", ConnectionString: b.to("/topic/alerts.hot")}}
	route(t, endpoints, "q", "t")
	d := newDevice(t)
	const n = 500
	d.send(t, numbered(0, n)...)
	for _, queue := range []string{"routed", "alerts"} {
		at := 0
		b.read(t, queue, func(m *amqp.Message) bool {
			wantRouted(t, d, at, m)
			at++
			return at == n
		})
	}
	for _, name := range []string{"q", "t"} {
		eventually(t, "nothing waits", func() bool { return health(t, name).WaitingMessages == 0 })
		if got := health(t, name); got.HealthStatus != hub.HealthHealthy || got.LastSuccessfulSendAttemptTime == "" || got.LastKnownError != "" {
			t.Errorf("%+v", got)
		}
	}
}

func killed(t *testing.T, b *rabbit) {
	route(t, queues("q", b.to("/amq/queue/routed")), "q")
	d := newDevice(t)
	const n = 6000
	sent := make(chan struct{})
	var acknowledged atomic.Int64
	go func() {
		defer close(sent)
		for at := 0; at < n; at += 200 {
			began := time.Now()
			d.send(t, numbered(at, at+200)...)
			acknowledged.Add(200)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("a device waited for %v", took)
			}
		}
	}()
	eventually(t, "some messages are delivered", func() bool { return acknowledged.Load()-health(t, "q").WaitingMessages > 500 })
	b.kill()
	<-sent
	eventually(t, "the endpoint is unhealthy", func() bool { return health(t, "q").HealthStatus == hub.HealthUnhealthy })
	waiting := health(t, "q").WaitingMessages
	if waiting == 0 {
		t.Fatal("the broker was killed after all had been delivered")
	}
	t.Logf("%d of %d messages wait while there is no broker", waiting, n)
	b.start(t)
	seen, copies := map[string]bool{}, 0
	b.read(t, "routed", func(m *amqp.Message) bool {
		copies++
		seen[string(m.GetData())] = true
		return len(seen) == n
	})
	t.Logf("%d messages came %d times", len(seen), copies)
	eventually(t, "nothing waits", func() bool { return health(t, "q").WaitingMessages == 0 })
	if got := health(t, "q"); got.HealthStatus != hub.HealthHealthy || got.LastKnownError == "" || got.LastKnownErrorTime == "" {
		t.Errorf("%+v", got)
	}
}

func full(t *testing.T, b *rabbit) {
	route(t, queues("q", b.to("/amq/queue/full")), "q")
	d := newDevice(t)
	d.send(t, numbered(0, 5)...)
	eventually(t, "the endpoint is unhealthy", func() bool { return health(t, "q").HealthStatus == hub.HealthUnhealthy })
	seen := map[string]bool{}
	b.read(t, "full", func(m *amqp.Message) bool {
		seen[string(m.GetData())] = true
		return len(seen) == 5
	})
	eventually(t, "nothing waits", func() bool { return health(t, "q").WaitingMessages == 0 })
}

func wrongPassword(t *testing.T, b *rabbit) {
	route(t, queues("q", strings.Replace(b.to("/amq/queue/routed"), "s3cret", "wr0ng", 1)), "q")
	newDevice(t).send(t, numbered(0, 1)...)
	eventually(t, "the endpoint is unhealthy", func() bool { return health(t, "q").HealthStatus == hub.HealthUnhealthy })
	if got := health(t, "q").LastKnownError; got != "Unauthorized" {
		t.Errorf("the last known error is %s", got)
	}
	if log := near.log.String(); strings.Contains(log, "wr0ng") || !strings.Contains(log, "endpointUnhealthy") {
		t.Error("the log tells the password, or nothing")
	}
}
