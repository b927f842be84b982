package egress

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConnectionStringsSayHowToGetThere(t *testing.T) {
	const sas = "SharedAccessKeyName=n;SharedAccessKey=k=="
	for connection, want := range map[string]entity{
		"Endpoint=sb://ns.servicebus.windows.net/;" + sas + ";EntityPath=hub":          {host: "ns.servicebus.windows.net:5671", name: "ns.servicebus.windows.net", tls: true, path: "hub", cbs: true, keyName: "n", key: "k=="},
		"Endpoint=sb://localhost;" + sas + ";UseDevelopmentEmulator=true;EntityPath=q": {host: "localhost:5672", name: "localhost", path: "q", cbs: true, keyName: "n", key: "k=="},
		" endpoint = sb://h:7 ; useDevelopmentEmulator=False;entitypath=q;;SharedAccessSignature=SharedAccessSignature sr=x&sig=y&se=1": {
			host: "h:7", name: "h", tls: true, path: "q", cbs: true, token: "SharedAccessSignature sr=x&sig=y&se=1"},
		"Endpoint=amqp://guest:a%2Fb@[::1]/;EntityPath=/amq/queue/in": {host: "[::1]:5672", name: "::1", path: "/amq/queue/in", plain: true, user: "guest", password: "a/b"},
		"Endpoint=amqps://broker;EntityPath=q":                        {host: "broker:5671", name: "broker", tls: true, path: "q"},
	} {
		got, err := parseEntity(connection)
		if err != nil {
			t.Errorf("%s: %v", connection, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(entity{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", connection, diff)
		}
	}
}

func TestBrokenConnectionStringsAreRefusedWithoutTheirSecret(t *testing.T) {
	for connection, says := range map[string]string{
		"":                               "EntityPath",
		"s3cret":                         "Name=value",
		"=s3cret":                        "Name=value",
		"EntityPath=a;EntityPath=s3cret": "Name=value",
		"Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=s3cret":                                           "EntityPath",
		"Endpoint=sb://h;SharedAccessKey=s3cret;EntityPath=q":                                                    "neither SharedAccessKeyName",
		"Endpoint=http://h;SharedAccessKeyName=n;SharedAccessKey=s3cret;EntityPath=q":                            "none of sb://",
		"Endpoint=h;SharedAccessKeyName=n;SharedAccessKey=s3cret;EntityPath=q":                                   "of the form sb://",
		"Endpoint=sb://u:s3cret@h;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=q":                          "user in the Endpoint",
		"Endpoint=sb://h:0;SharedAccessKeyName=n;SharedAccessKey=s3cret;EntityPath=q":                            "bad port",
		"Endpoint=sb://h:65536;SharedAccessKeyName=n;SharedAccessKey=s3cret;EntityPath=q":                        "bad port",
		"Endpoint=sb://h/path;SharedAccessKeyName=n;SharedAccessKey=s3cret;EntityPath=q":                         "of the form sb://",
		"Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=s3cret;EntityPath=q;UseDevelopmentEmulator=maybe": "UseDevelopmentEmulator",
		"Endpoint=amqp://h;SharedAccessKeyName=n;SharedAccessKey=s3cret;EntityPath=q":                            "for sb:// alone",
		"Endpoint=amqp://u:s3cret@h;EntityPath=q;UseDevelopmentEmulator=true":                                    "for sb:// alone",
		"Endpoint=amqp://u:s3cret@h:x y;EntityPath=q":                                                            "of the form sb://",
		"EntityPath=" + strings.Repeat("s", maxEntityPath+1):                                                     "EntityPath",
		strings.Repeat("s3cret", 8<<10):                                                                          "longer",
	} {
		_, err := parseEntity(connection)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%.90s: %v does not say %q", connection, err, says)
		}
	}
}

func FuzzConnectionString(f *testing.F) {
	f.Add("Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=k==;EntityPath=hub")
	f.Add("Endpoint=sb://localhost;SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true;EntityPath=q")
	f.Add("Endpoint=amqps://u:p@[::1]:9;EntityPath=/amq/queue/x")
	f.Fuzz(func(t *testing.T, connection string) {
		e, err := parseEntity(connection)
		if err != nil {
			return
		}
		if e.name == "" || e.path == "" || !strings.Contains(e.host, ":") || e.cbs && e.plain || e.cbs && e.token == "" && (e.key == "" || e.keyName == "") {
			t.Errorf("%q makes %+v", connection, e)
		}
		if e.cbs && e.token == "" && !strings.HasPrefix(e.sign(start), "SharedAccessSignature sr=amqp%3A%2F%2F") {
			t.Errorf("%q signs %s", connection, e.sign(start))
		}
	})
}
