package packaging

import (
	"bytes"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// address is this suite's own loopback address.
const address = "127.0.0.7"

// imageUser is the user of the image.
const imageUser = 65532

// dockerfile returns the environment, entry point and health check that the image declares.
func dockerfile(t *testing.T) (env []string, entrypoint, healthcheck string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository(t), "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	joined := strings.ReplaceAll(string(text), "\\\n", " ")
	for _, m := range regexp.MustCompile(`IOLITE_[A-Z_]+=\S+`).FindAllString(joined, -1) {
		env = append(env, m)
	}
	command := func(instruction string) string {
		m := regexp.MustCompile(`(?m)^` + instruction + `.*\["(.*)"\]$`).FindStringSubmatch(joined)
		if m == nil {
			t.Fatalf("the Dockerfile has no %s", instruction)
		}
		return strings.ReplaceAll(m[1], `", "`, " ")
	}
	if !strings.Contains(joined, "scripts/image-root.sh /image") || !strings.Contains(joined, "\nUSER 65532:65532\n") || !strings.Contains(joined, "\nFROM scratch\n") {
		t.Fatal("the Dockerfile is not what this test builds: script, user or base differ")
	}
	return env, command("ENTRYPOINT"), command("HEALTHCHECK")
}

// inImage runs a command as the image would: its root directory, its user, its environment.
func inImage(root string, env []string, command string) *exec.Cmd {
	words := strings.Fields(command)
	return &exec.Cmd{
		Path: words[0], Args: words, Dir: "/", Env: append(env, "IOLITE_BIND="+address, "IOLITE_HOSTNAME="+address, "IOLITE_CONTROL="+address+":8088", "IOLITE_DEVICE=device1"),
		SysProcAttr: &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: imageUser, Gid: imageUser, NoSetGroups: false}},
	}
}

func TestImageRunsFromAnEmptyRootAsItsUser(t *testing.T) {
	needRoot(t)
	env, entrypoint, healthcheck := dockerfile(t)
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.Command(filepath.Join(repository(t), "scripts", "image-root.sh"), root, "test")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("image-root.sh: %v\n%s", err, out)
	}
	if err := os.Chown(filepath.Join(root, "data"), imageUser, imageUser); err != nil { // COPY --chown
		t.Fatal(err)
	}
	openParents(t, root)
	var log bytes.Buffer
	hub := inImage(root, env, entrypoint+" --strict-ports")
	hub.Stdout, hub.Stderr = &log, &log
	if err := hub.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = hub.Process.Signal(syscall.SIGTERM)
		if err := hub.Wait(); err != nil {
			t.Errorf("the hub did not stop cleanly: %v", err)
		}
		if t.Failed() {
			t.Logf("the hub's log:\n%s", log.Bytes())
		}
	}()
	var out []byte
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if out, err = inImage(root, env, healthcheck).CombinedOutput(); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("the health check fails: %v\n%s", err, out)
	}
	for _, port := range []string{"8883", "5671", "443"} {
		conn, err := tls.Dial("tcp", net.JoinHostPort(address, port), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Errorf("port %s: %v", port, err)
			continue
		}
		_ = conn.Close()
	}
	if info, err := os.Stat(filepath.Join(root, "data", "ca.pem")); err != nil || info.Mode().Perm()&0o444 != 0o444 {
		t.Errorf("the CA in the volume cannot be read by others: %v %v", info, err)
	}
	if out, err := inImage(root, env, "/emulator doctor").CombinedOutput(); err != nil {
		t.Errorf("doctor: %v\n%s", err, out)
	}
}

// openParents lets the image's user reach the root directory, as in a container.
func openParents(t *testing.T, root string) {
	t.Helper()
	for dir := filepath.Dir(root); len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// needRoot skips where chroot is not allowed; CI must not skip.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("this test needs root for chroot, and CI must not skip it")
	}
	t.Skip("SKIPPED: chroot needs root")
}
