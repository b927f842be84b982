package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smallstep/truststore"
)

// fakeStore stands for one of the computer's stores.
type fakeStore struct {
	name    string
	absent  error
	refuses error
	trusted []*x509.Certificate
}

func (f *fakeStore) store() store {
	return store{
		name:   f.name,
		absent: func() error { return f.absent },
		install: func(c *x509.Certificate) error {
			if f.refuses == nil {
				f.trusted = append(f.trusted, c)
			}
			return f.refuses
		},
		uninstall: func(*x509.Certificate) error {
			if f.refuses == nil {
				f.trusted = nil
			}
			return f.refuses
		},
		byHand: "do it by hand",
	}
}

func trustRig(t *testing.T, opts Options, stores ...*fakeStore) *Authority {
	a := mustOpen(t, t.TempDir(), opts)
	a.stores = func() []store {
		var list []store
		for _, f := range stores {
			list = append(list, f.store())
		}
		return list
	}
	return a
}

// One store that cannot be changed does not keep the others from it, and the error says what to do about it.
func TestTrustChangesEveryStoreThatIsThere(t *testing.T) {
	system := &fakeStore{name: "system"}
	absent := &fakeStore{name: "Firefox", absent: errors.New("no profile")}
	locked := &fakeStore{name: "Java", refuses: truststore.NewCmdError(errors.New("exit status 1"), exec.Command("keytool"), []byte("Permission denied\n"))}
	a := trustRig(t, Options{}, absent, locked, system)
	var out bytes.Buffer
	err := a.Trust(&out)
	for _, want := range []string{"Java", "Permission denied", "do it by hand", a.Path()} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not mention %q: %v", want, err)
		}
	}
	if want := "Firefox: left out: no profile\nJava: FAILED\nsystem: trusts the CA\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if len(system.trusted) != 1 || !system.trusted[0].Equal(a.Certificate()) || len(absent.trusted) != 0 {
		t.Error("the system does not trust the CA")
	}
	if err := a.Untrust(&out); err == nil || len(system.trusted) != 0 {
		t.Errorf("the system still trusts the CA (%v)", err)
	}
}

func TestTrustWarnsOfAnUnconstrainedCA(t *testing.T) {
	var out bytes.Buffer
	if err := trustRig(t, Options{Unconstrained: true}).Trust(&out); err != nil || !strings.Contains(out.String(), "no name constraints") {
		t.Errorf("got %v: %s", err, out.String())
	}
}

// A computer without certutil or a Java home has those stores left out with a reason, and nothing panics.
func TestSystemStoresWithoutFirefoxAndJava(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("JAVA_HOME", "")
	stores := systemStores()
	if len(stores) != 3 || stores[0].absent() != nil {
		t.Fatalf("got %d stores", len(stores))
	}
	for _, s := range stores[1:] {
		if s.absent() == nil {
			t.Errorf("%s is there", s.name)
		}
	}
}

// Debian's Java goes on to trust what the system no longer does; "no longer trusts the CA" would be untrue.
func TestUntrustTellsWhatJavaStillTrusts(t *testing.T) {
	a := mustOpen(t, t.TempDir(), Options{})
	file := filepath.Join(t.TempDir(), "cacerts")
	if err := leftInJava(a.Certificate(), file); err != nil {
		t.Errorf("without a key store: %v", err)
	}
	other := mustOpen(t, "", Options{}).DER()
	for _, c := range []struct {
		holds []byte
		want  bool
	}{{other, false}, {append(other, a.DER()...), true}} {
		if err := os.WriteFile(file, c.holds, 0o600); err != nil {
			t.Fatal(err)
		}
		err := leftInJava(a.Certificate(), file)
		if (err != nil) != c.want || err != nil && !strings.Contains(err.Error(), "keytool -delete -keystore "+file) {
			t.Errorf("left %v: got %v", c.want, err)
		}
	}
}
