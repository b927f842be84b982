package amqpsrv

import (
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iolite-emulator/iolite/auth"
	"github.com/iolite-emulator/iolite/store"
)

func TestGrantsForDevice(t *testing.T) {
	d1 := store.Key{DeviceID: "a:b"}
	own := auth.Principal{DeviceID: "a:b", Rights: auth.DeviceConnect, Scope: "devices/a:b"}
	service := auth.Principal{Policy: "service", Rights: auth.ServiceConnect}
	device := auth.Principal{Policy: "device", Rights: auth.DeviceConnect}
	scoped := auth.Principal{Policy: "device", Rights: auth.DeviceConnect, Scope: "devices/a%3Ab"} // encoded twice by the client
	for name, c := range map[string]struct {
		put  []auth.Principal
		key  store.Key
		want []auth.Principal
	}{
		"nobody":                   {nil, d1, nil},
		"its own":                  {[]auth.Principal{service, own}, d1, []auth.Principal{own}},
		"its own before a policy":  {[]auth.Principal{device, own}, d1, []auth.Principal{own, device}},
		"the newest":               {[]auth.Principal{own, scoped}, d1, []auth.Principal{scoped}},
		"only one without right":   {[]auth.Principal{service}, d1, []auth.Principal{service}},
		"not of another device":    {[]auth.Principal{own}, store.Key{DeviceID: "x"}, nil},
		"no device for a module":   {[]auth.Principal{own}, store.Key{DeviceID: "a:b", ModuleID: "m"}, nil},
		"a device's policy for it": {[]auth.Principal{scoped}, store.Key{DeviceID: "a:b", ModuleID: "m"}, []auth.Principal{scoped}},
	} {
		var g grants
		for _, p := range c.put {
			g.put(p)
		}
		if diff := cmp.Diff(c.want, g.forDevice(c.key)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A connection holds a bounded number of tokens, and those it holds can be renewed for ever.
func TestGrantsAreBounded(t *testing.T) {
	var g grants
	for i := range maxGrants {
		if !g.put(auth.Principal{DeviceID: strconv.Itoa(i)}) {
			t.Fatalf("refused the %dth", i)
		}
	}
	if g.put(auth.Principal{DeviceID: "one more"}) {
		t.Error("took one too many")
	}
	if !g.put(auth.Principal{DeviceID: "7"}) {
		t.Error("refused a renewal")
	}
}
