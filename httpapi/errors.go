package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/iolite-emulator/iolite/hub"
)

// badJSON explains where a request body is not what it should be.
func badJSON(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return refuse(hub.CodeArgumentInvalid, fmt.Sprintf("the request body is not JSON, see byte %d: %v", syntax.Offset, syntax))
	case errors.As(err, &kind):
		return refuse(hub.CodeArgumentInvalid, fmt.Sprintf("the request body has a JSON %s for %q, see byte %d", kind.Value, kind.Field, kind.Offset))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return refuse(hub.CodeArgumentInvalid, "the request body ends too early to be JSON")
	default:
		return refuse(hub.CodeArgumentInvalid, "the request body is not valid: "+err.Error())
	}
}

// badBody explains why a request body could not be read.
func badBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return refuse(hub.CodeArgumentInvalid, fmt.Sprintf("the request body did not arrive within %v", readTimeout))
	}
	return refuse(hub.CodeArgumentInvalid, "the request body could not be read")
}

// refusal is an error that only a head can see. It becomes a hub error when it is answered.
type refusal struct {
	code   hub.Code
	detail string
}

// Error implements error.
func (r *refusal) Error() string { return r.detail }

func refuse(code hub.Code, detail string) error { return &refusal{code, detail} }

func tooLarge(limit int64) error {
	return refuse(hub.CodeMessageTooLarge, fmt.Sprintf("the request body has more than %d bytes", limit))
}
