package market

import (
	"slices"
	"time"

	"edgenet.dev/proto"
)

// Settlement: vouchered totals become ledger events, and a session that is
// over gives back what it did not use.

// settlement is a Settle that was not answered yet.
type settlement struct {
	at time.Time
}

const (
	settleIdle  = time.Second            // after the last accepted task
	settleAgain = 200 * time.Millisecond // between the Settles of short jobs
	settleLost  = 15 * time.Second       // unanswered this long, it is sent again
	finishAgain = 5 * time.Second
	doneWait    = time.Second // for the other lanes' Done
	doneBatch   = 16          // Dones that fit one event

	refusedWait = 2 * time.Second // after a Settle that changed nothing, doubling
	refusedMost = time.Minute
)

// conclude settles when it is time to.
func (m *Machine) conclude(s *session) {
	if !s.hold.Defined() || s.state == sessionGone {
		return
	}
	if s.state == sessionClosing {
		m.finishLanes(s)
	}
	if s.settling != nil {
		if late := s.settling.at.Add(settleLost); m.now.Before(late) {
			m.sooner(s.settle, late)
			return
		}
		s.settling = nil
	}
	if s.state == sessionClosing {
		m.concludeClosing(s)
		return
	}
	if !s.owes() || m.settlesLater(s) {
		return
	}
	due := s.since.Add(settleIdle)
	if len(s.jobs) == 0 {
		due = s.lastSettle.Add(settleAgain)
	}
	if s.unsettled < settleAll && m.now.Before(due) {
		m.sooner(s.settle, due)
		return
	}
	m.settle(s, false)
}

// owes reports whether a lane's total is above what the ledger paid.
func (s *session) owes() bool {
	return slices.ContainsFunc(s.lanes, func(l *lease) bool { return l.amount > l.settled })
}

// settlesLater reports whether a Settle must wait because the last ones changed
// nothing in the ledger.
func (m *Machine) settlesLater(s *session) bool {
	if s.refusals == 0 {
		return false
	}
	due := s.lastSettle.Add(backOff(refusedWait, s.refusals, refusedMost))
	if !m.now.Before(due) {
		return false
	}
	m.sooner(s.settle, due)
	return true
}

// backOff is base for the first of n failures in a row and twice as long for
// each further one, up to most.
func backOff(base time.Duration, n int, most time.Duration) time.Duration {
	for ; n > 1 && base < most; n-- {
		base *= 2
	}
	return min(base, most)
}

func (m *Machine) settle(s *session, final bool) {
	out, dones := Settle{Hold: s.hold, Final: final}, 0
	for i, l := range s.lanes {
		done := l.done && !l.released && dones < doneBatch
		if !done && l.amount <= l.settled {
			continue
		}
		if done {
			dones++
		}
		out.Pays = append(out.Pays, LaneTotal{Lane: uint32(i), Amount: l.amount, Fuel: l.fuel, Done: done})
	}
	s.settling, s.unsettled, s.lastSettle = &settlement{at: m.now}, 0, m.now
	m.after = append(m.after, out)
	m.sooner(s.settle, m.now.Add(settleLost))
}

// closeSession asks every lane for Done; the session takes no more work.
func (m *Machine) closeSession(s *session) {
	if len(s.jobs) > 0 || s.state >= sessionClosing {
		return
	}
	if s.request != nil { // what the ledger still certifies must be closed, too
		m.at(s.linger, m.now.Add(m.cfg.Linger))
		return
	}
	if !s.hold.Defined() {
		m.dropSession(s)
		return
	}
	s.state = sessionClosing
	m.mark(s)
}

