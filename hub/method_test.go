package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/store"
)

// answering makes a session answer each method with f, on a goroutine of its own as a device would.
func answering(t testing.TB, s *DeviceSession, f func(MethodRequest) (int, string)) {
	t.Helper()
	err := s.SubscribeMethods(func(r MethodRequest) bool {
		go func() {
			status, payload := f(r)
			s.RespondMethod(r.ID, status, []byte(payload))
		}()
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

// silent takes methods and never answers; it tells of each.
func silent(t testing.TB, s *DeviceSession) <-chan MethodRequest {
	t.Helper()
	asked := make(chan MethodRequest, 10)
	if err := s.SubscribeMethods(func(r MethodRequest) bool { asked <- r; return true }); err != nil {
		t.Fatal(err)
	}
	return asked
}

// invoking calls a method in the background.
func invoking(h *Hub, key store.Key, call MethodCall) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := h.Admin().InvokeMethod(ctx, key, call)
		done <- err
	}()
	return done
}

func TestMethodPayloadsOfEveryKindGoThroughUnchanged(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	answering(t, s, func(r MethodRequest) (int, string) { return 200, string(r.Payload) })
	for _, payload := range []string{`null`, `true`, `-0.10`, `9007199254740993`, `"text"`, `[1, 2]`, `{"b":1, "a":2}`, `""`} {
		got, err := h.Admin().InvokeMethod(ctx, s.Key(), MethodCall{Name: "echo", Payload: []byte(payload)})
		if err != nil || string(got.Payload) != payload || got.Status != 200 {
			t.Errorf("%s came back as %s (%d), %v", payload, got.Payload, got.Status, err)
		}
	}
	got, err := h.Admin().InvokeMethod(ctx, s.Key(), MethodCall{Name: "echo"})
	if err != nil || string(got.Payload) != "null" {
		t.Errorf("no payload came back as %q, %v", got.Payload, err)
	}
}

func TestADevicesStatusAndSilenceAreItsOwn(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	answering(t, s, func(r MethodRequest) (int, string) { return -7, "" })
	got, err := h.Admin().InvokeMethod(ctx, s.Key(), MethodCall{Name: "m"})
	if err != nil || got.Status != -7 || string(got.Payload) != "null" {
		t.Errorf("%d %q %v", got.Status, got.Payload, err)
	}
}

func TestConcurrentCallsGetTheirOwnResponses(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	answering(t, s, func(r MethodRequest) (int, string) { return 200, string(r.Payload) })
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			got, err := h.Admin().InvokeMethod(ctx, s.Key(), MethodCall{Name: "m", Payload: fmt.Append(nil, i)})
			if err != nil || string(got.Payload) != fmt.Sprint(i) {
				t.Errorf("call %d got %s, %v", i, got.Payload, err)
			}
		})
	}
	wg.Wait()
}

func TestNobodyToCall(t *testing.T) {
	h, _ := newTestHub(t)
	admin := h.Admin()
	for key, want := range map[store.Key]Code{
		{DeviceID: "missing"}:                CodeDeviceNotFound,
		{DeviceID: "missing", ModuleID: "m"}: CodeDeviceNotFound,
		{DeviceID: "d", ModuleID: "missing"}: CodeModuleNotFound,
		{DeviceID: "offline"}:                CodeDeviceNotOnline,
		{DeviceID: "d"}:                      CodeDeviceNotOnline, // connected, but takes no methods
	} {
		if key.DeviceID == "offline" {
			addDevice(t, h, key)
		} else if _, err := h.registry.Get(ctx, store.Key{DeviceID: "d"}); err != nil {
			connect(t, h, "d")
		}
		_, err := admin.InvokeMethod(ctx, key, MethodCall{Name: "m"})
		wantCode(t, err, want)
		if e, _ := AsError(err); want == CodeDeviceNotOnline && e.Timeout != "00:00:00" {
			t.Errorf("info.timeout is %q", e.Timeout)
		}
	}
	s := connect(t, h, "d")
	silent(t, s)
	s.UnsubscribeMethods()
	_, err := admin.InvokeMethod(ctx, s.Key(), MethodCall{Name: "m"})
	wantCode(t, err, CodeDeviceNotOnline)
}

