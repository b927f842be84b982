package blob

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// sasVersion is the version that signatures are made for; later ones sign more fields, which stay empty here.
const sasVersion = "2018-11-09"

const maxConnectionString = 8 << 10 // bytes

// The account that every storage emulator knows (article "Use the Azurite emulator for local Azure Storage development").
const (
	emulatorAccount  = "devstoreaccount1"
	emulatorKey      = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==" // #nosec G101 -- public
	emulatorEndpoint = "http://127.0.0.1:10000/" + emulatorAccount
)

// Account is a storage account that a connection string tells of. Its errors and its fmt forms hold no key.
type Account struct {
	name     string
	endpoint *url.URL
	key      []byte // nil when the connection string has a signature instead
	sas      string
}

// ParseAccount reads a storage connection string: UseDevelopmentStorage=true, or AccountName with AccountKey or SharedAccessSignature,
// and BlobEndpoint, or DefaultEndpointsProtocol with EndpointSuffix (article "Configure Azure Storage connection strings").
func ParseAccount(connection string) (Account, error) {
	fields, err := ConnectionFields(connection)
	if err != nil {
		return Account{}, err
	}
	if strings.EqualFold(fields["usedevelopmentstorage"], "true") {
		fields = map[string]string{"accountname": emulatorAccount, "accountkey": emulatorKey, "blobendpoint": emulatorEndpoint}
	}
	a := Account{name: fields["accountname"], sas: strings.TrimPrefix(fields["sharedaccesssignature"], "?")}
	if a.endpoint, err = endpointOf(fields); err != nil {
		return Account{}, err
	}
	if a.sas != "" {
		return a, nil
	}
	if a.name == "" || fields["accountkey"] == "" {
		return Account{}, errors.New("the storage connection string has neither AccountName and AccountKey nor SharedAccessSignature")
	}
	if a.key, err = base64.StdEncoding.DecodeString(fields["accountkey"]); err != nil {
		return Account{}, errors.New("the storage connection string's AccountKey is not base64")
	}
	return a, nil
}

// ConnectionFields splits a connection string of Azure, "Name=value;Name=value", of storage or another service, of at most 8 KiB; names are in lower case. Its
// errors hold nothing of the text.
func ConnectionFields(connection string) (map[string]string, error) {
	if len(connection) > maxConnectionString {
		return nil, fmt.Errorf("the connection string is longer than %d bytes", maxConnectionString)
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(connection, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := fields[name]; !ok || name == "" || twice {
			return nil, errors.New("the connection string is not of the form Name=value;Name=value")
		}
		fields[name] = strings.TrimSpace(value)
	}
	return fields, nil
}

// endpointOf returns the blob endpoint, without a slash at its end.
func endpointOf(fields map[string]string) (*url.URL, error) {
	text := fields["blobendpoint"]
	if text == "" {
		scheme, suffix := fields["defaultendpointsprotocol"], fields["endpointsuffix"]
		if scheme == "" {
			scheme = "https"
		}
		if suffix == "" {
			suffix = "core.windows.net"
		}
		if name := fields["accountname"]; name == "" || strings.ContainsAny(name, "/\\?#@:.%") {
			return nil, errors.New("the storage connection string has neither BlobEndpoint nor an AccountName that a host can be called")
		}
		text = scheme + "://" + fields["accountname"] + ".blob." + suffix
	}
	u, err := url.Parse(strings.TrimSuffix(text, "/"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, errors.New("the storage connection string's blob endpoint is no http or https URL")
	}
	return u, nil
}

// Name returns the name of the account; empty when the connection string has a signature and no name.
func (a Account) Name() string { return a.name }

// Endpoint returns the URL of the blob service, without a slash at its end.
func (a Account) Endpoint() string { return a.endpoint.String() }

// Container returns the URI of a container with a SAS that grants permissions (letters of "Create a service SAS", in their order:
// racwdl) until expiry, or with the connection string's own signature.
func (a Account) Container(container, permissions string, expiry time.Time) string {
	return a.uri("c", container, "", permissions, expiry)
}

// Blob returns the URI of a blob with a SAS, as Container does.
func (a Account) Blob(container, name, permissions string, expiry time.Time) string {
	return a.uri("b", container, name, permissions, expiry)
}

func (a Account) uri(resource, container, name, permissions string, expiry time.Time) string {
	path := []string{container}
	if name != "" {
		path = append(path, strings.Split(name, "/")...)
	}
	u := a.endpoint.JoinPath(path...)
	u.RawQuery = a.sas
	if a.key != nil {
		u.RawQuery = a.sign(resource, strings.Join(path, "/"), permissions, expiry).Encode()
	}
	return u.String()
}

// sign makes a service SAS (article "Create a service SAS", version 2018-11-09).
func (a Account) sign(resource, path, permissions string, expiry time.Time) url.Values {
	container, name, _ := strings.Cut(path, "/")
	q := url.Values{"sv": {sasVersion}, "sr": {resource}, "sp": {permissions}, "se": {expiry.UTC().Format(time.RFC3339)}}
	k := SharedKey{a.name, a.key}
	q.Set("sig", k.sign(k.serviceText(q, Resource{container, name})))
	return q
}

// String tells the account without its secrets.
func (a Account) String() string {
	if a.endpoint == nil {
		return "no account"
	}
	return a.name + " at " + a.endpoint.String()
}

// GoString does the same for %#v.
func (a Account) GoString() string { return a.String() }
