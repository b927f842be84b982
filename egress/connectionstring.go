package egress

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/iolite-emulator/iolite/blob"
)

const maxEntityPath = 1024 // bytes

// entity is a node of an AMQP 1.0 peer, and how to get there.
type entity struct {
	host string // with the port
	name string // the host alone
	tls  bool
	path string // EntityPath

	cbs            bool   // put-token, as Event Hubs and Service Bus want; else SASL alone
	keyName, key   string // of a shared access policy
	token          string // a shared access signature that somebody else has made
	user, password string // SASL PLAIN; ANONYMOUS without a user
	plain          bool
}

// parseEntity reads a connection string with an EntityPath. Its Endpoint tells what is at the other end:
//
//	sb://host[:port]                      Event Hubs or Service Bus: SASL ANONYMOUS, then a token through $cbs; TLS
//	...;UseDevelopmentEmulator=true       the same without TLS, as the emulators of these services are reached
//	amqps://[user:password@]host[:port]   another broker: SASL PLAIN, or ANONYMOUS without a user; TLS
//	amqp://[user:password@]host[:port]    the same without TLS
//
// Errors hold no secret.
func parseEntity(connection string) (entity, error) {
	fields, err := blob.ConnectionFields(connection)
	if err != nil {
		return entity{}, err
	}
	e := entity{path: fields["entitypath"], keyName: fields["sharedaccesskeyname"], key: fields["sharedaccesskey"], token: fields["sharedaccesssignature"]}
	if e.path == "" || len(e.path) > maxEntityPath {
		return entity{}, errors.New("the connection string has no EntityPath, or one of more than 1024 characters")
	}
	u, err := url.Parse(fields["endpoint"])
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return entity{}, errors.New("the connection string's Endpoint is not of the form sb://host, amqps://host or amqp://host")
	}
	emulator, err := developmentEmulator(fields)
	if err != nil {
		return entity{}, err
	}
	if err := e.speak(u, emulator); err != nil {
		return entity{}, err
	}
	return e, e.address(u)
}

// developmentEmulator reads UseDevelopmentEmulator.
func developmentEmulator(fields map[string]string) (bool, error) {
	text, given := fields["usedevelopmentemulator"]
	if !given {
		return false, nil
	}
	yes, err := strconv.ParseBool(text)
	if err != nil {
		return false, errors.New("the connection string's UseDevelopmentEmulator is neither true nor false")
	}
	return yes, nil
}

// speak decides about TLS and SASL.
func (e *entity) speak(u *url.URL, emulator bool) error {
	switch u.Scheme {
	case "sb":
		e.cbs, e.tls = true, !emulator
		if u.User != nil {
			return errors.New("a user in the Endpoint is for amqp:// and amqps:// alone")
		}
		if e.token == "" && (e.keyName == "" || e.key == "") {
			return errors.New("the connection string has neither SharedAccessKeyName and SharedAccessKey nor SharedAccessSignature")
		}
	case "amqp", "amqps":
		e.tls = u.Scheme == "amqps"
		if emulator || e.keyName != "" || e.key != "" || e.token != "" {
			return errors.New("shared access keys and UseDevelopmentEmulator are for sb:// alone; amqp:// and amqps:// have user:password@host")
		}
		if u.User != nil {
			e.plain, e.user = true, u.User.Username()
			e.password, _ = u.User.Password()
		}
	default:
		return errors.New("the connection string's Endpoint is none of sb://, amqps:// and amqp://")
	}
	return nil
}

// address fills in the default ports (AMQP 1.0, 5.2 and the IANA registry).
func (e *entity) address(u *url.URL) error {
	port := u.Port()
	if port == "" {
		port = "5672"
		if e.tls {
			port = "5671"
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("the connection string's Endpoint has a bad port")
	}
	e.name = u.Hostname()
	e.host = net.JoinHostPort(e.name, port)
	return nil
}
