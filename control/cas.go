package control

import (
	"crypto/sha1" //nolint:gosec // a thumbprint, as tools show it, not a proof
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// maxCABody bounds an upload of CA certificates, in bytes.
const maxCABody = 256 << 10

// CA is a certificate authority whose device certificates the hub accepts.
type CA struct {
	Subject    string    `json:"subject"`
	Thumbprint string    `json:"thumbprint"` // SHA-1, upper-case hex, as the Azure portal shows it
	NotBefore  time.Time `json:"notBefore"`
	NotAfter   time.Time `json:"notAfter"`
}

// CAs is the answer of GET and POST /iolite/v1/cas.
type CAs struct {
	CAs []CA `json:"cas"`
}

func casOf(certificates []*x509.Certificate) CAs {
	list := make([]CA, len(certificates))
	for i, c := range certificates {
		sum := sha1.Sum(c.Raw) //nolint:gosec // see above
		list[i] = CA{c.Subject.String(), strings.ToUpper(hex.EncodeToString(sum[:])), c.NotBefore, c.NotAfter}
	}
	return CAs{list}
}

// getCA is GET /iolite/v1/ca.pem: the development CA, which clients must trust.
func (s *Server) getCA(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(s.CAPEM()) // the client is gone: nobody to tell
}

// getCAs is GET /iolite/v1/cas: the CAs that sign device certificates.
func (s *Server) getCAs(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, casOf(s.Hub.CAs()))
}

// postCAs is POST /iolite/v1/cas: registers every certificate of the PEM body, or none. It answers with those of the body.
func (s *Server) postCAs(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r, maxCABody)
	if !ok {
		return
	}
	certificates, err := parseCAs(body)
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	for _, c := range certificates {
		s.Hub.AddCA(c)
	}
	reply(w, http.StatusCreated, casOf(certificates))
}

// parseCAs reads PEM text that holds CA certificates and nothing else.
func parseCAs(text []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the body holds a %s; only certificates belong there", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: %w", len(certificates)+1, err)
		}
		if !c.IsCA || !c.BasicConstraintsValid {
			return nil, fmt.Errorf("%s is not a CA certificate", c.Subject)
		}
		certificates = append(certificates, c)
	}
	if len(certificates) == 0 {
		return nil, errors.New("the body holds no PEM certificate")
	}
	return certificates, nil
}
