package certs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Shells lists the shells that Env writes for.
var Shells = []string{"sh", "fish", "powershell", "cmd"}

// ErrUnknownShell is what errors.Is finds in the error about a shell that Env cannot write for.
var ErrUnknownShell = errors.New("certs: unknown shell")

// machine is what Env wants to know of the computer it runs on.
type machine struct {
	goos      string
	getenv    func(string) string
	rootFiles []string
}

func thisMachine() machine {
	return machine{goos: runtime.GOOS, getenv: os.Getenv, rootFiles: rootFiles}
}

// Env returns lines for a shell that make Node, Python, Java, .NET, Go and curl trust the CA, each with a comment that
// says what the line does and does not do. An empty shell means the user's own, guessed from the environment. It
// writes the files that the lines name into the CA's directory.
func (a *Authority) Env(shell string) (string, error) { return a.env(shell, thisMachine()) }

func (a *Authority) env(shell string, m machine) (string, error) {
	if a.dir == "" {
		return "", ErrInMemory
	}
	if shell == "" {
		shell = m.shell()
	}
	d, ok := dialects[shell]
	if !ok {
		return "", fmt.Errorf("%w: %q (there are %q)", ErrUnknownShell, shell, Shells)
	}
	from, err := a.writeBundles(m)
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(a.dir+from, "\r\n") {
		return "", fmt.Errorf("certs: a comment cannot hold the path %q: move the directory", a.dir)
	}
	var b strings.Builder
	for _, s := range a.settings(m, from) {
		for _, line := range s.comment {
			fmt.Fprintln(&b, d.comment, line)
		}
		if s.name == "" {
			continue
		}
		line, err := d.set(s.name, s.value)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(&b, line)
	}
	fmt.Fprintln(&b, d.comment, "To use these lines:", d.usage)
	return b.String(), nil
}

// shell guesses which of Shells the user works in.
func (m machine) shell() string {
	switch {
	case filepath.Base(m.getenv("SHELL")) == "fish":
		return "fish"
	case m.goos == "windows" && m.getenv("SHELL") == "":
		return "powershell"
	default:
		return "sh"
	}
}

// setting is one environment variable, or, without a name, only a comment.
type setting struct {
	comment     []string
	name, value string
}

// settings lists what Env writes. from is the file with the system's roots, or "".
func (a *Authority) settings(m machine, from string) []setting {
	bundle := bundlePath(a.dir)
	return []setting{
		{comment: []string{"Node.js adds this CA to its own roots. It reads the variable once, at its start."},
			name: "NODE_EXTRA_CA_CERTS", value: a.Path()},
		{comment: opensslComment(m, from), name: "SSL_CERT_FILE", value: bundle},
		{comment: []string{
			"Python's requests (azure-iot-hub, for one) takes this file instead of the one in certifi.",
			"azure-eventhub reads no variable: give its clients connection_verify='" + a.Path() + "'.",
		}, name: "REQUESTS_CA_BUNDLE", value: bundle},
		{comment: curlComment(m), name: "CURL_CA_BUNDLE", value: bundle},
		{comment: javaComment(from), name: "JAVA_TOOL_OPTIONS", value: a.javaOptions(m)},
		{comment: []string{"Others take a file: mosquitto_pub --cafile, openssl s_client -CAfile, gnutls-cli --x509cafile: " + a.Path()}},
	}
}

func opensslComment(m machine, from string) []string {
	var lines []string
	switch m.goos {
	case "windows":
		lines = append(lines, "Python and others built on OpenSSL. Go and .NET take only what Windows trusts: emulator certs trust.")
	case "darwin":
		lines = append(lines, "Python and others built on OpenSSL. Go and .NET take only what the keychain trusts: emulator certs trust.")
	default:
		lines = append(lines, "Python, Go, .NET and others built on OpenSSL.")
	}
	return append(lines, "They take this file instead of the system's roots, so "+holds(from))
}

func curlComment(m machine) []string {
	if m.goos == "windows" {
		return []string{"curl built on OpenSSL takes this file instead of its own; the curl of Windows does not: emulator certs trust."}
	}
	return []string{"curl takes this file instead of the system's roots."}
}

func javaComment(from string) []string {
	return []string{
		"Every Java program takes this trust store instead of Java's own, so " + holds(from),
		"Java says that it picked the options up, on its standard error output.",
	}
}

func holds(from string) string {
	if from == "" {
		return "until it is unset they trust THIS CA ONLY: no file with the system's roots was found to add."
	}
	return "it holds the CA and also what is in " + from + " now."
}

// javaOptions adds the trust store to the options that are set already. Java splits the value at blanks outside quotes.
func (a *Authority) javaOptions(m machine) string {
	const option = "-Djavax.net.ssl.trustStore"
	options := option + "=" + javaQuote(javaBundlePath(a.dir)) + " " + option + "Type=PKCS12 " + option + "Password=" + TrustStorePassword
	set, _, _ := strings.Cut(m.getenv("JAVA_TOOL_OPTIONS"), option) // an earlier trust store comes last
	return strings.TrimSpace(strings.TrimSpace(set) + " " + options)
}

func javaQuote(path string) string {
	switch {
	case !strings.ContainsAny(path, " \t'\""):
		return path
	case !strings.Contains(path, "'"):
		return "'" + path + "'"
	default:
		return `"` + path + `"`
	}
}

// dialect is how a shell writes comments and environment variables.
type dialect struct {
	comment string
	usage   string
	set     func(name, value string) (string, error)
}

var dialects = map[string]dialect{
	"sh": {"#", `eval "$(emulator certs env --shell sh)"`, func(name, value string) (string, error) {
		return "export " + name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'", nil
	}},
	"fish": {"#", "emulator certs env --shell fish | source", func(name, value string) (string, error) {
		return "set -gx " + name + " '" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(value) + "'", nil
	}},
	"powershell": {"#", "emulator certs env --shell powershell | Out-String | Invoke-Expression", func(name, value string) (string, error) {
		return "$env:" + name + " = '" + strings.ReplaceAll(value, "'", "''") + "'", nil
	}},
	"cmd": {"rem", "emulator certs env --shell cmd > env.cmd && env.cmd", func(name, value string) (string, error) {
		if strings.ContainsAny(value, "\"\r\n") {
			return "", fmt.Errorf("certs: cmd cannot set %s to %q", name, value)
		}
		return `set "` + name + "=" + strings.ReplaceAll(value, "%", "%%") + `"`, nil
	}},
}
