package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long a server may take to end after SIGTERM before it is killed.
const stopGrace = 10 * time.Second

// process is a server under measurement: one we started, or one that runs already.
type process struct {
	pid    int
	cmd    *exec.Cmd     // nil when it is not ours
	stderr *bytes.Buffer // what it said, for when it fails
	ended  chan struct{} // closed when it is gone; nil when it is not ours
	names  *process      // a helper that ends after it; nil for none
}

// start runs a command with the environment of this one, less the variables that would configure an emulator.
func start(name string, args ...string) (*process, error) {
	command := exec.Command(name, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "IOLITE_") {
			command.Env = append(command.Env, v)
		}
	}
	return startCommand(command)
}

// startCommand runs a command as it is.
func startCommand(command *exec.Cmd) (*process, error) {
	p := &process{cmd: command, stderr: new(bytes.Buffer), ended: make(chan struct{})}
	p.cmd.Stderr = p.stderr
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.pid = p.cmd.Process.Pid
	go func() { // ends with the process
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop ends a process that is ours, at first politely, and waits until it is gone.
func (p *process) stop() {
	if p == nil || p.cmd == nil {
		return
	}
	defer p.names.stop()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopGrace):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// failed returns an error when a process that is ours has ended.
func (p *process) failed() error {
	if p.ended == nil {
		return nil
	}
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended: %s", p.cmd.Path, strings.TrimSpace(p.stderr.String()))
	default:
		return nil
	}
}

// cpuClock is CPUCLOCK_SCHED of linux/posix-timers.h: the time that all threads of a process have run, in nanoseconds.
const cpuClock = 2

// cpu returns how much processor time, user and system, the process has used, those of its threads that ended included. It reads
// the process's CPU clock (clock_getcpuclockid(3)), which is what utime+stime of /proc/PID/stat round to hundredths of a second.
func (p *process) cpu() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.pid<<3|cpuClock), &t); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", p.pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// memory is what a process has in physical memory, in bytes.
type memory struct {
	Resident  int64 `json:"resident"`  // VmRSS
	Anonymous int64 `json:"anonymous"` // RssAnon: VmRSS without the pages of files, such as the program itself
}

func (p *process) memory() (memory, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/status")
	if err != nil {
		return memory{}, err
	}
	var m memory
	for line := range bytes.Lines(text) {
		name, value, _ := strings.Cut(string(line), ":")
		field := map[string]*int64{"VmRSS": &m.Resident, "RssAnon": &m.Anonymous}[name]
		if field == nil {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return m, fmt.Errorf("%s of /proc/%d/status: %w", name, p.pid, err)
		}
		*field = kib << 10
	}
	if m.Resident == 0 {
		return m, errors.New("/proc tells no VmRSS")
	}
	return m, nil
}

// raiseFileLimit lifts the soft limit of open files to the hard one, which processes started from now on inherit, and returns it.
func raiseFileLimit() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	return int(l.Cur), nil
}