func TestBadCallsAreRefused(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	answering(t, s, func(MethodRequest) (int, string) { return 200, "" })
	for want, calls := range map[Code][]MethodCall{
		CodeArgumentInvalid: {
			{}, {Name: strings.Repeat("n", 129)}, {Name: "a/b"}, {Name: "a#"}, {Name: "a+"}, {Name: "m", Payload: []byte("{")}, {Name: "m", Payload: []byte("1 2")},
			{Name: "m", ResponseTimeout: 4 * time.Second}, {Name: "m", ResponseTimeout: 301 * time.Second}, {Name: "m", ResponseTimeout: -1},
			{Name: "m", ConnectTimeout: -1}, {Name: "m", ConnectTimeout: 301 * time.Second, ResponseTimeout: 300 * time.Second},
			{Name: "m", ConnectTimeout: 31 * time.Second},
		},
		CodeMessageTooLarge: {{Name: "m", Payload: []byte(`"` + strings.Repeat("x", 128<<10-1) + `"`)}},
		0: {
			{Name: strings.Repeat("n", 128)}, {Name: "component*command"}, {Name: "m", Payload: []byte(`"` + strings.Repeat("x", 128<<10-2) + `"`)},
			{Name: "m", ConnectTimeout: 30 * time.Second}, {Name: "m", ResponseTimeout: 300 * time.Second, ConnectTimeout: 300 * time.Second},
		},
	} {
		for _, call := range calls {
			if _, err := h.Admin().InvokeMethod(ctx, s.Key(), call); codeOf(err) != want {
				t.Errorf("%.20q %.20q %v %v: %v, want code %d", call.Name, call.Payload, call.ConnectTimeout, call.ResponseTimeout, err, want)
			}
		}
	}
}

func TestResponsesThatCannotBePassedOn(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	answering(t, s, func(r MethodRequest) (int, string) {
		if r.Name == "large" {
			return 200, `"` + strings.Repeat("x", 128<<10) + `"`
		}
		return 200, "{no json"
	})
	for _, name := range []string{"large", "garbage"} {
		_, err := h.Admin().InvokeMethod(ctx, s.Key(), MethodCall{Name: name})
		wantCode(t, err, CodeBadGateway)
	}
}

func TestAMethodTimesOutInTheHubsTime(t *testing.T) {
	h, c := newTestHub(t)
	s := connect(t, h, "d")
	asked := silent(t, s)
	done := invoking(h, s.Key(), MethodCall{Name: "m", ResponseTimeout: 10 * time.Second})
	r := <-asked
	c.Advance(10*time.Second - 1)
	select {
	case err := <-done:
		t.Fatalf("too early: %v", err)
	default:
	}
	c.Advance(1)
	wantCode(t, <-done, CodeGatewayTimeout)
	s.RespondMethod(r.ID, 200, nil) // late: nobody waits any more
	if n := len(s.tasks.Load().calls.calls); n != 0 {
		t.Errorf("%d calls are still remembered", n)
	}
}

func TestACallWaitsForTheDeviceToConnect(t *testing.T) {
	h, c := newTestHub(t)
	key := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	done := invoking(h, key, MethodCall{Name: "m", ConnectTimeout: 20 * time.Second})
	waiting := func() bool {
		p := h.findPeer(key)
		if p == nil {
			return false
		}
		defer h.unlockPeer(p)
		return p.waiting == 1
	}
	eventually(t, "the call waits", waiting)
	s := connect(t, h, "d")
	c.Advance(19 * time.Second)
	answering(t, s, func(MethodRequest) (int, string) { return 200, "" })
	wantCode(t, <-done, 0)
	s.Close()
	done = invoking(h, key, MethodCall{Name: "m", ConnectTimeout: 20 * time.Second})
	eventually(t, "the second call waits", waiting)
	c.Advance(20 * time.Second)
	err := <-done
	wantCode(t, err, CodeDeviceNotOnline)
	if e, _ := AsError(err); e.Text != "Timed out waiting for device to connect." || e.Timeout != "00:00:20" {
		t.Errorf("%q, info.timeout %q", e.Text, e.Timeout)
	}
	eventually(t, "nothing is remembered of the device", func() bool { return h.findPeer(key) == nil })
}

func TestACallEndsWithTheConnection(t *testing.T) {
	for name, end := range map[string]func(*Hub, *DeviceSession) Code{
		"closed":   func(_ *Hub, s *DeviceSession) Code { s.Close(); return CodeConnectionClosed },
		"replaced": func(h *Hub, s *DeviceSession) Code { connect(&testing.T{}, h, "d"); return CodeConnectionClosed },
		"deleted": func(h *Hub, s *DeviceSession) Code {
			_ = h.Admin().DeleteIdentity(ctx, s.Key(), "*")
			return CodeConnectionClosed
		},
		"reset": func(h *Hub, _ *DeviceSession) Code { _ = h.Reset(ctx); return CodeConnectionClosed },
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := newTestHub(t)
			s := connect(t, h, "d")
			asked := silent(t, s)
			done := invoking(h, s.Key(), MethodCall{Name: "m"})
			<-asked
			want := end(h, s)
			wantCode(t, <-done, want)
		})
	}
}

