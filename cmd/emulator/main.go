// Command emulator is Iolite: a local Azure IoT Hub. Without a command it serves; the others talk to a running hub.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// Exit statuses of the command.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitViolation = 3 // serve with --fail-on-violation, and violations when there are any
)

// cli is the whole command line. The flags of serve, --control and --certs-dir are also read from IOLITE_<NAME>, those of serve from
// the file given with --config, too.
type cli struct {
	Serve       serveCmd       `cmd:"" default:"withargs" help:"Start the hub: all doors, one process (this is what runs without a command)."`
	Doctor      doctorCmd      `cmd:"" help:"Go through every door as a real client would and print a table."`
	Devices     devicesCmd     `cmd:"" help:"List, create, show and delete devices and modules; print connection strings."`
	Twin        twinCmd        `cmd:"" help:"Print or patch the twin of a device or module."`
	Invoke      invokeCmd      `cmd:"" help:"Call a direct method."`
	Query       queryCmd       `cmd:"" help:"Ask in IoT Hub's query language; one JSON object a line."`
	Monitor     monitorCmd     `cmd:"" help:"Follow telemetry, and other events that are routed to the built-in endpoint."`
	Send        sendCmd        `cmd:"" help:"Send one cloud-to-device message."`
	Routing     routingCmd     `cmd:"" help:"Show, set and try where messages go: routes, endpoints, enrichments."`
	Certs       certsCmd       `cmd:"" help:"The development CA: export it, trust it, print environment lines."`
	Violations  violationsCmd  `cmd:"" help:"List the HTTP poll violations; exit with 3 if there are any."`
	Healthcheck healthcheckCmd `cmd:"" help:"Exit with 0 if the hub is ready, with 1 if not."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// app is what every command gets: where to write, and the context that an interrupt ends.
type app struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
}

// exitError makes the process end with a status of its own; a nil err prints nothing.
type exitError struct {
	status int
	err    error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main with its world passed in.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{ctx, stdout, stderr}
	if parsed := parseServe(args); parsed != nil {
		return report(stderr, parsed.Run(a))
	}
	var c cli
	status := -1
	parser, err := newParser(&c,
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { status = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
	)
	if err != nil {
		fmt.Fprintln(stderr, "emulator:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(args)
	if status >= 0 { // --help has been printed
		return status
	}
	if err != nil {
		fmt.Fprintf(stderr, "emulator: %v\nTry 'emulator --help'.\n", err)
		return exitUsage
	}
	return report(stderr, parsed.Run(a))
}

// newParser returns a parser of grammar, a pointer to a struct as kong wants it.
func newParser(grammar any, options ...kong.Option) (*kong.Kong, error) {
	return kong.New(grammar, append(options,
		kong.Name("emulator"),
		kong.Description("Iolite, a local Azure IoT Hub.\n\nThe flags of serve, --control and --certs-dir can also be set as IOLITE_<NAME> in the environment (--http-poll as IOLITE_HTTP_POLL)."),
		kong.DefaultEnvars("IOLITE"),
		kong.Resolvers(&configResolver{}),
		kong.Vars{"certsDir": defaultCertsDir()},
	)...)
}

// serveCLI is what cli says of serve.
type serveCLI struct {
	Serve serveCmd `cmd:"" default:"withargs"`
}

// parseServe parses a command line of serve without the grammar of the other commands, which would take a sixth of the time from
// start to ready. It returns nil for a line that is not serve's, is wrong, or asks for help: the whole grammar has the answer.
func parseServe(args []string) *kong.Context {
	if len(args) > 0 && args[0] != "serve" && !strings.HasPrefix(args[0], "-") {
		return nil
	}
	parser, err := newParser(&serveCLI{}, kong.NoDefaultHelp())
	if err != nil {
		return nil
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return nil
	}
	return parsed
}

// report prints an error and returns the exit status it stands for.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	exit := exitError{status: exitFailed, err: err}
	errors.As(err, &exit)
	if exit.err != nil {
		fmt.Fprintln(stderr, "emulator:", exit.err)
	}
	return exit.status
}
