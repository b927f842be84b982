package amqpsrv

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/iolite-emulator/iolite/amqp10"
	"github.com/iolite-emulator/iolite/hub"
)

const (
	// selectorFilter is the filter that Event Hubs clients place on a source to say where to begin.
	selectorFilter = "apache.org:selector-filter:string"
	// maxSelector bounds the text of a selector, in bytes; SDKs send fewer than 100.
	maxSelector = 1024
)

// positionOf returns where the source's filter asks to begin. No filter means the earliest event. Filters that are not
// the selector are named in ignored; they may not be echoed.
func positionOf(filter amqp10.Map) (from hub.Position, ignored []string, err error) {
	for _, e := range filter {
		key := fmt.Sprint(e.Key)
		if key != selectorFilter {
			ignored = append(ignored, key)
			continue
		}
		text, ok := selectorText(e.Value)
		if !ok {
			return from, ignored, fmt.Errorf("the value of the filter %s is not a string", selectorFilter)
		}
		if from, err = parseSelector(text); err != nil {
			return from, ignored, err
		}
	}
	return from, ignored, nil
}

// selectorText unwraps the described value; pyamqp describes it by symbol, others by number, uAMQP may send binary.
func selectorText(v any) (string, bool) {
	if d, ok := v.(amqp10.Described); ok {
		v = d.Value
	}
	switch t := v.(type) {
	case string:
		return t, true
	case []byte:
		return string(t), true
	case amqp10.Symbol:
		return string(t), true
	}
	return "", false
}

// parseSelector reads "amqp.annotation.<name> <op> '<value>'" with the operators > and >=, the value quoted or not.
func parseSelector(text string) (hub.Position, error) {
	if len(text) > maxSelector {
		return hub.Position{}, fmt.Errorf("the selector is longer than %d bytes", maxSelector)
	}
	name, value, ok := strings.Cut(text, ">")
	if !ok {
		return hub.Position{}, fmt.Errorf("the selector %q has none of the operators > and >=", text)
	}
	value, inclusive := strings.CutPrefix(value, "=")
	value, err := unquote(strings.TrimSpace(value))
	if err != nil {
		return hub.Position{}, fmt.Errorf("selector %q: %w", text, err)
	}
	annotation, ok := cutPrefixFold(strings.TrimSpace(name), "amqp.annotation.")
	if !ok {
		return hub.Position{}, fmt.Errorf("the selector %q does not compare an amqp.annotation", text)
	}
	p, err := position(strings.ToLower(annotation), value, inclusive)
	if err != nil {
		return hub.Position{}, fmt.Errorf("selector %q: %w", text, err)
	}
	return p, nil
}

func unquote(s string) (string, error) {
	if !strings.ContainsAny(s, `'"`) {
		return s, nil
	}
	if len(s) >= 2 && s[0] == s[len(s)-1] && !strings.ContainsAny(s[1:len(s)-1], `'"`) {
		return strings.TrimSpace(s[1 : len(s)-1]), nil
	}
	return "", errors.New("the value is not quoted well")
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

func position(annotation, value string, inclusive bool) (hub.Position, error) {
	if strings.EqualFold(value, "@latest") {
		return hub.Position{Latest: true}, nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return hub.Position{}, fmt.Errorf("%q is not a whole number", value)
	}
	switch annotation {
	case "x-opt-offset":
		return orEarliest(n, hub.Position{Offset: &n, Exclusive: !inclusive}), nil
	case "x-opt-sequence-number":
		return orEarliest(n, hub.Position{Sequence: &n, Exclusive: !inclusive}), nil
	case "x-opt-enqueued-time", "x-opt-enqueuedtimeutc":
		return after(n, inclusive)
	}
	return hub.Position{}, fmt.Errorf("events cannot be selected by the annotation %q", annotation)
}

// orEarliest returns p, or the earliest event for a negative number: "-1" is Event Hubs' word for the beginning.
func orEarliest(n int64, p hub.Position) hub.Position {
	if n < 0 {
		return hub.Position{}
	}
	return p
}

// after returns the position of events enqueued after (or at) a time in milliseconds, the unit peers see: everything
// within the named millisecond is at that time.
func after(ms int64, inclusive bool) (hub.Position, error) {
	const year9999 = 253402300799999
	if ms > year9999 {
		return hub.Position{}, fmt.Errorf("%d ms is beyond the year 9999", ms)
	}
	if !inclusive {
		ms++
	}
	if ms <= 0 {
		return hub.Position{}, nil
	}
	return hub.Position{Enqueued: time.UnixMilli(ms).UTC()}, nil
}
