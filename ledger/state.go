package ledger

import (
	"fmt"
	"maps"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// post is the comparable form of proto.Post.
type post struct {
	avail, held, staked, unbonding     uint64
	unbondEpoch, bonusEpoch, bonusUsed uint64
	key, recoveryKey                   string
	flags                              uint32
	pendingKey                         string
	pendingEpoch                       uint64
	slashed                            string
	keySeq                             uint64
}

func postOf(p *proto.Post) post {
	return post{
		p.GetAvail(), p.GetHeld(), p.GetStaked(), p.GetUnbonding(), p.GetUnbondEpoch(), p.GetBonusEpoch(), p.GetBonusUsed(),
		string(p.GetKey()), string(p.GetRecoveryKey()), p.GetFlags(), string(p.GetPendingKey()), p.GetPendingEpoch(),
		string(p.GetSlashed()), p.GetKeySeq(),
	}
}

func (p post) wire() *proto.Post {
	w := &proto.Post{
		Avail: p.avail, Held: p.held, Staked: p.staked, Unbonding: p.unbonding,
		UnbondEpoch: p.unbondEpoch, BonusEpoch: p.bonusEpoch, BonusUsed: p.bonusUsed, Flags: p.flags,
		PendingEpoch: p.pendingEpoch, KeySeq: p.keySeq,
	}
	for _, f := range []struct {
		to   *[]byte
		from string
	}{{&w.Key, p.key}, {&w.RecoveryKey, p.recoveryKey}, {&w.PendingKey, p.pendingKey}, {&w.Slashed, p.slashed}} {
		if f.from != "" {
			*f.to = []byte(f.from)
		}
	}
	return w
}

// account is one account's fold. A grant is avail before the account opens.
type account struct {
	id         peer.ID
	epoch      uint64
	post       post
	receivable uint64       // sum of its unclaimed points
	chain      []*Certified // by seq, without gaps; the events before it are pruned
	kept       int          // of chain, those at or below the base checkpoint's frontier
}

// next is the seq of the account's next event.
func (a *account) next() uint64 {
	if h := a.head(); h != nil {
		return h.Seq + 1
	}
	return 0
}

// at is the event at seq, or nil when it is pruned or not there yet.
func (a *account) at(seq uint64) *Certified {
	if len(a.chain) == 0 || seq < a.chain[0].Seq || seq >= a.next() {
		return nil
	}
	return a.chain[seq-a.chain[0].Seq]
}

func (a *account) head() *Certified {
	if len(a.chain) == 0 {
		return nil
	}
	return a.chain[len(a.chain)-1]
}

// point names one receivable: an event and an index in it.
type point struct {
	source proto.Hash
	index  uint32
}

type receivable struct {
	to, from peer.ID
	amount   uint64
	eligible uint64 // the part that a bonus can be claimed for
}

// state is the effective state of a set of events.
type state struct {
	accounts map[peer.ID]*account
	events   map[proto.Hash]*Certified
	holds    map[proto.Hash]*hold
	open     map[peer.ID]map[proto.Hash]bool // open holds by payer
	points   map[point]receivable            // unclaimed
	inbox    map[peer.ID]map[point]bool      // the same, by owner
	burned   uint64
	minted   uint64
	worked   uint64             // that bonuses were claimed for, microcredits at the base price
	order    []peer.ID          // accounts with events, sorted as places are
	figures  map[uint64]figures // by epoch of their checkpoint
	newest   uint64             // epoch of the newest checkpoint, 0 is the genesis
	off      guard
	light    peer.ID // the only account that is known; empty in a full ledger

	deadlines deadlines            // of open holds
	standing  map[peer.ID]standing // at the base
	deeds     []deed               // of the events above the base
	rewarded  map[proto.Hash]bool  // checkpoints whose rewards are in the state
}

// figures are what rules read of a certified checkpoint. Those of epoch 0, the
// genesis, are zero.
type figures struct {
	x      uint64 // CPU-microhours that bonuses were claimed for
	minted uint64
}

func newState(net *proto.Network) state {
	s := state{
		accounts: map[peer.ID]*account{}, events: map[proto.Hash]*Certified{}, holds: map[proto.Hash]*hold{},
		open: map[peer.ID]map[proto.Hash]bool{}, points: map[point]receivable{}, inbox: map[peer.ID]map[point]bool{},
		figures: map[uint64]figures{0: {}},
	}
	for id, grant := range net.Grants {
		s.accounts[id] = &account{id: id, post: post{avail: uint64(grant)}}
	}
	return s
}

// tx collects the effects of several events over a state that it does not
// change, so that a failed write leaves nothing behind.
type tx struct {
	net     *proto.Network
	base    *state
	trusted bool // signatures inside bodies were checked before

	accounts map[peer.ID]*account
	events   map[proto.Hash]*Certified
	holds    map[proto.Hash]*hold
	made     map[point]receivable
	taken    map[point]bool
	burned   uint64
	minted   uint64
	worked   uint64
	deeds    []deed
	added    []*Certified // in the order they became effective
}

func newTx(net *proto.Network, base *state) *tx {
	return &tx{
		net: net, base: base, accounts: map[peer.ID]*account{}, events: map[proto.Hash]*Certified{},
		holds: map[proto.Hash]*hold{}, made: map[point]receivable{}, taken: map[point]bool{},
	}
}

// account returns the account to read; a copy to change comes from edit.
func (t *tx) account(id peer.ID) *account {
	if a := t.accounts[id]; a != nil {
		return a
	}
	if a := t.base.accounts[id]; a != nil {
		return a
	}
	return &account{id: id}
}

func (t *tx) edit(id peer.ID) *account {
	if a := t.accounts[id]; a != nil {
		return a
	}
	c := *t.account(id)
	t.accounts[id] = &c
	return &c
}

func (t *tx) event(id proto.Hash) *Certified {
	if c := t.events[id]; c != nil {
		return c
	}
	return t.base.events[id]
}

func (t *tx) hold(id proto.Hash) *hold {
	if h := t.holds[id]; h != nil {
		return h
	}
	return t.base.holds[id]
}

func (t *tx) receivable(p point) (receivable, bool) {
	if t.taken[p] {
		return receivable{}, false
	}
	if r, ok := t.made[p]; ok {
		return r, true
	}
	r, ok := t.base.points[p]
	return r, ok
}

// place checks that c is the next event of its account. Nil means yes.
func (t *tx) next(c *Certified) error {
	a := t.account(c.Account)
	if t.base.off.has(guardPlace) {
		return nil
	}
	if c.Seq < a.next() {
		known := a.at(c.Seq)
		if known == nil {
			return errPruned
		}
		return proto.CodeConflict.Errorf("event %s: seq %d of %s is %s", c.ID, c.Seq, c.Account, known.ID)
	}
	if c.Seq == 0 {
		return nil
	}
	prev, err := proto.ToHash(c.Event.Prev[4:]) // validate saw a CID of the one form
	if err != nil {
		return err
	}
	p := t.event(prev)
	if p == nil {
		return &missingError{[]proto.Hash{prev}}
	}
	if p.Account != c.Account || p.Seq+1 != c.Seq {
		return proto.CodeInvalidEvent.Errorf("event %s: prev is not the event before it", c.ID)
	}
	return nil
}

// judge decides whether c may become effective now.
func (t *tx) judge(c *Certified) (effect, error) {
	if err := t.next(c); err != nil {
		return effect{}, err
	}
	e, err := t.delta(c.Account, c.Event)
	if t.base.light != "" && c.Wire != nil {
		return t.vouched(c, e, err), nil
	}
	if err != nil {
		return e, err
	}
	if err := t.checkSigner(c.Account, c.Event, c.Signer); err != nil {
		return e, fmt.Errorf("event %s: %w", c.ID, err)
	}
	if e.post != c.post && !t.base.off.has(guardPlace) {
		return e, proto.CodeInvalidEvent.Errorf("event %s: post state does not follow from the event before it", c.ID)
	}
	return e, nil
}

// apply makes c effective. It cannot fail: judge bounded every sum.
func (t *tx) apply(c *Certified, e effect) {
	a := t.edit(c.Account)
	for _, p := range e.claims {
		r, _ := t.receivable(p)
		a.receivable -= r.amount
		t.taken[p] = true
	}
	for _, g := range e.gives {
		t.made[point{c.hash, g.index}] = receivable{g.to, c.Account, g.amount, g.eligible}
		t.edit(g.to).receivable += g.amount
	}
	t.deeds = append(t.deeds, deeds(c, e)...)
	a.post, a.epoch = e.post, c.Event.Epoch
	a.chain = append(a.chain, c)
	if h := e.hold; h != nil {
		switch c.Event.Body.(type) {
		case *proto.Event_Hold:
			h.id = c.hash
			h.events = append(h.events, c)
		case *proto.Event_Extend:
			h.events = append(h.events, c)
		}
		t.holds[h.id] = h
	}
	t.burned += e.burned
	t.minted += e.minted
	t.worked += e.worked
	t.events[c.hash] = c
	t.added = append(t.added, c)
}

// commit merges t into its base.
func (t *tx) commit() {
	s := t.base
	var opened []peer.ID
	for id, a := range t.accounts {
		if old := s.accounts[id]; len(a.chain) > 0 && (old == nil || len(old.chain) == 0) {
			opened = append(opened, id)
		}
		s.accounts[id] = a
	}
	switch {
	case len(opened) < 8: // sorting again would cost more
		for _, id := range opened {
			i, _ := slices.BinarySearch(s.order, id)
			s.order = slices.Insert(s.order, i, id)
		}
	default:
		s.order = append(s.order, opened...)
		slices.Sort(s.order)
	}
	maps.Copy(s.events, t.events)
	for id, h := range t.holds {
		if old := s.holds[id]; !h.closed && (old == nil || old.deadline != h.deadline) {
			s.watch(h)
		}
		s.holds[id] = h
		if s.open[h.payer] == nil {
			s.open[h.payer] = map[proto.Hash]bool{}
		}
		if h.closed {
			delete(s.open[h.payer], id)
		} else {
			s.open[h.payer][id] = true
		}
	}
	for p, r := range t.made {
		s.points[p] = r
		if s.inbox[r.to] == nil {
			s.inbox[r.to] = map[point]bool{}
		}
		s.inbox[r.to][p] = true
	}
	for p := range t.taken {
		owner := s.points[p].to
		delete(s.points, p)
		if delete(s.inbox[owner], p); len(s.inbox[owner]) == 0 {
			delete(s.inbox, owner)
		}
	}
	s.burned += t.burned
	s.minted += t.minted
	s.worked += t.worked
	s.deeds = append(s.deeds, t.deeds...)
}
