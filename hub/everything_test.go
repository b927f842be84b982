package hub

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/iolite-emulator/iolite/clock"
	"github.com/iolite-emulator/iolite/store"
)

// stormTurns is how often each goroutine of the storm does its act at least.
const stormTurns = 60

var stormTime = flag.Duration("storm", 0, "how long everything happens at once: minutes find more than the default's moment")

// storm is one hub on which everything happens at once.
type storm struct {
	t    *testing.T
	h    *Hub
	tick func()
}

// deviceKey is one of few devices, so that much happens to each.
func (s *storm) deviceKey() store.Key { return store.Key{DeviceID: "d" + strconv.Itoa(rand.IntN(12))} }

func (s *storm) moduleKey() store.Key {
	return store.Key{DeviceID: s.deviceKey().DeviceID, ModuleID: "m" + strconv.Itoa(rand.IntN(2))}
}

// stormActs are what goroutines do again and again. Refusals are part of it; internal errors are not.
var stormActs = map[string]func(*storm) error{
	"create device": func(s *storm) error {
		id := store.Identity{Key: s.deviceKey(), IoTEdge: rand.IntN(3) == 0}
		_, err := s.h.Admin().CreateIdentity(ctx, id)
		return err
	},
	"create module": func(s *storm) error {
		_, err := s.h.Admin().CreateIdentity(ctx, store.Identity{Key: s.moduleKey()})
		return err
	},
	"update": func(s *storm) error {
		id := store.Identity{Key: s.deviceKey()}
		if rand.IntN(4) == 0 {
			id.Status = store.Disabled
		}
		_, err := s.h.Admin().UpdateIdentity(ctx, id, "*")
		return err
	},
	"delete": func(s *storm) error {
		if rand.IntN(4) > 0 {
			return nil
		}
		return s.h.Admin().DeleteIdentity(ctx, s.deviceKey(), "*")
	},
	"patch": func(s *storm) error {
		patch := fmt.Appendf(nil, `{"tags":{"n":%d},"properties":{"desired":{"p":{"k%d":%d}}}}`, rand.IntN(4), rand.IntN(3), rand.IntN(100))
		_, err := s.h.Admin().UpdateTwin(ctx, s.deviceKey(), patch, "")
		return err
	},
	"replace": func(s *storm) error {
		_, err := s.h.Admin().ReplaceTwin(ctx, s.moduleKey(), fmt.Appendf(nil, `{"tags":{"n":%d}}`, rand.IntN(4)), "")
		return err
	},
	"device": func(s *storm) error { return s.beDevice(s.deviceKey()) },
	"module": func(s *storm) error { return s.beDevice(s.moduleKey()) },
	"invoke": func(s *storm) error {
		call := MethodCall{Name: "m", ResponseTimeout: 5 * time.Second, ConnectTimeout: time.Duration(rand.IntN(3)) * time.Second}
		_, err := s.h.Admin().InvokeMethod(ctx, s.deviceKey(), call)
		return err
	},
	"job": func(s *storm) error {
		id, body := "j"+strconv.Itoa(rand.IntN(100000)), tagJob("*", "")
		switch rand.IntN(3) {
		case 0:
			body = methodJob("")
		case 1:
			soon := s.h.Now().Add(time.Duration(rand.IntN(10)) * time.Second).Format(time.RFC3339)
			body = tagJob("FROM devices.modules WHERE tags.n < 3", `,"startTime":"`+soon+`"`)
		}
		_, err := s.h.Admin().ScheduleJob(ctx, id, body)
		if err == nil && rand.IntN(2) == 0 {
			_, err = s.h.Admin().CancelJob(ctx, id)
		}
		return err
	},
	"configure": func(s *storm) error {
		id := "c" + strconv.Itoa(rand.IntN(4))
		if rand.IntN(3) == 0 {
			return s.h.Admin().DeleteConfiguration(ctx, id, "")
		}
		condition := [...]string{"tags.n > 1", "properties.reported.r > 3", "status = 'disabled'", "NOT capabilities.iotEdge"}[rand.IntN(4)]
		body := config(rand.IntN(5), condition, fmt.Sprintf(`{"properties.desired.p.k%d":%d}`, rand.IntN(3), rand.IntN(100)))
		if rand.IntN(4) == 0 {
			body = []byte(`{"targetCondition":"FROM devices.modules WHERE status = 'disabled'","content":{"moduleContent":{"properties.desired.z":1}}}`)
		}
		if rand.IntN(4) == 0 {
			body = fmt.Appendf(nil, `{"targetCondition":"*","content":{"modulesContent":{"$edgeAgent":{"properties.desired":{"a":1}},"m0":{"properties.desired.x":1}}}}`)
		}
		_, err := s.h.Admin().PutConfiguration(ctx, id, body, [...]string{"", `"*"`}[rand.IntN(2)])
		return err
	},
	"apply": func(s *storm) error {
		return s.h.Admin().ApplyConfiguration(ctx, s.deviceKey().DeviceID, []byte(`{"modulesContent":{"$edgeAgent":{"properties.desired":{"a":1}},"m1":{"properties.desired.y":1}}}`))
	},
	"digital twin": func(s *storm) error {
		patch := [...]string{`[{"op":"add","path":"/t","value":1}]`, `[{"op":"remove","path":"/t"}]`, `[{"op":"add","path":"/c","value":{"$metadata":{},"q":1}}]`}[rand.IntN(3)]
		_, err := s.h.Admin().UpdateDigitalTwin(ctx, s.deviceKey().DeviceID, []byte(patch), "")
		return err
	},
	"regenerate": func(s *storm) error {
		_, _, err := s.h.Admin().RegenerateKeys(ctx, "swap", []store.Key{s.deviceKey()})
		return err
	},
	"send": func(s *storm) error {
		var m store.Message
		m.To = "/devices/" + s.deviceKey().DeviceID + "/messages/devicebound"
		return s.h.Admin().SendC2D(ctx, m)
	},
	"disconnect": func(s *storm) error {
		s.h.Disconnect(s.deviceKey().DeviceID)
		return nil
	},
	"upload": func(s *storm) error {
		key := s.deviceKey()
		d, err := s.h.OpenDevice(ctx, owner(key), key, DeviceOptions{Transient: true})
		if err != nil {
			return err
		}
		defer d.Close()
		u, err := d.CreateFileUpload(ctx, "f"+strconv.Itoa(rand.IntN(3)))
		if err != nil || rand.IntN(3) == 0 {
			return err
		}
		return d.CompleteFileUpload(ctx, FileUploadResult{CorrelationID: u.CorrelationID, Success: new(rand.IntN(3) > 0)})
	},
	"file notification": func(s *storm) error {
		service := s.h.Admin()
		m, ok, err := service.PollFileNotification(ctx)
		if !ok || err != nil {
			return err
		}
		settle := [...]func(*ServiceSession) error{
			func(s *ServiceSession) error { return s.CompleteFileNotification(ctx, m.LockToken) },
			func(s *ServiceSession) error { return s.AbandonFileNotification(ctx, m.LockToken) },
		}[rand.IntN(2)]
		return settle(service)
	},
	"query": func(s *storm) error {
		text := [...]string{
			"SELECT * FROM devices WHERE properties.reported.r > 3", "SELECT tags.n, COUNT() FROM devices GROUP BY tags.n",
			"SELECT * FROM devices.modules", "SELECT * FROM devices.jobs", "SELECT deviceId, properties FROM devices WHERE cloudToDeviceMessageCount = 0",
		}[rand.IntN(5)]
		page := QueryPage{}
		for first := true; first || page.Continuation != ""; first = false {
			var err error
			if page, err = s.h.Admin().Query(ctx, QueryRequest{Text: text, PageSize: 3, Continuation: page.Continuation}); err != nil {
				return err
			}
		}
		_, err := s.h.Admin().Configurations(ctx, 0)
		return err
	},
	"route": func(s *storm) error {
		return s.h.SetRouting(ctx, [...]Routing{{}, noticeRouting()}[rand.IntN(2)])
	},
	"reset": func(s *storm) error {
		if rand.IntN(40) > 0 {
			return nil
		}
		return s.h.Reset(ctx)
	},
	"tick": func(s *storm) error {
		s.tick()
		return nil
	},
}

