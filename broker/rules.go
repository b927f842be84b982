package broker

import "log/slog"

// rule is a reason for which the hub ends a connection or refuses a CONNECT. MQTT 3.1.1 has no way of telling the client why,
// so the log does: one warning with the rule's name, the words a user needs, and what exactly broke it.
type rule struct {
	name   string
	reason string
	source string
}

// log writes the warning.
func (r rule) log(log *slog.Logger, message string, attrs ...slog.Attr) {
	log.LogAttrs(logContext, slog.LevelWarn, message, append(r.attrs(), attrs...)...)
}

// attrs are what a line says of the rule.
func (r rule) attrs() []slog.Attr {
	return []slog.Attr{slog.String("rule", r.name), slog.String("reason", r.reason), slog.String("source", r.source)}
}

// article is where IoT Hub's MQTT dialect is described.
const article = `IoT Hub: article "Communicate with an IoT hub using MQTT"`

// The rules that end a connection.
var (
	ruleFirstConnect = rule{"first-packet-connect", "the first packet must be CONNECT", "MQTT-3.1.0-1"}
	ruleOneConnect   = rule{"one-connect", "a second CONNECT came on the same connection", "MQTT-3.1.0-2"}
	ruleBigPacket    = rule{"packet-too-large", "a packet is longer than any that IoT Hub takes (a message of 256 KiB; 128 KiB for CONNECT)", article}
	ruleMalformed    = rule{"malformed-packet", "a packet does not follow MQTT 3.1.1", "MQTT-4.8.0-1"}
	ruleUnexpected   = rule{"unexpected-packet", "IoT Hub speaks no QoS 2, and clients send no packets that only servers send", article}
	ruleConnectTime  = rule{"connect-timeout", "no complete CONNECT came in time", "MQTT 3.1.4"}
	ruleKeepAlive    = rule{"keep-alive", "no packet came within 1.5 times the keep-alive (404104 DeviceConnectionClosedRemotely)", "MQTT-3.1.2-24; " + article}
	rulePublishQoS2  = rule{"publish-qos-2", "PUBLISH with QoS 2: IoT Hub accepts QoS 0 and 1 and closes the connection", article}
	ruleForeignTopic = rule{"foreign-topic", "PUBLISH to the topic of another identity than the one that connected", article}
	ruleUnknownTopic = rule{"unknown-topic", "PUBLISH to a topic that IoT Hub does not know; it is no general broker", article}
	ruleBag          = rule{"property-bag", "the property bag of the topic cannot be decoded", article}
	ruleTooLarge     = rule{"message-too-large", "the message is larger than 256 KiB with its properties", article}
	ruleTelemetry    = rule{"message-refused", "the hub refused the message", article}
	ruleUnavailable  = rule{"server-error", "the hub could not store the message", "IoT Hub: error 500001"}
	ruleForeignSub   = rule{"foreign-filter", "SUBSCRIBE to the topics of another identity than the one that connected", article}
	ruleUnknownSub   = rule{"unknown-filter", "SUBSCRIBE to a filter that IoT Hub does not know; it is no general broker", article}
	ruleMethodTopic  = rule{"method-response", "a response to a direct method is published to $iothub/methods/res/{status}/?$rid={rid}, where the status is an integer of 32 bits", article}
	ruleNoRequestID  = rule{"request-id", "a twin request needs $rid in its topic, which the answer repeats; it was ignored", article}
	ruleCertificates = rule{"not-implemented", "certificate signing is not implemented yet", "Iolite"}
	ruleSlow         = rule{"slow-consumer", "the client did not read what was sent to it", "Iolite"}
	ruleTopicTooLong = rule{"c2d-topic-too-long", "a cloud-to-device message does not fit into an MQTT topic once percent-encoded; it was rejected", "MQTT-1.5.3"}
)

// The rules that refuse a CONNECT.
var (
	ruleProtocol   = rule{"protocol-level", "only MQTT 3.1.1 (level 4) is spoken here", "MQTT-3.1.2-2; " + article}
	ruleClientID   = rule{"client-id", "the client id must be {device} or {device}/{module}, as in the user name", article}
	ruleUserName   = rule{"user-name", "the user name must be {host}/{device}[/{module}]/?api-version={version}", article}
	ruleAPIVersion = rule{"api-version", "the user name's api-version is not one of IoT Hub's (400001 InvalidProtocolVersion)", "IoT Hub: error 400001"}
	ruleWill       = rule{"will", "the Will must be telemetry of the identity itself, with QoS 0 or 1", article}
	ruleAuth       = rule{"unauthorized", "the credential does not allow this identity to connect", "IoT Hub: error 401002"}
	ruleHubDown    = rule{"unavailable", "the hub could not open a session", "IoT Hub: error 500001"}
)
