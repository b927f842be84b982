package broker

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/store"
)

func device(id string) store.Key         { return store.Key{DeviceID: id} }
func module(device, id string) store.Key { return store.Key{DeviceID: device, ModuleID: id} }

func TestUserNameNamesTheIdentityInEveryFormThatClientsSend(t *testing.T) {
	tests := map[string]userName{
		"h/d1/?api-version=2021-04-12":                          {host: "h", key: device("d1"), apiVersion: "2021-04-12"},
		"h/d1/api-version=2016-11-14":                           {host: "h", key: device("d1"), apiVersion: "2016-11-14"},
		"h/d1/api-version=2020-09-30&model-id=dtmi%3Aa%3BT%3B1": {host: "h", key: device("d1"), apiVersion: "2020-09-30", modelID: "dtmi:a;T;1"},
		"h/d1":                                  {host: "h", key: device("d1")},
		"h/d1/":                                 {host: "h", key: device("d1")},
		"h/d1/?":                                {host: "h", key: device("d1")},
		"h/d1/m1":                               {host: "h", key: module("d1", "m1")},
		"h/d1/m1/":                              {host: "h", key: module("d1", "m1")},
		"h/d1/m1/?api-version=2019-10-01":       {host: "h", key: module("d1", "m1"), apiVersion: "2019-10-01"},
		"h/d1/$edgeHub/?api-version=2018-06-30": {host: "h", key: module("d1", "$edgeHub"), apiVersion: "2018-06-30"},
		"h/d1/?api-version=2020-09-30&DeviceClientType=azure-iot%2F1%20x":   {host: "h", key: device("d1"), apiVersion: "2020-09-30", clientType: "azure-iot/1 x"},
		"h/d1/?DeviceClientType=c&api-version=2020-09-30&model-id=dtmi:a;1": {host: "h", key: device("d1"), apiVersion: "2020-09-30", clientType: "c", modelID: "dtmi:a;1"},
		"h/d1/m1/DeviceClientType=c&api-version=2020-09-30":                 {host: "h", key: module("d1", "m1"), apiVersion: "2020-09-30", clientType: "c"},
		"h/d1/?DeviceClientType=c":                                          {host: "h", key: device("d1"), clientType: "c"},
		"h/d1/?api-version=2018-08-30-preview":                              {host: "h", key: device("d1"), apiVersion: "2018-08-30-preview"},
		"h/d1/?api-version=2021-04-12&DeviceClientType=raw/slash":           {host: "h", key: device("d1"), apiVersion: "2021-04-12", clientType: "raw/slash"},
		"h/d1/?api-version=2021-04-12&DeviceClientType=100%":                {host: "h", key: device("d1"), apiVersion: "2021-04-12", clientType: "100%"},
		"h/a%2Fb+c=?#d/?api-version=2021-04-12":                             {host: "h", key: device("a%2Fb+c=?#d"), apiVersion: "2021-04-12"},
		"h/?x/?api-version=2021-04-12":                                      {host: "h", key: device("?x"), apiVersion: "2021-04-12"},
	}
	for text, want := range tests {
		got, err := parseUserName(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(userName{})); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", text, diff)
		}
	}
}

func TestUserNameOutsideTheGrammarIsRefused(t *testing.T) {
	long := strings.Repeat("x", maxID+1)
	tests := map[string]error{
		"":                                 errUserName,
		"d1":                               errUserName,
		"/d1/?api-version=2021-04-12":      errUserName,
		"h/":                               errUserName,
		"h//?api-version=2021-04-12":       errUserName,
		"h//m1/?api-version=2021-04-12":    errUserName,
		"h/d/m/x/?api-version=2021-04-12":  errUserName,
		"h/d /?api-version=2021-04-12":     errUserName,
		"h/dé/?api-version=2021-04-12":     errUserName,
		"h/" + long:                        errUserName,
		"h/d/" + long:                      errUserName,
		"h/d1/?api-version=":               nil,
		"h/d1/?api-version=2021-4-12":      errAPIVersion,
		"h/d1/?api-version=1999-04-12":     errAPIVersion,
		"h/d1/?api-version=latest":         errAPIVersion,
		"h/d1/?api-version=2021-04-12x":    errAPIVersion,
		"h/d1/api-version=2021-04-12-beta": errAPIVersion,
	}
	for text, want := range tests {
		if _, err := parseUserName(text); err != want {
			t.Errorf("%q: got %v, want %v", text, err, want)
		}
	}
}

func FuzzUserName(f *testing.F) {
	f.Add("h/d1/?api-version=2021-04-12&DeviceClientType=a%20b&model-id=dtmi:a;1")
	f.Add("h/d1/m1/api-version=2016-11-14")
	f.Add("h/?a=b/&api-version=")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parseUserName(text)
		if err != nil {
			return
		}
		if !validID(u.key.DeviceID) || u.key.ModuleID != "" && !validID(u.key.ModuleID) {
			t.Fatalf("%q names %+v", text, u.key)
		}
		if !strings.HasPrefix(text, u.host+"/"+u.key.String()) {
			t.Fatalf("%q names %+v, which does not stand at its beginning", text, u.key)
		}
		again, err := parseUserName(u.host + "/" + u.key.String() + "/?api-version=2021-04-12")
		if err != nil || again.key != u.key {
			t.Fatalf("%+v read back as %+v, %v", u.key, again.key, err)
		}
	})
}
