package hub

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// A continuation token says where the next page of a query begins: base64url of a version, the position, and a checksum over both and the
// query's text, so that a token of another query, or none of ours, is told from a good one. It keeps nobody from making one up: who does gets a
// page that he could have asked for anyway.
const (
	continuationVersion  = 1
	continuationChecksum = 8 // bytes
	maxContinuation      = 1024
)

var tokenEncoding = base64.RawURLEncoding.Strict()

// continuation returns the token of a position in the answer to a query.
func (p position) continuation(text string) string {
	b := []byte{continuationVersion}
	left := uint64(0)
	if p.limited {
		left = uint64(p.left) + 1
	}
	b = binary.AppendUvarint(b, left)
	b = binary.AppendUvarint(b, uint64(p.shown))
	for _, part := range []string{p.key.JobID, p.key.DeviceID, p.key.ModuleID} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return tokenEncoding.EncodeToString(append(b, checksum(b, text)...))
}

// parseContinuation reads a token of the query; ours is false for any other text.
func parseContinuation(token, text string) (p position, ours bool) {
	if len(token) > maxContinuation {
		return p, false
	}
	b, err := tokenEncoding.DecodeString(token)
	if err != nil || len(b) <= continuationChecksum || b[0] != continuationVersion {
		return p, false
	}
	b, sum := b[:len(b)-continuationChecksum], b[len(b)-continuationChecksum:]
	if !bytes.Equal(sum, checksum(b, text)) {
		return p, false
	}
	d := tokenDecoder{b: b[1:]}
	if left := d.number(); left > 0 {
		p.limited, p.left = true, left-1
	}
	p.shown = d.number()
	p.key.JobID, p.key.DeviceID, p.key.ModuleID = d.text(), d.text(), d.text()
	return p, !d.failed && len(d.b) == 0
}

func checksum(b []byte, text string) []byte {
	h := sha256.New()
	h.Write(b)
	h.Write([]byte{0})
	h.Write([]byte(text))
	return h.Sum(nil)[:continuationChecksum]
}

// tokenDecoder takes a token apart; its first failure stays.
type tokenDecoder struct {
	b      []byte
	failed bool
}

func (d *tokenDecoder) number() int {
	n, size := binary.Uvarint(d.b)
	if size <= 0 || n > 1<<31 {
		d.b, d.failed = nil, true
		return 0
	}
	d.b = d.b[size:]
	return int(n)
}

func (d *tokenDecoder) text() string {
	n := d.number()
	if n > len(d.b) {
		d.b, d.failed = nil, true
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}
