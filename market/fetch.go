package market

import (
	"cmp"

	"edgenet.dev/proto"
)

// Inputs and modules that are not here are fetched before an execution may have
// a slot: a submitter that serves them slowly, or never, keeps nobody but itself
// waiting.

// maxFetches is how often one execution is fetched for: its module may go out of
// the cache while it waits.
const maxFetches = 3

// fetchShare is how many executions of one submitter may wait for their inputs.
func (w *workside) fetchShare() int { return max(1, w.cfg.InFlight/2) }

// maxFetching is how many wait for their inputs in all: they are counted apart from
// what waits for a slot, and every submitter can have one.
func (w *workside) maxFetching() int { return maxCustomers + 2*w.cfg.InFlight }

// fetchRoom makes room for one more execution of c to wait for its input. When all
// places are taken the newest of the submitter with most gives way, if that has more
// than c would have.
func (m *Machine) fetchRoom(c *customer) bool {
	w := &m.work
	if c.fetching >= w.fetchShare() {
		return false
	}
	if w.fetching < w.maxFetching() {
		return true
	}
	var most *customer
	for _, o := range w.customers {
		if most == nil || cmp.Or(cmp.Compare(most.fetching, o.fetching), cmp.Compare(o.used, most.used)) < 0 {
			most = o
		}
	}
	if most.fetching <= c.fetching+1 {
		return false
	}
	var newest *exec
	for _, x := range most.execs {
		if x.phase == execFetching && (newest == nil || x.seq > newest.seq) {
			newest = x
		}
	}
	m.refuse(most.id, newest.ref, proto.CodeBusy, "others wait for their inputs, too")
	m.drop(newest)
	return true
}

// fetch makes x wait for its input and module, outside the slots.
func (m *Machine) fetch(x *exec) {
	x.phase = execFetching
	m.work.fetching++
	x.c.fetching++
	x.fetches++
	m.send(Fetch{From: x.c.id, Ref: x.ref, Assignment: x.a})
}

// unfetch notes that x waits for its input no more.
func (m *Machine) unfetch(x *exec) {
	m.work.fetching--
	x.c.fetching--
}

// fetched queues an execution whose input and module are here now.
func (m *Machine) fetched(in Fetched) {
	c := m.work.customers[in.From]
	if c == nil {
		return
	}
	x := c.execs[in.Ref]
	if x == nil || x.phase != execFetching {
		return
	}
	if in.Code == proto.CodeOK && x.fetches > maxFetches {
		in.Code, in.Reason = proto.CodeBusy, "too many modules are in use here"
	}
	if in.Code != proto.CodeOK {
		m.drop(x)
		m.refuse(in.From, in.Ref, in.Code, in.Reason)
		return
	}
	m.unfetch(x)
	m.work.push(x)
}

// prepared charges a submitter with what preparing its module took, whether or not
// something came of it.
func (m *Machine) prepared(in Prepared) {
	c := m.work.customers[in.From]
	if c == nil {
		return
	}
	x := m.worthOf(worthKey{payer: c.id})
	x.add(0, in.Took)
	m.work.worth.fade(m.now)
	m.work.worth.add(0, in.Took)
	c.served += turn(m.dear(worthKey{payer: c.id})) * m.charge(in.Took, proto.PriorityNormal)
}
