package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// node is one machine: a disk that survives, and what runs on it.
type node struct {
	w    *world
	i    int
	self person
	skew time.Duration // of its clock
	late bool          // starts in the last act
	away bool          // does not start again

	light bool             // has the ledger of its own account only
	round int              // of its questions
	heeds map[peer.ID]bool // who answered in this round
	fresh time.Time        // when f+1 witnesses had answered last

	disk     *mem.Store
	down     bool
	dying    bool // crashes with the next write
	survives bool // that write is on the disk all the same
	failed   bool // a write failed: the process ends
	life     int  // number of this run of the process

	l       *ledger.Ledger
	wit     *ledger.Witness // nil: not a witness, or a hostile one
	own     *owner
	wake    time.Time // when the timer is set for; zero when it is not
	news    []*proto.CertifiedEvent
	told    bool // news are about to be sent
	session *session
	serving int // sessions that others started
	changed bool
	lives   []span // of the process
	tally   map[peer.ID]tally
	tallied uint64 // epoch of tally
}

var errDisk = errors.New("the disk fails")

// disk is the store of one run of a process: it fails when the node dies.
type disk struct {
	*mem.Store
	n *node
}

// Append loses what was not acknowledged, or does not.
func (d disk) Append(batch ...ledger.Record) error {
	if d.n.failed || d.n.dying && !d.n.survives {
		d.n.failed = true
		return errDisk
	}
	if err := d.Store.Append(batch...); err != nil {
		return err
	}
	if d.n.dying {
		d.n.failed = true
		return errDisk
	}
	return nil
}

func newNode(w *world, i int) *node {
	n := &node{w: w, i: i, self: w.people[someone(fmt.Sprintf("node %d", i)).id], disk: mem.New(), down: true}
	n.skew = w.between(-2*time.Second, 2*time.Second)
	if w.chance(0.15) {
		n.skew = w.between(-6*time.Minute, 6*time.Minute)
	}
	n.own = newOwner(n)
	return n
}

func (n *node) hostile() bool { return n.w.bad.is(n.self.id) }

// clock is the node's own.
func (n *node) clock() time.Time { return n.w.now.Add(n.skew) }

// start opens the node from its disk.
func (n *node) start() {
	n.down, n.failed, n.dying = false, false, false
	n.life++
	n.wake, n.news, n.told, n.session, n.serving = time.Time{}, nil, false, nil, 0
	n.fresh, n.tallied, n.lives = time.Time{}, 0, append(n.lives, span{from: n.w.now})
	store := &disk{n.disk, n}
	var err error
	if n.light {
		n.l, err = ledger.OpenLight(n.w.net, store, n.self.id)
	} else {
		n.l, err = ledger.Open(n.w.net, store)
	}
	if err != nil {
		n.w.fail(fmt.Errorf("node %d does not start: %w", n.i, err))
		return
	}
	if n.i < witnesses && !n.hostile() {
		n.wit, err = ledger.NewWitness(n.w.net, n.self.id, n.l, store, ledger.WitnessConfig{
			Sign:        func(p *proto.Payload) ([]byte, error) { return n.w.seal(n.self.id, p), nil },
			Checkpoints: ledger.NewEpochs(n.l), Reexecute: true,
		})
		if err != nil {
			n.w.fail(fmt.Errorf("witness %d does not start: %w", n.i, err))
			return
		}
	}
	n.own.start()
	n.every(n.pace(5*time.Second, 12*time.Second), n.accuse)
	if n.light {
		n.every(n.pace(2*time.Second, 6*time.Second), n.ask)
	} else {
		n.every(n.pace(2*time.Second, 6*time.Second), n.reconcile)
		n.every(n.pace(5*time.Second, 15*time.Second), n.prune)
	}
	probes := func() time.Duration { return n.w.between(probing-time.Minute, probing+time.Minute) }
	if n.wit != nil {
		n.every(n.pace(3*time.Second, 8*time.Second), n.wrongWork)
		n.every(probes, n.probe)
	}
	if n.hostile() {
		n.every(n.pace(2*time.Second, 6*time.Second), n.w.bad.lead)
		n.every(n.pace(3*time.Second, 8*time.Second), n.w.bad.slander)
		n.every(probes, n.w.bad.misreport)
	}
	n.settle()
}

// every repeats something while this run of the process lasts.
func (n *node) every(period func() time.Duration, do func(*node)) {
	life := n.life
	var again func()
	again = func() {
		if n.down || n.life != life {
			return
		}
		do(n)
		n.settle()
		n.w.after(period(), again)
	}
	n.w.after(n.w.between(0, period()+1), again)
}

