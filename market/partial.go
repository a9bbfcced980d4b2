package market

import (
	"slices"
	"time"

	"edgenet.dev/proto"
)

// Partial pay: a task that ends without a result, though workers ran it for all
// of its time, pays them for what they used of it (ADR 15). Nothing proves what
// they say, so who stays alone with it is paid nothing, nobody is paid for more
// than another one used, and all together get no more than a result would have
// cost. A result that others agree on shows that the time sufficed: then nobody
// is paid for a timeout, and it is a promise broken.

// plausible is what r, whose time ran out, may be paid for at most of what it
// says that it used: what the reference CPU does in the time since it said that
// it runs, or in its limit when that is less.
func (m *Machine) plausible(r *replica, says proto.Fuel) proto.Fuel {
	if !r.running {
		return 0
	}
	ran := max(0, min(m.now.Sub(r.began), r.task.job.limits.Wall))
	return min(says, r.task.fuel, proto.Fuel(ran/time.Microsecond)*(proto.ReferenceRate/1_000_000))
}

// partial is what each of t's executions is paid though t has no result. Of a
// worker that had it more than once the dearest counts.
func (m *Machine) partial(t *task) []proto.Credit {
	pays := make([]proto.Credit, len(t.reps))
	var late []int
	for i, r := range t.reps {
		if r.phase != phaseLost || r.code != proto.CodeRunTimeout || r.fuel == 0 {
			continue
		}
		switch at := slices.IndexFunc(late, func(o int) bool { return t.reps[o].lease.worker == r.lease.worker }); {
		case at < 0:
			late = append(late, i)
		case r.fuel > t.reps[late[at]].fuel:
			late[at] = i
		}
	}
	for _, i := range late {
		r := t.reps[i]
		var seen proto.Fuel // by somebody else
		for _, o := range late {
			if o != i && !m.alike(r.lease, t.reps[o].lease) {
				seen = max(seen, t.reps[o].fuel)
			}
		}
		if seen == 0 {
			continue
		}
		pay := min(proto.PayFor(min(r.fuel, seen), r.price), proto.Credit(t.job.k)*t.pay/proto.Credit(len(late)))
		if l := r.lease; l.lane < 0 || l.done || l.s.state == sessionGone {
			continue
		} else if pay = min(pay, l.cap-min(l.cap, l.used()+l.reserved)); !m.affords(t.job, sum(pays)+pay) {
			continue
		}
		pays[i] = pay
	}
	return pays
}

func sum(pays []proto.Credit) (all proto.Credit) {
	for _, p := range pays {
		all += p
	}
	return all
}

// belied books that r's worker said that the time did not suffice in which
// others came to a result.
func (m *Machine) belied(r *replica) {
	if r.phase == phaseLost && r.code == proto.CodeRunTimeout && r.fuel > 0 {
		m.broke(r, brokeTry)
	}
}
