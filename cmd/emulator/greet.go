package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/iolite-emulator/iolite"
	"github.com/iolite-emulator/iolite/control"
)

// what is spoken at the doors, by name.
var spoken = map[string]string{
	"mqtt":     "MQTT over TLS",
	"amqp":     "AMQP over TLS, devices, services and Event Hubs",
	"https":    "HTTPS, and MQTT and AMQP over WebSocket",
	"eventhub": "plain AMQP for UseDevelopmentEmulator=true",
}

// greet prints what a newcomer needs next: doors, connection strings, the CA, and the lines to paste.
func greet(w io.Writer, e *iolite.Emulator, flags greetFlags) error {
	info := e.Info()
	var b strings.Builder
	fmt.Fprintf(&b, "Iolite %s, a local IoT Hub\n\nDoors on %s\n", info.Version, info.Bind)
	for _, d := range info.Doors {
		moved := ""
		if d.Moved {
			moved = "   NOT the documented port: see the warning above"
		}
		fmt.Fprintf(&b, "  %-8s %5d  %s%s\n", d.Name, d.Port, spoken[d.Name], moved)
	}
	if info.Control != "" {
		fmt.Fprintf(&b, "  %-8s %5s  http://%s/\n", "control", "", info.Control)
	}
	greetStrings(&b, &info)
	if info.Auth == "off" {
		b.WriteString("\nAUTHENTICATION IS OFF: every client is believed to be who it says it is.\n")
	}
	greetNext(&b, &info, flags)
	b.WriteString("\nready\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// greetStrings prints the connection strings. The keys are development keys, the same in every process.
func greetStrings(b *strings.Builder, info *control.Info) {
	fmt.Fprintf(b, "\nService     %s\n", info.ConnectionString)
	for _, d := range info.Devices {
		if d.ConnectionString != "" {
			fmt.Fprintf(b, "Device      %s\n", d.ConnectionString)
		} else {
			fmt.Fprintf(b, "Device      %s (X.509)\n", d.DeviceID)
		}
	}
	fmt.Fprintf(b, "Event Hubs  %s\n", info.EmulatorConnectionString)
	if info.StorageConnectionString != "" {
		fmt.Fprintf(b, "Files       %s\n", info.StorageConnectionString)
	}
	if info.CA != "" {
		fmt.Fprintf(b, "CA          %s\n", info.CA)
	}
}

func greetNext(b *strings.Builder, info *control.Info, flags greetFlags) {
	command := commandLine()
	lines := [][2]string{{"eval \"$(" + command + " certs env" + flags.certs() + ")\"", "this shell's Node, Python, Java, Go and curl trust the CA"}}
	if info.Control != "" {
		if len(info.Devices) == 0 {
			lines = append(lines, [2]string{command + " devices create" + flags.control() + " device1", "register a device, print its connection string"})
		}
		lines = append(lines, [2]string{command + " monitor" + flags.control(), "follow telemetry"}, [2]string{command + " doctor" + flags.control(), "try every door"})
	}
	b.WriteString("\nNext, in another terminal\n")
	w := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	for _, l := range lines {
		fmt.Fprintf(w, "  %s\t%s\n", l[0], l[1])
	}
	_ = w.Flush() // into memory
}

// greetFlags are the flags of serve that the other commands need to find this hub.
type greetFlags struct{ controlAddress, certsDir string }

func (f greetFlags) control() string {
	if f.controlAddress == "127.0.0.1:8088" {
		return ""
	}
	return " --control " + f.controlAddress
}

func (f greetFlags) certs() string {
	if f.certsDir == defaultCertsDir() {
		return ""
	}
	return " --certs-dir " + f.certsDir
}

// commandLine is how the reader can run this command again: as it was run, or by the Go tool that built it for one run.
func commandLine() string {
	program, err := os.Executable()
	if err == nil && strings.Contains(program, "go-build") {
		return "go run ./cmd/emulator"
	}
	return os.Args[0]
}
