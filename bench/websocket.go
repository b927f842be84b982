package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
)

// webSocket is the reading side of a WebSocket, and lets writes through: senders dress their packets once, with asFrame.
type webSocket struct {
	net.Conn
	r    *bufio.Reader
	left int // of the current frame's payload
}

// upgrade asks for a WebSocket that speaks protocol.
func upgrade(c net.Conn, host, path, protocol string) (*webSocket, error) {
	request := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: " + protocol + "\r\n\r\n"
	if _, err := io.WriteString(c, request); err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, fmt.Errorf("WebSocket upgrade: %w", err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("WebSocket upgrade: %s", answer.Status)
	}
	return &webSocket{Conn: c, r: r}, nil
}

// Read implements net.Conn: the payload of frames as one stream.
func (w *webSocket) Read(p []byte) (int, error) {
	for w.left == 0 {
		var head [2]byte
		if _, err := io.ReadFull(w.r, head[:]); err != nil {
			return 0, err
		}
		if head[0] != 0x82 {
			return 0, fmt.Errorf("expected a binary message of one frame, got % x", head)
		}
		switch w.left = int(head[1]); w.left {
		case 126:
			var size [2]byte
			if _, err := io.ReadFull(w.r, size[:]); err != nil {
				return 0, err
			}
			w.left = int(binary.BigEndian.Uint16(size[:]))
		case 127:
			return 0, fmt.Errorf("frame of more than 64 KiB")
		}
	}
	n, err := w.r.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}

// asFrame makes payload a client's frame. The mask is zero: the server's work is the same whatever it is, and ours is none.
func asFrame(payload []byte) []byte {
	b := []byte{0x82, 0x80 | byte(len(payload))}
	if len(payload) > 125 {
		b = binary.BigEndian.AppendUint16([]byte{0x82, 0x80 | 126}, uint16(len(payload)))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// framing writes whole packets as frames, for what is said before measuring.
type framing struct{ *webSocket }

// Write implements net.Conn.
func (f framing) Write(p []byte) (int, error) {
	if _, err := f.Conn.Write(asFrame(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func unframed(packet []byte) []byte { return packet }
