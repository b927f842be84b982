package hostile

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// mqttPacket frames a packet. MQTT 2.2.
func mqttPacket(first byte, body ...[]byte) []byte {
	n := 0
	for _, b := range body {
		n += len(b)
	}
	p := []byte{first}
	for n >= 0x80 {
		p = append(p, byte(n)|0x80)
		n >>= 7
	}
	p = append(p, byte(n))
	for _, b := range body {
		p = append(p, b...)
	}
	return p
}

// mqttText is a string with its length in front. MQTT 1.5.3.
func mqttText(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// mqttHello is a CONNECT with CleanSession.
func mqttHello(clientID, userName, password string) []byte {
	return mqttPacket(0x10, mqttText("MQTT"), []byte{4, 0xC2, 0, 240}, mqttText(clientID), mqttText(userName), mqttText(password))
}

func mqttUser(clientID string) string { return address + "/" + clientID + "/?api-version=2021-04-12" }

func mqttPublish(topic string, qos byte, id uint16, body []byte) []byte {
	if qos == 0 {
		return mqttPacket(0x30, mqttText(topic), body)
	}
	return mqttPacket(0x30|qos<<1, mqttText(topic), []byte{byte(id >> 8), byte(id)}, body)
}

// mqttConnect connects and returns the CONNACK's return code.
func mqttConnect(c net.Conn, deviceID, token string) (byte, error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(mqttHello(deviceID, mqttUser(deviceID), token)); err != nil {
		return 0, err
	}
	answer := make([]byte, 4)
	if err := readFull(c, answer); err != nil {
		return 0, err
	}
	if answer[0] != 0x20 || answer[1] != 2 {
		return 0, fmt.Errorf("CONNECT was answered with % x", answer)
	}
	return answer[3], c.SetDeadline(time.Time{})
}

func readFull(c net.Conn, p []byte) error {
	_, err := io.ReadFull(c, p)
	return err
}