// beDevice connects, does what devices do, and goes.
func (s *storm) beDevice(key store.Key) error {
	d, err := s.h.OpenDevice(ctx, owner(key), key, DeviceOptions{Ended: func(*Error) {}})
	if err != nil {
		return err
	}
	defer d.Close()
	last := int64(0)
	deliver := func(c DesiredChange) {
		if c.Version <= last {
			s.t.Errorf("%s: desired version %d after %d", key, c.Version, last)
		}
		last = c.Version
	}
	err = errors.Join(d.SubscribeDesired(deliver), d.SubscribeMethods(func(r MethodRequest) bool {
		switch r.ID % 3 {
		case 0:
			go d.RespondMethod(r.ID, 200, []byte(`{"a":1}`))
		case 1:
			return false
		}
		return true // and never answers
	}))
	for i := 0; i < 5 && err == nil; i++ {
		if _, err = d.UpdateReported(ctx, fmt.Appendf(nil, `{"r":%d}`, rand.IntN(10)), 0); err == nil {
			_, err = d.Twin(ctx)
		}
	}
	return err
}

func TestEverythingAtOnceLeavesNothingBehind(t *testing.T) {
	files := &testStorage{blobs: map[string]int64{}}
	for device := range 12 {
		files.blobs[fmt.Sprintf("d%d/f1", device)] = 1
	}
	h, c := newTestHub(t, func(cfg *Config) { cfg.Storage = files })
	s := &storm{t: t, h: h, tick: func() { c.Advance(500 * time.Millisecond) }}
	until := clock.Wall().Add(*stormTime)
	var working sync.WaitGroup
	done := make(chan struct{})
	for name, act := range stormActs {
		for range 2 {
			working.Go(func() {
				for i := 0; i < stormTurns || clock.Wall().Before(until); i++ {
					if err := act(s); codeOf(err) < 0 || codeOf(err) == CodeServerError {
						t.Errorf("%s: %v", name, err)
						return
					}
				}
			})
		}
	}
	go func() { // so that nobody waits for a device for good
		for {
			select {
			case <-done:
				return
			default:
				s.tick()
				_ = clock.New().Sleep(ctx, time.Millisecond)
			}
		}
	}()
	working.Wait()
	close(done)

	s.checkConfigured()
	c.Advance(1000 * time.Hour)
	eventually(t, "all jobs are over", noJobs(h))
	if err := h.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if keys := h.peerKeys(); len(keys) > 0 {
		t.Errorf("peers are left: %v", keys)
	}
	if n := h.metrics.connected.Load(); n != 0 {
		t.Errorf("%d devices are still connected", n)
	}
}

// checkConfigured checks that every twin is as the configurations want it.
func (s *storm) checkConfigured() {
	set := s.h.configurations.rules.Load()
	if set == nil || set.era != s.h.era.Load() {
		return
	}
	for _, modules := range []bool{false, true} {
		rows, err := s.h.twins.Scan(ctx, modules, store.Key{}, 1000, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		for i := range rows {
			if p, _, err := s.h.configurations.plan(ctx, set, rows[i].Key, nil); err != nil || p != nil {
				s.t.Errorf("%s is not as the configurations want it, error %v", rows[i].Key, err)
			}
		}
	}
}
