package hub

import (
	"context"
	"crypto/x509"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

// Credential is what a peer shows: a SAS token, or the certificates of its TLS handshake (leaf first), or nothing.
type Credential struct {
	Token        string
	Certificates []*x509.Certificate
}

// Authenticate proves a credential. claimed is the identity the peer says it is (MQTT user name, HTTP path, AMQP link address);
// it may be zero for a token, which names its own resource. It fails with CodeUnauthorized (cause in the log), also for a
// disabled device. With authentication off it returns whoever is claimed, or a policy with every right.
// A principal is not yet allowed to act as claimed: OpenDevice and OpenService check that.
func (h *Hub) Authenticate(ctx context.Context, cred Credential, claimed store.Key) (auth.Principal, error) {
	panic("contract")
}

// AuthenticatePlain proves the user name and password of SASL PLAIN: {device}@sas.{hub}, {device}/modules/{module}@sas.{hub},
// {policy}@sas.root.{hub} with a token, or a bare policy name with its key.
func (h *Hub) AuthenticatePlain(ctx context.Context, user, password string) (auth.Principal, error) {
	panic("contract")
}
