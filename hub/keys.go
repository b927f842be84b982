package hub

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"slices"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// developmentSecret is what every fixed key is derived from. It is public on purpose: a connection string can then stand
// in a compose file, and nobody mistakes the hub for one that keeps secrets.
const developmentSecret = "Iolite development keys. Not a secret."

// deriveKey returns the base64 text of 32 bytes that depend on nothing but the purpose.
func deriveKey(purpose string) string {
	mac := hmac.New(sha256.New, []byte(developmentSecret))
	mac.Write([]byte(purpose))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// DeriveKeys returns the base64 primary and secondary keys that --device and seeds give an identity: derived from a fixed
// secret and the id, the same in every process.
func DeriveKeys(key store.Key) (primary, secondary string) {
	path := devicePath(key)
	return deriveKey("primary " + path), deriveKey("secondary " + path)
}

// newKeys returns two random keys of 32 bytes for an identity that was registered without.
func newKeys() (primary, secondary string) {
	var b [2 * sha256.Size]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.StdEncoding.EncodeToString(b[:32]), base64.StdEncoding.EncodeToString(b[32:])
}

// policies are the shared access policies of a new IoT hub (article "Control access to IoT Hub", section Access control).
var policies = []auth.Policy{
	newPolicy("iothubowner", auth.RegistryRead|auth.RegistryWrite|auth.ServiceConnect|auth.DeviceConnect),
	newPolicy("service", auth.ServiceConnect),
	newPolicy("device", auth.DeviceConnect),
	newPolicy("registryRead", auth.RegistryRead),
	newPolicy("registryReadWrite", auth.RegistryRead|auth.RegistryWrite),
}

func newPolicy(name string, rights auth.Rights) auth.Policy {
	return auth.Policy{Name: name, PrimaryKey: deriveKey("primary policy " + name), SecondaryKey: deriveKey("secondary policy " + name), Rights: rights}
}

// Policies returns the shared access policies with their fixed development keys, in documented order.
func (h *Hub) Policies() []auth.Policy { return slices.Clone(policies) }