// pace is how often a node does something: often in an act and after the faults
// stopped, seldom in a quiet hour, so that it costs little.
func (n *node) pace(a, b time.Duration) func() time.Duration {
	return func() time.Duration {
		d := n.w.between(a, b)
		if rest := n.w.quiet.Sub(n.w.now); rest > 0 {
			d = min(n.w.between(60*a, 60*b), rest+d)
		}
		return d
	}
}

// crash ends the process at once: what was not written is gone.
func (n *node) crash() {
	n.down = true
	n.l, n.wit = nil, nil
	if n.session != nil {
		n.session.end()
	}
	n.own.crashed()
	n.lives[len(n.lives)-1].to = n.w.now
	n.disk = n.disk.Clone()
	n.w.out.Crashes++
	life := n.life
	n.w.after(n.w.between(100*time.Millisecond, 8*time.Second), func() {
		if n.down && n.life == life && !n.away {
			n.start()
		}
	})
}

// settle ends whatever a node did: it dies when its disk failed, its books are
// checked when they changed, and its timer is set.
func (n *node) settle() {
	if n.down {
		return
	}
	if n.failed {
		n.crash()
		return
	}
	if n.changed {
		n.changed = false
		if !n.light {
			n.w.ref.audit(n)
		}
	}
	next := n.own.next()
	if n.wit != nil {
		if t := n.wit.Next(); !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if next.IsZero() {
		return
	}
	at := next.Add(-n.skew)
	if at.Before(n.w.now) {
		at = n.w.now
	}
	if !n.wake.IsZero() && !at.Before(n.wake) {
		return
	}
	n.wake = at
	life := n.life
	n.w.after(at.Sub(n.w.now), func() {
		if n.down || n.life != life || !n.wake.Equal(at) {
			return
		}
		n.wake = time.Time{}
		n.tick()
		n.settle()
	})
}

func (n *node) tick() {
	n.own.tick()
	if n.wit != nil && !n.failed {
		outs, err := n.wit.Tick(n.clock())
		n.act(outs, err)
	}
}

// act does what a witness or an author wants done.
func (n *node) act(outs []ledger.Output, err error) {
	if n.failed {
		return // nothing of this call leaves the machine
	}
	if err != nil {
		n.w.fail(fmt.Errorf("node %d: %w", n.i, err))
		return
	}
	for _, o := range outs {
		switch o := o.(type) {
		case ledger.Send:
			n.w.ref.sent(n, o.Frame)
			for _, to := range o.To {
				if i, ok := n.w.index[to]; ok {
					n.vote(i, o.Frame)
				}
			}
		case ledger.Added:
			n.added(o.Events)
		case ledger.CheckpointAdded:
			n.w.out.Checkpoints++
			n.w.ref.checkpoint(n, o.Wire)
			n.changed = true
		case ledger.Misconduct:
			n.report(o)
		case ledger.Reexecute:
			n.again(o.Accused)
		}
	}
}

// vote sends a frame of the agreement.
func (n *node) vote(to int, f *proto.VoteFrame) {
	from := n.self.id
	n.w.send(n.i, to, 'v', n.w.loss, func(x *node) { x.hear(from, f) })
}

// hear takes a frame of the agreement.
func (n *node) hear(from peer.ID, f *proto.VoteFrame) {
	if n.hostile() {
		n.w.bad.overhear(n, f)
		n.w.bad.hear(n, from, f)
	}
	if n.wit != nil && addressed(f) {
		outs, err := n.wit.Handle(n.clock(), from, f)
		n.act(outs, err)
	}
	if !n.failed {
		n.own.hear(from, f)
	}
}

// addressed tells what witnesses take from what they answer.
func addressed(f *proto.VoteFrame) bool {
	switch f.Body.(type) {
	case *proto.VoteFrame_HeadReport, *proto.VoteFrame_ClaimReply:
		return false
	}
	return true
}

// report turns two votes of a witness into evidence against its account.
func (n *node) report(m ledger.Misconduct) {
	n.w.out.Misconduct++
	if m.By == n.self.id {
		n.w.fail(fmt.Errorf("node %d reports itself", n.i))
	}
	if i, ok := n.w.index[m.By]; ok && i < witnesses && !n.w.bad.is(m.By) && m.Slot.GetAccount() != nil && string(m.Slot.GetAccount().Account) != string(m.By) {
		n.w.fail(fmt.Errorf("evidence against the honest witness %d", i))
	}
	raw := n.w.seal(n.self.id, &proto.Payload{Body: &proto.Payload_Evidence{Evidence: m.Evidence}})
	for i := range witnesses {
		n.vote(i, &proto.VoteFrame{Body: &proto.VoteFrame_Evidence{Evidence: raw}})
	}
}

// added passes on what became effective.
func (n *node) added(cs []*ledger.Certified) {
	if len(cs) == 0 {
		return
	}
	n.changed = true
	if n.light {
		return // the witnesses publish it
	}
	for _, c := range cs {
		n.w.ref.certified(n, c)
		n.news = append(n.news, c.Wire)
	}
	if n.told {
		return
	}
	n.told = true
	life := n.life
	n.w.after(n.w.between(50*time.Millisecond, 250*time.Millisecond), func() {
		if n.down || n.life != life {
			return
		}
		news := n.news
		n.news, n.told = nil, false
		for range 3 {
			if to := n.w.rnd.IntN(len(n.w.nodes)); to != n.i {
				n.w.send(n.i, to, 'g', n.w.loss, func(x *node) { x.take(news) })
			}
		}
	})
}

// take unites certified events with the set, wherever they came from.
func (n *node) take(wires []*proto.CertifiedEvent) {
	if n.light {
		return
	}
	var cs []*ledger.Certified
	for _, wire := range wires {
		c, err := n.w.ref.verify(wire)
		if err != nil {
			n.w.fail(fmt.Errorf("node %d got an event that does not verify: %w", n.i, err))
			return
		}
		if !n.l.Has(c.ID) {
			cs = append(cs, c)
		}
	}
	if len(cs) == 0 {
		return
	}
	added, err := n.l.AddVerified(nil, cs...)
	if n.failed {
		return
	}
	if err != nil {
		n.w.fail(fmt.Errorf("node %d refuses a certified event: %w", n.i, err))
	}
	n.added(added)
}

// prune drops what a checkpoint covers.
func (n *node) prune(*node) {
	moved, err := n.l.Prune(uint64(n.i%2), n.self.id)
	switch {
	case n.failed:
	case err != nil && proto.CodeOf(err) != proto.CodeMissing:
		n.w.fail(fmt.Errorf("node %d does not prune: %w", n.i, err))
	case moved:
		n.w.out.Pruned++
		n.changed = true
	}
}

// session is a reconciliation of two nodes over one stream.
type session struct {
	nodes [2]*node
	lives [2]int
	sides [2]*ledger.Sync
	over  bool
}

// reconcile starts a session with anybody.
func (n *node) reconcile(*node) {
	if n.session != nil && !n.session.over {
		n.session.end() // it hangs
	}
	to := n.w.nodes[n.w.rnd.IntN(len(n.w.nodes))]
	if to == n || to.down || to.light || to.serving > 3 {
		return
	}
	salt := make([]byte, 16)
	for i := range salt {
		salt[i] = byte(n.w.rnd.Uint32())
	}
	s := &session{nodes: [2]*node{n, to}, lives: [2]int{n.life, to.life}}
	s.sides[0], s.sides[1] = ledger.NewSync(n.l, salt, true), ledger.NewSync(to.l, nil, false)
	n.session = s
	to.serving++
	n.w.out.Sessions++
	out, _, _, err := s.sides[0].Step(nil)
	if err != nil {
		n.w.fail(fmt.Errorf("node %d starts a session: %w", n.i, err))
		return
	}
	s.turn(1, out)
}

func (s *session) end() {
	if !s.over {
		s.over = true
		if to := s.nodes[1]; to.life == s.lives[1] && to.serving > 0 {
			to.serving--
		}
	}
}

// turn brings the frames of a turn to one side: all of them, in order, or the
// stream is broken.
func (s *session) turn(to int, frames []*proto.SyncFrame) {
	if len(frames) == 0 {
		return
	}
	from, n := s.nodes[1-to], s.nodes[to]
	w := n.w
	if w.divided(from.i, n.i) || w.chance(w.loss/3) {
		return // the next session ends it
	}
	w.after(w.between(10*time.Millisecond, 100*time.Millisecond), func() {
		if s.over || n.down || n.life != s.lives[to] || from.down || from.life != s.lives[1-to] || w.divided(from.i, n.i) {
			s.end()
			return
		}
		w.note('s', from.i, n.i)
		s.step(to, frames)
		n.settle()
	})
}

func (s *session) step(to int, frames []*proto.SyncFrame) {
	n := s.nodes[to]
	for _, f := range frames {
		base := n.l.Base()
		out, received, done, err := s.sides[to].Step(f)
		if n.failed {
			s.end()
			return
		}
		if err != nil {
			n.w.fail(fmt.Errorf("a session of nodes %d and %d: %w", s.nodes[0].i, s.nodes[1].i, err))
			return
		}
		if n.l.Base() > base {
			n.w.out.Joined++
			n.changed = true
		}
		if n.take(received); n.failed {
			s.end()
			return
		}
		s.turn(1-to, out)
		if done && len(out) == 0 {
			s.end()
		}
	}
}

// others lists all honest witnesses but one, shuffled.
func (w *world) honest() []int {
	var out []int
	for i := range witnesses {
		if !w.nodes[i].hostile() {
			out = append(out, i)
		}
	}
	w.rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return slices.Clip(out)
}
