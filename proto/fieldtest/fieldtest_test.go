package fieldtest

import (
	"slices"
	"strings"
	"testing"
)

type lane struct{ Worker, Payee string }

type hold struct {
	Budget uint64
	Closed bool
	Lanes  []lane
}

func TestFaultsAreFound(t *testing.T) {
	whole := func(h hold) hold { return h }
	payeeless := func(h hold) hold {
		out := hold{Budget: h.Budget, Closed: h.Closed}
		for _, l := range h.Lanes {
			out.Lanes = append(out.Lanes, lane{Worker: l.Worker})
		}
		return out
	}
	if got := faults(whole, nil, nil); len(got) != 0 {
		t.Errorf("nothing is lost, and it says %q", got)
	}
	for _, want := range []string{"Lanes.Payee is lost", "Lanes.Payee stays empty"} {
		if got := faults(payeeless, nil, nil); len(got) != 2 || !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("want %q, got %q", want, got)
		}
	}
	why := map[string]string{"Lanes.Payee": "a test"}
	if got := faults(payeeless, why, why); len(got) != 0 {
		t.Errorf("excused, and it says %q", got)
	}
	if got := faults(whole, why, map[string]string{"Nothing": "a test"}); len(got) != 2 {
		t.Errorf("two exceptions are not needed: %q", got)
	}
}
