//go:build !unix

package door

import "net"

// dress leaves the connection as it is.
func dress(nc net.Conn) net.Conn { return nc }

// onIdle cannot tell here.
func onIdle(net.Conn, func()) bool { return false }
