package control

import (
	"encoding/pem"
	"net"
	"testing"

	"github.com/iolite-emulator/iolite/door"
)

// tcpPair returns both ends of a TCP connection.
func tcpPair(t *testing.T) (server *door.Conn, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	must(t, err)
	nc, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return door.Wrap(nc, door.Control), client
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