func (m *Machine) concludeClosing(s *session) {
	if m.now.After(s.deadline.Add(m.cfg.Grace)) {
		m.dropSession(s) // from here on the witnesses may close it
		return
	}
	m.sooner(s.retry, s.deadline.Add(m.cfg.Grace+time.Second))
	if m.settlesLater(s) {
		return
	}
	open, waiting, news := 0, false, s.owes()
	unreleased := 0
	for _, l := range s.lanes {
		if !l.done {
			open++
			waiting = waiting || !l.cp.lost
		} else if !l.released {
			news = true
			unreleased++
		}
	}
	switch {
	case open == 0 && unreleased <= doneBatch:
		m.settle(s, true)
	case !news:
	case waiting && m.now.Before(s.finishing.Add(doneWait)) && unreleased < doneBatch:
		m.sooner(s.settle, s.finishing.Add(doneWait))
	default:
		m.settle(s, false)
	}
}

// finishLanes sends the totals with Finish to every worker within reach that
// has not said Done, and again every few seconds.
func (m *Machine) finishLanes(s *session) {
	saved := false
	for _, l := range s.lanes {
		if l.done || l.cp.lost {
			continue
		}
		if again := l.asked.Add(finishAgain); m.now.Before(again) {
			m.sooner(s.finish, again)
			continue
		}
		if !saved {
			saved = true
			m.saves = append(m.saves, SaveHold{Record: s.record(false)})
		}
		l.owing, l.asked, s.finishing = false, m.now, m.now
		m.after = append(m.after, SendPay{To: l.worker, Voucher: m.voucher(l), Finish: true})
		m.sooner(s.finish, m.now.Add(finishAgain))
	}
}

func (m *Machine) doneSeen(in DoneSeen) {
	s := m.byHold[in.Hold]
	if s == nil || int(in.Lane) >= len(s.lanes) {
		return
	}
	l := s.lanes[in.Lane]
	switch {
	case l.worker != in.From || l.done || s.state != sessionClosing:
		return
	case in.Proven && in.Amount > l.amount && in.Amount <= l.cap:
		// It has results to show that no task was finished with: the job was cancelled,
		// say, or this node ended before it had counted them.
		m.note(in.From, proto.Ref{}, proto.CodeOK, "worker proves work for %s credits, promised were %s", in.Amount, l.amount)
		l.amount, l.unpaid, l.fuel = in.Amount, 0, max(l.fuel, in.Fuel)
		m.saves = append(m.saves, SaveHold{Record: s.record(false)})
	case in.Amount != l.amount:
		m.note(in.From, proto.Ref{}, proto.CodeConflict, "worker is done for %s credits, promised are %s", in.Amount, l.amount)
		return
	}
	l.done = true
	m.mark(s)
}

func (m *Machine) settled(in Settled) {
	s := m.byHold[in.Hold]
	if s == nil {
		return
	}
	changed := false
	for i, l := range s.lanes {
		if i < len(in.Paid) && in.Paid[i] > l.settled {
			l.settled, changed = in.Paid[i], true
		}
		if i < len(in.Done) && in.Done[i] && !l.released && l.settled >= l.amount {
			l.done, l.released, changed = true, true, true
		}
	}
	if s.settling != nil {
		s.settling = nil
		m.stop(s.settle)
		s.refusals++
	}
	if changed {
		s.refusals = 0
	}
	if in.Closed {
		m.saves = append(m.saves, SaveHold{Record: s.record(true)})
		m.dropSession(s)
		return
	}
	if s.state == sessionClosing {
		for _, j := range s.served {
			m.touch(j)
		}
	}
	m.mark(s)
}

// settledNow reports whether nothing of s is left to do that its workers
// could still do now: every lane is closed, or its worker is gone and paid.
func (s *session) settledNow() bool {
	if s.state == sessionGone {
		return true
	}
	if !s.hold.Defined() {
		return s.request == nil
	}
	for _, l := range s.lanes {
		if !l.released && !(s.state == sessionClosing && l.cp.lost && l.settled >= l.amount) {
			return false
		}
	}
	return true
}

func (m *Machine) jobSettled(j *job) bool {
	if !j.rec.State.Final() {
		return false
	}
	for _, s := range j.past {
		if !s.settledNow() {
			return false
		}
	}
	return true
}
