package blobapi

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the storage protocol's checksum
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc64"
	"io"
	"net/http"
	"sync"
)

// crcTable is of the polynomial that Azure Storage has (article "Put Blob", x-ms-content-crc64), which is that of CRC-64/NVME. It is made
// at its first use.
var crcTable = sync.OnceValue(func() *crc64.Table { return crc64.MakeTable(0x9a6c9329ac4bc9b5) })

// The headers of checksums.
const (
	md5Header = "Content-MD5"
	crcHeader = "x-ms-content-crc64"
)

// checked reads a body and compares it, at its end, with the checksums that came with it.
type checked struct {
	body             io.Reader
	md5              hash.Hash   // nil when nobody wants it
	crc              hash.Hash64 // nil when nobody wants it
	wantMD5, wantCRC []byte      // nil when none came
}

// newChecked checks what came with a request. With an MD5 that is all; otherwise the CRC is made, for the answer.
func newChecked(r *request, alwaysMD5 bool) (*checked, error) {
	c := &checked{body: r.body}
	var err error
	if c.wantMD5, err = digest(r, md5Header, md5.Size); err != nil {
		return nil, err
	}
	if c.wantCRC, err = digest(r, crcHeader, crc64.Size); err != nil {
		return nil, err
	}
	if c.wantMD5 != nil || alwaysMD5 {
		c.md5 = md5.New() //nolint:gosec // see the import
	}
	if c.wantCRC != nil || c.md5 == nil {
		c.crc = crc64.New(crcTable())
	}
	return c, nil
}

// Read implements io.Reader.
func (c *checked) Read(b []byte) (int, error) {
	n, err := c.body.Read(b)
	if c.md5 != nil {
		c.md5.Write(b[:n])
	}
	if c.crc != nil {
		_, _ = c.crc.Write(b[:n])
	}
	if errors.Is(err, io.EOF) {
		if failed := c.verify(); failed != nil {
			return n, failed
		}
	}
	return n, err
}

func (c *checked) verify() error {
	switch {
	case c.wantMD5 != nil && !bytes.Equal(c.wantMD5, c.md5.Sum(nil)):
		return refuse(md5Mismatch, "")
	case c.wantCRC != nil && !bytes.Equal(c.wantCRC, c.crc64()):
		return refuse(crc64Mismatch, "")
	}
	return nil
}

// crc64 is the checksum as it stands in a header: its bytes from the least on.
func (c *checked) crc64() []byte { return binary.LittleEndian.AppendUint64(nil, c.crc.Sum64()) }

// setChecksums sends the checksums of the body that was read.
func (c *checked) setChecksums(h http.Header) {
	if c.md5 != nil {
		h[md5Header] = []string{base64.StdEncoding.EncodeToString(c.md5.Sum(nil))}
	}
	if c.crc != nil {
		h[crcHeader] = []string{base64.StdEncoding.EncodeToString(c.crc64())}
	}
}
