package attack

import (
	"testing"
	"time"
)

func TestExcess(t *testing.T) {
	quiet := Report{Quiet: Latency{P99: 400 * time.Millisecond}, Before: Usage{RSS: 100 << 20, Disk: 10 << 20}}
	for _, c := range []struct {
		name  string
		alter func(*Report)
		most  int
	}{
		{"as before", func(r *Report) { r.Under.P99, r.After = r.Quiet.P99, r.Before }, 0},
		{"a little", func(r *Report) { r.Under.P99, r.After = 1200*time.Millisecond, Usage{RSS: 140 << 20, Disk: 19 << 20} }, 0},
		{"slow", func(r *Report) { r.Under.P99 = 1300 * time.Millisecond }, 1},
		{"fast at all events", func(r *Report) { r.Quiet.P99, r.Under.P99 = time.Millisecond, time.Second }, 0},
		{"memory", func(r *Report) { r.After.RSS = 150 << 20 }, 1},
		{"disk", func(r *Report) { r.After.Disk = 21 << 20 }, 1},
	} {
		r := quiet
		c.alter(&r)
		if got := r.Excess(); len(got) != c.most {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	if got := Growth([]Report{quiet, {After: Usage{RSS: 100 << 20}}, {After: Usage{RSS: 200 << 20}}}); len(got) != 1 {
		t.Errorf("a series that grew: %q", got)
	}
}
