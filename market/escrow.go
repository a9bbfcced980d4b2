package market

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"edgenet.dev/proto"
)

// Escrow: holds with a lane per worker, and vouchers on the lanes.

// request is a hold or extension asked of the ledger.
type request struct {
	id    uint64
	job   *job
	lanes []LaneRecord
	least bool // every cap is a single execution's
}

// feeSlack is added to a hold's budget where max credits leave room: each
// Settle rounds its fee up, and a hold is settled more than once.
const feeSlack proto.Credit = 32

// net is the largest a with a plus its fee within limit.
func net(limit proto.Credit, ppm uint64) proto.Credit {
	hi, lo := bits.Mul64(uint64(limit), 1_000_000)
	if hi >= 1_000_000 {
		return 0
	}
	q, _ := bits.Div64(hi, lo, 1_000_000+ppm)
	a := proto.Credit(q)
	for a > 0 && withFee(a, ppm) > limit {
		a--
	}
	return a
}

// remaining is what j may still promise, in worst-case pay.
func (m *Machine) remaining(j *job) proto.Credit {
	a := net(j.rec.Job.Options.MaxCredits, m.cfg.FeePPM)
	if used := j.spent + j.reserved; used < a {
		return a - used
	}
	return 0
}

// wantCap asks for more on a lane that has no room for pay. Work already on
// the lane frees its worst case soon, so an extension is asked only when much
// of the lane was used up for good, when nothing on it will free anything, or
// for a replica that others wait for.
func (m *Machine) wantCap(l *lease, j *job, pay proto.Credit, urgent bool) {
	busy := !urgent && l.inflight+l.kept > 0
	if l.want > 0 || busy && l.cap-l.used() >= l.base/2 {
		return
	}
	runs := l.s.useful(l.window, len(l.s.lanes))
	if urgent { // only those that wait cost so much
		runs = min(runs, 1+(len(j.retry)+len(j.parked))*j.k/max(1, len(l.s.lanes)))
	}
	need := saturate(pay, uint64(runs))
	if busy && l.cap-l.used() >= need/2 {
		return
	}
	// A lane that is used up grows by as much again, so that a session of many
	// small jobs is not extended for each, but not above what is left to do.
	left := saturate(pay, uint64(max(l.window, l.s.useful(proto.MaxTasks, len(l.s.lanes)))))
	more := min(max(need, min(l.cap, left)), m.remaining(j)/proto.Credit(j.k))
	if l.s.extends > maxExtends { // the ledger ends at some: one of all that is left
		more = m.remaining(j) / proto.Credit(j.k)
	}
	if more < pay {
		if busy {
			return
		}
		more = pay
	}
	l.want, l.wantFor = more, pay
	l.s.needHold = true
}

// useful is the number of executions, up to most, that s can use on each of so
// many lanes: an even share of all that may still come, and one to replace
// another.
func (s *session) useful(most, lanes int) int {
	lanes = max(1, lanes)
	bound, sum := most*lanes, 0
	for _, j := range s.jobs {
		if sum += j.open * j.k; sum >= bound {
			return most
		}
	}
	return min(most, (sum+lanes-1)/lanes+1)
}

