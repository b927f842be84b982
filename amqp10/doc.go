// Package amqp10 is an AMQP 1.0 server engine: wire codec, SASL, connection, session and link.
//
// The engine speaks the protocol (OASIS AMQP 1.0, parts 1 to 3 and 5.3) on a net.Conn and hands what the client wants
// to a [Peer], which decides who the client is and which [Node] stands behind each address. The engine opens no
// listener and no session or link of its own: as a server it only answers.
//
// # Goroutines
//
// One goroutine per connection reads: the caller of [Server.ServeConn]. A second one writes and exists only while
// there is something to write. Whatever became ready since the last write leaves in one write. One timer per
// connection sends heartbeats and notices silence. An idle connection holds one small buffer.
//
// # Callbacks
//
// Methods of Peer and Node are called one at a time per connection, never while an engine lock is held and never from
// inside a call into the engine. They must not block: the connection stands still meanwhile. They may call anything in
// this package. Every method of Conn, Session, Link and Delivery may be called from any goroutine.
package amqp10
