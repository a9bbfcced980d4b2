package market

import (
	"testing"
	"time"

	"edgenet.dev/proto"
)

// A job's view has its lost tries, with worker and reason, while it runs and
// afterwards, and how many there were.
func TestViewsHaveLostTries(t *testing.T) {
	s := newSim(t, 11, 4, nil)
	s.nodes[1].flaky, s.nodes[2].flaky, s.nodes[3].flaky = 60, 0, 0
	id := s.job(0, "tries", 40, Options{Fuel: 60_000_000})
	running := false
	s.until(5*time.Minute, func() bool {
		v := s.view(id)
		running = running || !v.Record.State.Final() && len(v.Lost) > 0
		return v.Record.State.Final()
	})
	v := s.view(id)
	if v.Record.State != Done || !running {
		t.Fatalf("%s, lost tries seen while it ran: %v", v.Record.State, running)
	}
	times := 0
	for _, l := range v.Lost {
		times += l.Times
		if l.Worker != s.nodes[1].id || l.Code != proto.CodeLocalFailure || l.Reason == "" || l.At.IsZero() || int(l.Task) >= 40 {
			t.Errorf("%+v", l)
		}
	}
	if len(v.Lost) == 0 || len(v.Lost) > maxLostTries || v.LostTries < times {
		t.Errorf("%d lost tries are shown, %d times; there were %d", len(v.Lost), times, v.LostTries)
	}
}
