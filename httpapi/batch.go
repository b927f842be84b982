package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/iolite-emulator/iolite/hub"
)

// batchItem is one message of a batch. Source: azure-iot-sdk-java, transport/https/HttpsBatchMessage.java.
type batchItem struct {
	Body          *string         `json:"body"`
	Base64Encoded *bool           `json:"base64Encoded"` // true when not given
	Properties    batchProperties `json:"properties"`
}

// batchProperties are the properties of a message under their header names, in the order sent.
type batchProperties []struct{ name, value string }

// UnmarshalJSON reads an object of strings. Numbers and booleans are taken as their text.
func (p *batchProperties) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("properties is not an object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		value, err := d.Token()
		if err != nil {
			return err
		}
		switch value.(type) {
		case string, json.Number, bool:
			*p = append(*p, struct{ name, value string }{name.(string), fmt.Sprint(value)})
		default:
			return fmt.Errorf("property %q is not text", name)
		}
	}
	return nil
}

// decodeBatch reads the body of a batch. The messages share memory with nothing.
func (s *Server) decodeBatch(body []byte) ([]hub.Telemetry, error) {
	var items []batchItem
	if err := json.Unmarshal(body, &items); err != nil {
		return nil, badJSON(err)
	}
	if len(items) == 0 {
		return nil, refuse(hub.CodeArgumentInvalid, "the batch has no message")
	}
	messages := make([]hub.Telemetry, len(items))
	for i := range items {
		if err := s.decodeItem(&messages[i], &items[i]); err != nil {
			return nil, refuse(hub.CodeArgumentInvalid, fmt.Sprintf("message %d of the batch: %v", i, err))
		}
	}
	return messages, nil
}

func (s *Server) decodeItem(m *hub.Telemetry, item *batchItem) error {
	if item.Body == nil {
		return fmt.Errorf("it has no body")
	}
	m.Body = []byte(*item.Body)
	if item.Base64Encoded == nil || *item.Base64Encoded {
		raw, err := base64.StdEncoding.DecodeString(*item.Body)
		if err != nil {
			return fmt.Errorf("its body is not base64: %w", err)
		}
		m.Body = raw
	}
	for _, p := range item.Properties {
		known, err := setProperty(m, p.name, p.value)
		if err != nil {
			return err
		}
		if !known {
			s.log.Warn("a batch names a property that IoT Hub does not know; names of application properties begin with "+appPrefix, "category", hub.DeviceTelemetry, "name", p.name)
		}
	}
	return nil
}
