package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// rabbitmqScript starts RabbitMQ as whoever calls it; the one in the PATH wants to be root or rabbitmq.
const rabbitmqScript = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// errNoRabbitMQ is why there are no figures of RabbitMQ.
var errNoRabbitMQ = errors.New("rabbitmq-server is not installed (Debian: apt-get install rabbitmq-server)")

// rabbitmqExchange takes what devices send and, bound to nothing, throws it away.
const rabbitmqExchange = "/exchange/amq.fanout"

// startRabbitMQ starts RabbitMQ with its AMQP 1.0 plugin, TLS, and nobody to be authenticated.
func (b *bench) startRabbitMQ() (*peerProcess, error) {
	if _, err := os.Stat(rabbitmqScript); err != nil {
		return nil, errNoRabbitMQ
	}
	address, err := freeAddress(b.address)
	if err != nil {
		return nil, err
	}
	dist, err := freeAddress(b.address)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "rabbitmq")
	if err := b.rabbitmqFiles(dir, address); err != nil {
		return nil, err
	}
	_, distPort, _ := net.SplitHostPort(dist)
	names, namesPort, err := startNames()
	if err != nil {
		return nil, err
	}
	command := exec.Command(rabbitmqScript)
	command.Env = append(os.Environ(), "HOME="+dir, "RABBITMQ_CONFIG_FILE="+filepath.Join(dir, "rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(dir, "plugins"),
		"RABBITMQ_MNESIA_BASE="+filepath.Join(dir, "data"), "RABBITMQ_LOG_BASE="+filepath.Join(dir, "log"), "RABBITMQ_LOGS=-", "RABBITMQ_NODENAME=bench"+distPort+"@localhost", "RABBITMQ_DIST_PORT="+distPort, "ERL_EPMD_PORT="+namesPort)
	p, err := startCommand(command)
	if err != nil {
		names.stop()
		return nil, err
	}
	p.names = names
	if err := p.awaitPort(address); err != nil {
		p.stop()
		return nil, err
	}
	if p.pid, err = descendant(p.pid, "beam.smp"); err != nil { // the script only waits
		p.stop()
		return nil, err
	}
	b.report.Environment.peer(rabbitmqVersion())
	return &peerProcess{process: p, address: address}, nil
}

// startNames starts Erlang's name server on a port of its own: RabbitMQ would start one that stays when all is over.
func startNames() (*process, string, error) {
	address, err := freeAddress("127.0.0.1")
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(address)
	p, err := start("epmd", "-port", port, "-address", "127.0.0.1")
	if err != nil {
		return nil, "", err
	}
	if err := p.awaitPort(address); err != nil {
		p.stop()
		return nil, "", err
	}
	return p, port, nil
}

// rabbitmqVersion is the name of the directory that it is installed in, as rabbitmq_server-3.10.8.
func rabbitmqVersion() string {
	if dirs, err := filepath.Glob(filepath.Join(filepath.Dir(rabbitmqScript), "../lib/rabbitmq_server-*")); err == nil && len(dirs) > 0 {
		return filepath.Base(dirs[0])
	}
	return "RabbitMQ"
}

func (b *bench) rabbitmqFiles(dir, address string) error {
	cert, key := filepath.Join(b.dir, certFile), filepath.Join(b.dir, keyFile)
	config := fmt.Sprintf("listeners.tcp = none\nlisteners.ssl.1 = %s\nssl_options.cacertfile = %s\nssl_options.certfile = %s\nssl_options.keyfile = %s\n"+
		"ssl_options.verify = verify_none\nssl_options.versions.1 = tlsv1.3\namqp1_0.default_user = guest\nlog.console.level = error\n", address, cert, cert, key)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "rabbitmq.conf"), []byte(config), 0o600),
		os.WriteFile(filepath.Join(dir, "plugins"), []byte("[rabbitmq_amqp1_0].\n"), 0o600))
}

// descendant returns the process of a name among the children of pid, and theirs.
func descendant(pid int, name string) (int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	family := []int{pid}
	for i := 0; i < len(family); i++ {
		for _, path := range stats {
			text, err := os.ReadFile(path)
			if err != nil {
				continue // it has ended
			}
			child, parent, command := parseStat(string(text))
			if parent != family[i] || slices.Contains(family, child) {
				continue
			}
			if command == name {
				return child, nil
			}
			family = append(family, child)
		}
	}
	return 0, fmt.Errorf("process %d has no descendant %s", pid, name)
}

// parseStat reads /proc/PID/stat: pid (command) state parent ...
func parseStat(text string) (pid, parent int, command string) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return 0, 0, ""
	}
	pid, _ = strconv.Atoi(strings.TrimSpace(text[:open]))
	fields := strings.Fields(text[end+1:])
	if len(fields) > 1 {
		parent, _ = strconv.Atoi(fields[1])
	}
	return pid, parent, text[open+1 : end]
}
