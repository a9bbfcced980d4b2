package market

import (
	"fmt"
	"strings"
	"time"

	"edgenet.dev/proto"
)

func budgetSentence(j *job, ppm uint64) string {
	return fmt.Sprintf("%s of %s credits are spent and another task may cost up to %s: raise max credits (--max-credits, maxCredits) or lower the fuel limit (--fuel, fuelLimit)",
		withFee(j.spent, ppm), j.rec.Job.Options.MaxCredits, withFee(proto.Credit(j.k)*j.maxPay, ppm))
}

// Why says in plain sentences why a job waits or how it ended; nil when it is
// unknown.
func (m *Machine) Why(id proto.JobID) []string {
	j := m.jobs[id]
	if j == nil {
		return nil
	}
	if j.rec.State.Final() {
		return m.whyFinal(j)
	}
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if j.running > 0 {
		add("%d of %d tasks are under way, %d are done.", j.running, len(j.tasks), j.done+j.failed)
	}
	s := j.sess
	switch {
	case s == nil:
		workers, _ := m.apart(m.ranked(j))
		add("Offered %d times; %d of the %d different workers that each task needs have claimed it so far.", j.bid.round, workers, j.k)
		if m.cfg.Diversity && workers < len(j.bid.claims) {
			add("Some claims do not count: replicas of a task never run at one operator or site.")
		}
		if workers < j.k {
			if line := m.whyGrants(j); line != "" {
				add("%s", line)
			}
			end := fmt.Sprintf("timeout of %s", j.rec.Job.Options.Timeout)
			if j.queue != nil && j.queue.armed() {
				end = fmt.Sprintf("queue timeout of %s", j.rec.Job.Options.Queue)
			}
			add("It is offered again in %s and gives up at its %s.", until(j.bid.again.at.Sub(m.now)), end)
		}
	case s.state == sessionOpening && s.request != nil:
		add("Workers are chosen; credits for them are being put on hold in the ledger.")
	default:
		if n := m.usable(s, j); n < j.k {
			add("Only %d of the %d different workers that each task needs are connected and willing; it is offered again.", n, j.k)
		}
	}
	if s != nil && s.request == nil && s.needHold && s.holdWhy != "" {
		add("The last hold was refused: %s.", s.holdWhy)
	}
	if waiting := j.waiting(); waiting > 0 {
		add("%d executions wait at their workers for other work to end.", waiting)
	}
	if n := len(j.parked); n > 0 {
		add("%d tasks wait for a worker that has not tried them yet.", n)
	}
	again := 0
	for _, t := range j.retry {
		if m.now.Before(t.repeat) {
			again++
		}
	}
	if again > 0 {
		add("%d tasks were lost by every worker that is here; others are looked for before one is asked again.", again)
	}
	if n := len(j.retry) - again; n > 0 {
		add("%d tasks wait for a free slot to run another replica.", n)
	}
	if j.starved || len(j.disputed) > 0 {
		add("%s of %s credits are spent or reserved; tasks wait until those under way free some.",
			withFee(j.spent+j.reserved, m.cfg.FeePPM), j.rec.Job.Options.MaxCredits)
	}
	if left := len(j.tasks) - j.next; left > 0 && s != nil && s.state == sessionServing && j.ready >= 0 {
		add("%d tasks wait for a free slot; jobs of higher priority and earlier jobs go first.", left)
	}
	if len(out) == 0 {
		add("It is about to start.")
	}
	return append(out, j.whyLost()...)
}

// Requested is the Req of the RequestHold that a job waits for, or 0.
func (m *Machine) Requested(id proto.JobID) uint64 {
	j := m.jobs[id]
	if j == nil || j.rec.State.Final() || j.sess == nil || j.sess.request == nil {
		return 0
	}
	return j.sess.request.id
}

// Unheld reports whether a job waits for workers and no hold was asked for yet.
func (m *Machine) Unheld(id proto.JobID) bool {
	j := m.jobs[id]
	return j != nil && !j.rec.State.Final() && j.sess == nil
}

// waiting counts executions that a worker has and does not run yet.
func (j *job) waiting() (n int) {
	for _, t := range j.tasks[:min(j.next, len(j.tasks))] {
		if t == nil || t.rec != nil {
			continue
		}
		for _, r := range t.reps {
			if r.waits && r.phase == phaseAssigned && !r.running {
				n++
			}
		}
	}
	return n
}

func (m *Machine) whyFinal(j *job) []string {
	out := []string{fmt.Sprintf("The job is %s: %d tasks done, %d not.", j.rec.State, j.done, len(j.tasks)-j.done)}
	if j.rec.Code != proto.CodeOK {
		out = append(out, fmt.Sprintf("%s: %s.", j.rec.Code, j.rec.Reason))
	}
	shown := 0
	for _, t := range j.tasks {
		if t == nil || t.rec == nil || t.rec.State == Done || t.rec.Code == j.rec.Code && strings.HasSuffix(j.rec.Reason, t.rec.Reason) {
			continue
		}
		if shown == 5 {
			out = append(out, fmt.Sprintf("And more; %d tasks are not done in all.", len(j.tasks)-j.done))
			break
		}
		shown++
		out = append(out, fmt.Sprintf("Task %d: %s: %s.", t.index, t.rec.Code, t.rec.Reason))
	}
	for _, s := range j.past {
		for _, l := range s.lanes {
			if l.cp.lost && !l.released {
				out = append(out, fmt.Sprintf("Worker %s is out of reach; its part of the hold is freed when it comes back.", l.worker))
			}
		}
	}
	return append(out, j.whyLost()...)
}

func until(d time.Duration) time.Duration {
	return max(0, d).Round(100 * time.Millisecond)
}

// WhyWorker says in one sentence what this node does for others, or why
// nothing.
func (m *Machine) WhyWorker() string {
	w := &m.work
	switch {
	case !w.cfg.Enabled && w.cfg.Reason != "":
		return "Not taking work: " + w.cfg.Reason + "."
	case !w.cfg.Enabled:
		return "Not taking work: the worker is switched off."
	case w.running > 0:
		return fmt.Sprintf("Running %d of at most %d tasks, %d more wait.", w.running, w.cfg.Slots, m.Waiting())
	case w.heard == 0:
		return "No offers were heard yet."
	case w.why != "":
		return "Idle; about the last offer: " + w.why + "."
	}
	return "Idle, waiting for offers."
}