// askHold requests a hold for a new session, or an extension.
func (m *Machine) askHold(s *session) {
	s.needHold = s.needHold || m.endsSoon(s)
	if !s.needHold || s.request != nil || s.state > sessionServing || s.restored || len(s.jobs) == 0 {
		return
	}
	if m.now.Before(s.holdAfter) {
		m.sooner(s.retry, s.holdAfter)
		return
	}
	j := m.leader(s)
	var lanes []LaneRecord
	var budget proto.Credit
	least := true
	if s.hold.Defined() {
		lanes, least = m.moreLanes(s, j)
	} else {
		lanes, budget, least = m.firstLanes(s, j)
	}
	var sum proto.Credit
	for _, l := range lanes {
		sum += l.Cap
	}
	s.needHold = false
	due := m.due(s)
	longer := m.endsSoon(s) && due.After(s.deadline)
	if len(lanes) == 0 && !longer {
		return
	}
	if !s.hold.Defined() || due.After(s.deadline) {
		s.asked = due
	} else {
		s.asked = s.deadline
	}
	if need := withFee(sum, m.cfg.FeePPM); budget < need {
		budget = need
		if sum > 0 && need+feeSlack <= j.rec.Job.Options.MaxCredits {
			budget += feeSlack
		}
	}
	m.req++
	s.request = &request{id: m.req, job: j, lanes: lanes, least: least}
	m.reqs[m.req] = s
	m.send(RequestHold{Req: m.req, Job: s.id, Hold: s.hold, Budget: budget, Deadline: s.asked, Lanes: lanes})
}

// firstLanes divides the hold that was quoted for j among the workers that
// claimed: when it does not reach for all, the first in order get a lane, never
// fewer than a task needs. The balance did not cover more than a part of it
// when s.scale is above 0.
func (m *Machine) firstLanes(s *session, j *job) (lanes []LaneRecord, budget proto.Credit, least bool) {
	pay := m.nextPay(j, m.price(j))
	floor := withFee(proto.Credit(j.k)*pay, m.cfg.FeePPM)
	budget = min(m.Quote(j.rec.Job).Hold, withFee(m.remaining(j), m.cfg.FeePPM))
	if budget>>s.scale <= floor {
		budget, least = floor, true
	} else {
		budget >>= s.scale
	}
	amount := net(budget, m.cfg.FeePPM)
	var able []*lease
	for _, l := range s.leases {
		if l.lane < 0 && m.can(l) {
			able = append(able, l)
		}
	}
	if len(able) == 0 {
		return nil, 0, least
	}
	most := max(int(min(amount/pay, maxLanes)), j.k)
	if q := m.Quote(j.rec.Job); q.Worst+budget > j.rec.Job.Options.MaxCredits { // room on lanes that wait for nothing would be missed
		most = min(most, max(j.k, j.open*j.k))
	}
	able = able[:min(len(able), most)]
	for _, l := range able {
		l.base = max(amount/proto.Credit(len(able)), pay)
		lanes = append(lanes, LaneRecord{Worker: l.worker, Payee: l.payee, Cap: l.base})
	}
	return lanes, budget, least
}

// moreLanes extends a hold: lanes for workers that have none, and more on those
// that are used up. What all of them together want may be more than the session's
// jobs can use, or than the balance covers (s.scale above 0): then it is what the
// executions that wait need.
func (m *Machine) moreLanes(s *session, j *job) (lanes []LaneRecord, least bool) {
	fresh, room := 0, m.remaining(j)
	for _, l := range s.leases {
		if l.lane < 0 && m.can(l) {
			fresh++
		}
	}
	var sum proto.Credit
	for _, l := range s.leases {
		var amount proto.Credit
		switch {
		case l.lane < 0 && m.can(l):
			pay := m.nextPay(j, l.price)
			most := min(saturate(pay, uint64(l.window)), max(room/proto.Credit(fresh), pay))
			l.base = max(most>>s.scale, pay)
			amount = min(most, saturate(pay, uint64(s.useful(l.window, fresh))))
		case l.lane >= 0 && l.want > 0 && !l.done:
			amount = l.want
		default:
			continue
		}
		sum += amount
		lanes = append(lanes, LaneRecord{Worker: l.worker, Payee: l.payee, Cap: amount})
	}
	if len(lanes) == 0 || s.scale == 0 && sum <= m.uncovered(s) {
		return lanes, false
	}
	return m.leastLanes(s, j), true
}

