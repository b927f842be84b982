package main

import (
	"fmt"
	"io"
	"strings"

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
func greet(w io.Writer, e *iolite.Emulator, controlFlag string) error {
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
	greetNext(&b, &info, controlFlag)
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
	if info.CA != "" {
		fmt.Fprintf(b, "CA          %s\n", info.CA)
	}
}

func greetNext(b *strings.Builder, info *control.Info, controlFlag string) {
	flag := ""
	if controlFlag != "127.0.0.1:8088" {
		flag = " --control " + controlFlag
	}
	b.WriteString("\nNext, in another terminal\n")
	b.WriteString("  eval \"$(emulator certs env)\"        this shell's Node, Python, Java, Go and curl trust the CA\n")
	if info.Control == "" {
		return
	}
	if len(info.Devices) == 0 {
		fmt.Fprintf(b, "  emulator devices create%s device1   register a device and print its connection string\n", flag)
	}
	fmt.Fprintf(b, "  emulator monitor%s                  follow telemetry\n", flag)
	fmt.Fprintf(b, "  emulator doctor%s                   try every door\n", flag)
}
