package main

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
)

// httpSender posts prepared requests on a connection that is kept open, and takes 204 for an acknowledgement.
type httpSender struct {
	c       net.Conn
	request []byte
	in      []byte
	have    int
}

func newHTTPSender(c net.Conn, host, path, token string) *httpSender {
	head := "POST " + path + " HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: " + token +
		"\r\nUser-Agent: bench\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	return &httpSender{c: c, request: append([]byte(head), body...), in: make([]byte, 4<<10)}
}

func (s *httpSender) send(int) error {
	_, err := s.c.Write(s.request)
	return err
}

func (s *httpSender) acks() (int, error) {
	for {
		n, err := s.c.Read(s.in[s.have:])
		if err != nil {
			return 0, err
		}
		s.have += n
		if end := bytes.Index(s.in[:s.have], []byte("\r\n\r\n")); end >= 0 {
			if !bytes.HasPrefix(s.in, []byte("HTTP/1.1 204 ")) {
				return 0, fmt.Errorf("answered %q", s.in[:s.have])
			}
			s.have = copy(s.in, s.in[end+4:s.have])
			return 1, nil
		}
	}
}

func (s *httpSender) close() { _ = s.c.Close() }