// uncovered is the worst-case pay of what the session's jobs may still cost and no
// lane has room for.
func (m *Machine) uncovered(s *session) (a proto.Credit) {
	for _, j := range s.jobs {
		worst := net(m.Quote(j.rec.Job).Worst, m.cfg.FeePPM)
		a += j.reserved + min(m.remaining(j), worst-min(worst, j.spent+j.reserved))
	}
	for _, l := range s.lanes {
		if !l.done && !l.dead {
			a -= min(a, l.cap-min(l.cap, l.used()))
		}
	}
	return a
}

// leastLanes is the least extension with which the executions of j that wait can
// start: what is missing on the lanes that want more, those with most room first,
// and lanes for workers without one where these do not suffice.
func (m *Machine) leastLanes(s *session, j *job) (lanes []LaneRecord) {
	need := 0
	for _, list := range [][]*task{j.retry, j.parked} {
		for _, t := range list[:min(len(list), 32)] {
			need = max(need, t.level-t.live())
		}
	}
	if need == 0 {
		need = j.k
	}
	for _, l := range s.leases {
		switch {
		case l.lane >= 0 && l.want > 0 && !l.done:
			room := l.cap - min(l.cap, l.used()+l.reserved)
			pay := min(l.wantFor, l.want)
			lanes = append(lanes, LaneRecord{Worker: l.worker, Payee: l.payee, Cap: max(pay-min(pay, room), 1)})
		case l.lane < 0 && m.can(l):
			l.base = m.nextPay(j, l.price)
			lanes = append(lanes, LaneRecord{Worker: l.worker, Payee: l.payee, Cap: l.base})
		}
	}
	slices.SortStableFunc(lanes, func(a, b LaneRecord) int { return cmp.Compare(a.Cap, b.Cap) })
	return lanes[:min(len(lanes), need)]
}

// endsSoon reports that what is assigned now may outlast the hold.
func (m *Machine) endsSoon(s *session) bool {
	return s.hold.Defined() && s.deadline.Sub(m.now) < 2*m.answerLimit()
}

// due is how long the hold has to last for the session's jobs: for longer ones
// it is extended again.
func (m *Machine) due(s *session) time.Time {
	var last time.Time
	for _, j := range s.jobs {
		if at := j.rec.Job.Created.Add(j.rec.Job.Options.Timeout); at.After(last) {
			last = at
		}
	}
	due := last.Add(m.cfg.Overtime)
	if most := m.now.Add(m.cfg.MaxHold); due.After(most) {
		due = most
	}
	return due.Truncate(time.Millisecond)
}

// leader is the job whose credits a hold is measured by.
func (m *Machine) leader(s *session) *job {
	if len(s.ready) > 0 {
		return s.ready[0]
	}
	for _, j := range s.stuck {
		if j.sess == s {
			return j
		}
	}
	return sortedJobs(s.jobs)[0]
}

func (m *Machine) holdCertified(in HoldCertified) {
	s := m.reqs[in.Req]
	if s == nil {
		// Asked for by an earlier run and certified only now: nothing was ever
		// promised on it, so it is closed like the other holds of that run.
		m.restoreHolds([]HoldRecord{in.Hold}, nil)
		return
	}
	if !in.Hold.Hold.Defined() || len(in.Hold.Lanes) > maxLanes {
		m.holdFailed(HoldFailed{Req: in.Req, Code: proto.CodeInternal, Reason: "the ledger answered without a hold"})
		return
	}
	delete(m.reqs, in.Req)
	if s.hold.Defined() {
		s.extends++
	}
	s.request, s.scale = nil, 0
	s.hold, s.deadline, s.budget = in.Hold.Hold, in.Hold.Deadline, in.Hold.Budget
	m.byHold[s.hold] = s
	for i, rec := range in.Hold.Lanes {
		l := s.lease(rec.Worker)
		if l == nil {
			l = m.addLease(s, rec.Worker)
			l.dead = true
		}
		l.cap, l.want = rec.Cap, 0
		l.settled = max(l.settled, rec.Settled)
		if l.lane < 0 {
			l.lane, l.base, l.payee = i, max(l.base, rec.Cap), payeeOf([]byte(rec.Payee), rec.Worker)
		}
		if i >= len(s.lanes) {
			s.lanes = append(s.lanes, l)
		}
	}
	if s.state == sessionOpening {
		s.state = sessionServing
	}
	m.sooner(s.retry, s.deadline.Add(-2*m.answerLimit()).Add(time.Millisecond))
	m.saves = append(m.saves, SaveHold{Record: s.record(false)})
	m.wakeAll(s)
}

