// Package door holds the listening side of the house: what a door is called, how it listens, and the one wrapper that
// every accepted connection wears on its way to a head.
package door

// Door names a listening port together with what is spoken there.
type Door uint8

// The doors of an IoT Hub, and the two that only an emulator has.
const (
	MQTT      Door = iota + 1 // MQTT over TLS, port 8883
	AMQP                      // AMQP over TLS, port 5671
	HTTPS                     // HTTPS, port 443
	MQTTWS                    // MQTT over WebSocket on the HTTPS port
	AMQPWS                    // AMQP over WebSocket on the HTTPS port
	PlainAMQP                 // AMQP without TLS, port 5672, for UseDevelopmentEmulator=true clients
	Control                   // the control API, plain HTTP on loopback
)

var names = [...]string{MQTT: "mqtt", AMQP: "amqp", HTTPS: "https", MQTTWS: "mqtt-ws", AMQPWS: "amqp-ws", PlainAMQP: "eventhub", Control: "control"}

// String returns the door's name as it stands in logs, metrics and the control API.
func (d Door) String() string {
	if int(d) < len(names) && names[d] != "" {
		return names[d]
	}
	return "unknown"
}