func TestWhoWaitsForADeviceLearnsOfItsDeletion(t *testing.T) {
	h, _ := newTestHub(t)
	key := addDevice(t, h, store.Key{DeviceID: "d"}).Key
	done := invoking(h, key, MethodCall{Name: "m", ConnectTimeout: 20 * time.Second})
	eventually(t, "the call waits", func() bool {
		p := h.findPeer(key)
		if p == nil {
			return false
		}
		defer h.unlockPeer(p)
		return p.waiting == 1
	})
	if err := h.Admin().DeleteIdentity(ctx, key, "*"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, <-done, CodeDeviceNotFound)
}

func TestACallerMayGiveUp(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	asked := silent(t, s)
	gone, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := h.Admin().InvokeMethod(gone, s.Key(), MethodCall{Name: "m"})
		done <- err
	}()
	<-asked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestASilentDeviceHoldsABoundedNumberOfCalls(t *testing.T) {
	h, _ := newTestHub(t)
	s, other := connect(t, h, "d"), connect(t, h, "other")
	if err := s.SubscribeMethods(func(MethodRequest) bool { return true }); err != nil {
		t.Fatal(err)
	}
	answering(t, other, func(MethodRequest) (int, string) { return 200, "" })
	stop, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range maxInflightMethods {
		wg.Go(func() { _, _ = h.Admin().InvokeMethod(stop, s.Key(), MethodCall{Name: "m"}) })
	}
	eventually(t, "all calls wait", func() bool {
		calls := &s.tasks.Load().calls
		calls.mu.Lock()
		defer calls.mu.Unlock()
		return len(calls.calls) == maxInflightMethods
	})
	_, err := h.Admin().InvokeMethod(ctx, s.Key(), MethodCall{Name: "m"})
	wantCode(t, err, CodeTooManyMethods)
	_, err = h.Admin().InvokeMethod(ctx, other.Key(), MethodCall{Name: "m"})
	wantCode(t, err, 0)
	cancel()
	wg.Wait()
}

func TestAModuleCallsMethodsWithinItsScope(t *testing.T) {
	h, _ := newTestHub(t)
	edge, err := h.Admin().CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: "edge"}, IoTEdge: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Admin().CreateIdentity(ctx, store.Identity{Key: store.Key{DeviceID: "leaf"}, DeviceScope: edge.DeviceScope}); err != nil {
		t.Fatal(err)
	}
	caller, sibling := store.Key{DeviceID: "edge", ModuleID: "caller"}, store.Key{DeviceID: "edge", ModuleID: "sibling"}
	addDevice(t, h, caller)
	addDevice(t, h, sibling)
	stranger := connect(t, h, "stranger")
	leaf := connect(t, h, "leaf")
	module, err := h.OpenDevice(ctx, owner(sibling), sibling, DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*DeviceSession{stranger, leaf, module} {
		answering(t, s, func(MethodRequest) (int, string) { return 200, "" })
	}
	s, err := h.OpenDevice(ctx, owner(caller), caller, DeviceOptions{Transient: true})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[store.Key]Code{leaf.Key(): 0, sibling: 0, stranger.Key(): CodeUnauthorized, {DeviceID: "edge"}: CodeDeviceNotOnline} {
		_, err := s.InvokeMethod(ctx, key, MethodCall{Name: "m"})
		if codeOf(err) != want {
			t.Errorf("%s: %v", key, err)
		}
	}
	_, err = leaf.InvokeMethod(ctx, sibling, MethodCall{Name: "m"})
	wantCode(t, err, CodeUnauthorized)
}

// A head that has taken a request and then loses the link ends the call with a reason, long before the time-out.
func TestAHeadFailsACallItCannotBring(t *testing.T) {
	h, _ := newTestHub(t)
	s := connect(t, h, "d")
	asked := silent(t, s)
	done := invoking(h, s.Key(), MethodCall{Name: "m"})
	r := <-asked
	if !s.MethodWaits(r.ID) {
		t.Error("nobody waits for a call that was just made")
	}
	s.FailMethod(r.ID, h.NewError(CodeBadGateway, "cut"))
	if e, _ := AsError(<-done); e.Code != CodeBadGateway {
		t.Errorf("the call ended with %v", e)
	}
	if s.MethodWaits(r.ID) {
		t.Error("somebody waits for a call that has failed")
	}
	s.FailMethod(r.ID, h.NewError(CodeBadGateway)) // nobody waits: ignored
	s.RespondMethod(r.ID, 200, nil)
}