func (m *Machine) holdFailed(in HoldFailed) {
	s := m.reqs[in.Req]
	if s == nil {
		return
	}
	delete(m.reqs, in.Req)
	req := s.request
	s.request, s.needHold = nil, true
	s.holdWhy = proto.Clip(in.Reason, 256)
	if s.holdWhy == "" {
		s.holdWhy = in.Code.String()
	}
	wait := 2 * time.Second
	if in.Code == proto.CodeInsufficient || in.Code == proto.CodeBudget {
		if !req.least {
			s.scale++
			wait = 0
		} else if s.live == 0 && s.jobs[req.job.rec.Job.ID] == req.job {
			m.failJob(req.job, Failed, proto.CodeInsufficient, fmt.Sprintf("the balance does not cover the workers' pay: %s", s.holdWhy))
		}
	}
	if wait > 0 {
		s.holdAfter = m.now.Add(wait)
		m.sooner(s.retry, s.holdAfter)
	}
	m.mark(s)
}

func (s *session) record(closed bool) HoldRecord {
	r := HoldRecord{Hold: s.hold, Job: s.id, Deadline: s.deadline, Budget: s.budget, Closed: closed}
	for _, l := range s.lanes {
		r.Lanes = append(r.Lanes, LaneRecord{
			Worker: l.worker, Payee: l.payee, Cap: l.cap, Amount: l.amount,
			Fuel: l.fuel, Upto: l.upto, Settled: l.settled, Done: l.done,
		})
	}
	return r
}

const (
	payEvery  = 50 * time.Millisecond
	payTasks  = 64
	settleAll = 2000 // tasks that force a Settle
)

// owe notes that a task of s was accepted.
func (m *Machine) owe(s *session) {
	s.owing = true
	s.unpaid++
	s.unsettled++
	s.since = m.now
	m.mark(s)
}

// promise sends vouchers for what was accepted: at once when nothing else is
// under way, else gathered over 50 ms or 64 tasks.
func (m *Machine) promise(s *session) {
	if !s.owing {
		return
	}
	if next := s.lastPay.Add(payEvery); s.live > 0 && s.unpaid < payTasks && m.now.Before(next) {
		m.sooner(s.pay, next)
		return
	}
	m.vouch(s)
}

// vouch saves the totals and then sends a voucher on every lane that gained.
// A lost worker's voucher waits; it gets the totals with Finish or the next
// ones when it is back.
func (m *Machine) vouch(s *session) {
	saved, waiting := false, false
	for _, l := range s.lanes {
		if !l.owing {
			continue
		}
		if l.cp.lost {
			waiting = true
			continue
		}
		if !saved {
			m.saves = append(m.saves, SaveHold{Record: s.record(false)})
			saved = true
		}
		l.owing = false
		m.after = append(m.after, SendPay{To: l.worker, Voucher: m.voucher(l)})
	}
	s.owing, s.unpaid, s.lastPay = waiting && s.state == sessionServing, 0, m.now
}

func (m *Machine) voucher(l *lease) *proto.Voucher {
	return &proto.Voucher{
		Hold: l.s.hold.Bytes(), Lane: uint32(l.lane), Worker: []byte(l.worker),
		Amount: uint64(l.amount), Fuel: uint64(l.fuel), Upto: l.upto,
	}
}
