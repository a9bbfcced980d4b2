package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// MaxPending bounds the certified events that wait for their prev or sources.
// When it is reached the one that waited longest is forgotten; reconciliation
// brings it again.
const MaxPending = 4096

// Ledger is the set of certified events of one network and the state that
// follows from it.
type Ledger struct {
	net     *proto.Network
	store   Store
	s       state
	pending map[proto.Hash]*waiter
	waiting map[proto.Hash][]*waiter // by the event they wait for
	queue   []proto.Hash             // pending, oldest first; may name forgotten ones
	intents map[peer.ID]*intent
	hash    proto.Hash // of the state; zero when it has to be computed

	base        uint64 // epoch of the checkpoint below which events are pruned
	checkpoints map[uint64]*CheckpointHeader
	proposed    [][]byte           // changes of proposed checkpoints, oldest first
	own         []peer.ID          // whose chains are kept
	proofs      *proofs            // of the base's state; nil when they have to be computed
	served      []served           // the base's state for those that join; nil when it has to be read
	probes      map[peer.ID][]byte // probe reports for probesFor
	probesFor   uint64
	accused     accusations
	stood       map[peer.ID]standing // at the newest checkpoint; nil when they have to be computed
	light       *light               // nil in a full ledger
}

// waiter is a certified event that cannot be judged yet.
type waiter struct {
	c    *Certified
	need proto.Hash // one event that it lacks
}

// Open replays the store: the base checkpoint's state, which must have its
// roots, and the events above it. Signatures are not checked again: only events that
// this ledger checked are in it. A store of another network, or one that does
// not replay, is an error.
func Open(net *proto.Network, store Store) (*Ledger, error) {
	l := newLedger(net, store)
	if err := l.claimStore(); err != nil {
		return nil, err
	}
	if err := l.clearLight(); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	var all []*Certified
	err := store.Scan([]byte{spaceEvent}, func(_, value []byte) error {
		wire := new(proto.CertifiedEvent)
		if err := goproto.Unmarshal(value, wire); err != nil {
			return err
		}
		c, err := decode(net, wire.Event, false)
		if err != nil {
			return err
		}
		c.Wire = wire
		all = append(all, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: replay: %w", err)
	}
	if err := l.loadCheckpoints(); err != nil {
		return nil, fmt.Errorf("ledger: replay: %w", err)
	}
	tail, err := l.found(all)
	if err != nil {
		return nil, fmt.Errorf("ledger: replay: the store is damaged: %w", err)
	}
	t := newTx(net, &l.s)
	t.trusted = true
	f := l.fold(t, tail)
	if len(t.added) != len(tail) {
		return nil, fmt.Errorf("ledger: replay: the store is damaged: %d of %d events do not follow: %w", len(tail)-len(t.added), len(tail), f.refused)
	}
	t.commit()
	if err := l.loadIntents(); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return l, nil
}

func newLedger(net *proto.Network, store Store) *Ledger {
	return &Ledger{
		net: net, store: store, s: newState(net), pending: map[proto.Hash]*waiter{},
		waiting: map[proto.Hash][]*waiter{}, intents: map[peer.ID]*intent{},
		checkpoints: map[uint64]*CheckpointHeader{},
	}
}

// StoreNetwork is the id of the network that a store belongs to, or Undef for
// a store that no ledger was in.
func StoreNetwork(store Store) (cid.Cid, error) {
	raw, err := store.Get(metaNetwork)
	if err != nil || raw == nil {
		return cid.Undef, err
	}
	return proto.ParseCID(raw)
}

// StoreLight reports whether a light ledger was in a store last. Open empties
// such a one of its account's events, which reconciliation brings again.
func StoreLight(store Store) (bool, error) {
	mark, err := store.Get(metaLight)
	return mark != nil, err
}

// claimStore marks an empty store as the network's, and refuses another
// network's.
func (l *Ledger) claimStore() error {
	switch known, err := StoreNetwork(l.store); {
	case err != nil:
		return fmt.Errorf("ledger: %w", err)
	case !known.Defined():
		if err := l.store.Append(Record{metaNetwork, l.net.ID.CID().Bytes()}); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
	case !known.Equals(l.net.ID.CID()):
		return proto.CodeWrongNetwork.Errorf("ledger: the store belongs to another network than %s", l.net.ID)
	}
	return nil
}

// clearLight drops what a light ledger left: of its account it had the newest
// events only, and reconciliation brings all of them. What is signed and not
// certified stays, as does everything of others (votes, the node's records).
func (l *Ledger) clearLight() error {
	mark, err := l.store.Get(metaLight)
	if err != nil || mark == nil {
		return err
	}
	batch := []Record{{metaLight, nil}, {metaBase, nil}}
	for _, space := range []byte{spaceEvent, spaceWatch, spaceCheckpoint, spaceState} {
		err := l.store.Scan([]byte{space}, func(key, _ []byte) error {
			batch = append(batch, Record{bytes.Clone(key), nil})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return l.store.Append(batch...)
}

// Network is the network that the ledger belongs to.
func (l *Ledger) Network() *proto.Network { return l.net }

// Add verifies events and unites them with the set. It returns those that
// became effective, in an order in which each follows its prev and sources:
// events that had waited for one of evs are among them, and events that lack
// something are not but stay pending. Known events are skipped. Invalid
// events do not stop the others; the first one's error is returned and
// carries a proto.Code. When the store fails, nothing changed. The messages
// belong to the ledger afterwards.
func (l *Ledger) Add(evs ...*proto.CertifiedEvent) (added []*Certified, err error) {
	var bad error
	cs := make([]*Certified, 0, len(evs))
	for _, w := range evs {
		// A replayed event costs a hash, not signature checks.
		if s, err := proto.Inspect(w.GetEvent(), proto.KindEvent); err == nil && (l.known(s.ID) || l.pruned(s.Payload.GetEvent())) {
			continue
		}
		c, err := Verify(l.net, w)
		if err != nil {
			if bad == nil {
				bad = err
			}
			continue
		}
		cs = append(cs, c)
	}
	added, refused, err := l.add(nil, cs)
	switch {
	case err != nil:
		return nil, err
	case bad != nil:
		return added, bad
	}
	return added, refused
}

func (l *Ledger) known(id cid.Cid) bool {
	h, err := proto.CIDHash(id)
	return err == nil && (l.s.events[h] != nil || l.pending[h] != nil)
}

// pruned reports whether an event is covered by the base checkpoint.
func (l *Ledger) pruned(ev *proto.Event) bool {
	a := l.s.accounts[peer.ID(ev.GetAccount())]
	return a != nil && a.kept > 0 && ev.GetSeq() <= a.chain[a.kept-1].Seq
}

// AddVerified is Add for events that Verify returned for this network, and
// writes the caller's own records (see NodeKey) in the same durable batch.
func (l *Ledger) AddVerified(own []Record, cs ...*Certified) (added []*Certified, err error) {
	added, refused, err := l.add(own, cs)
	if err != nil {
		return nil, err
	}
	return added, refused
}

// add tells a refused event, which stops nothing, from a failed store, after
// which nothing changed.
func (l *Ledger) add(own []Record, cs []*Certified) (added []*Certified, refused, failed error) {
	t := newTx(l.net, &l.s)
	fresh := make([]*Certified, 0, len(cs))
	for _, c := range cs {
		if l.s.light != "" && c.Account != l.s.light {
			continue // a light ledger does not need it
		}
		if l.s.events[c.hash] == nil && l.pending[c.hash] == nil || l.s.off.has(guardPlace) {
			fresh = append(fresh, c)
		}
	}
	f := l.fold(t, fresh)
	batch := make([]Record, 0, len(own)+len(t.added)+1)
	batch = append(batch, own...)
	var finished []peer.ID
	for _, c := range t.added {
		value, err := goproto.Marshal(c.Wire)
		if err != nil {
			return nil, nil, fmt.Errorf("ledger: event %s: %w", c.ID, err)
		}
		batch = append(batch, Record{eventKey(c.Account, c.Seq, c.hash), value})
		if in := l.intents[c.Account]; in != nil && in.seq == c.Seq {
			batch = append(batch, Record{intentKey(c.Account), nil})
			finished = append(finished, c.Account)
		}
	}
	if len(batch) > 0 {
		if err := l.store.Append(batch...); err != nil {
			return nil, nil, fmt.Errorf("ledger: %w", err)
		}
	}
	t.commit()
	for _, a := range finished {
		delete(l.intents, a)
	}
	for _, c := range t.added {
		l.forget(c.hash)
	}
	for _, h := range f.dropped {
		l.forget(h)
	}
	for _, w := range f.waits {
		l.forget(w.c.hash)
		l.wait(w)
	}
	if len(t.added) > 0 {
		l.hash = proto.Hash{}
		if l.s.light != "" {
			l.claimed(t.added)
			l.thin()
		}
	}
	return t.added, f.refused, nil
}

// folded is what fold could not apply.
type folded struct {
	waits   []*waiter
	dropped []proto.Hash // can never be effective
	refused error        // the first offered event among them
}

// fold applies to t every event of cs and every pending one that can become
// effective, whatever their order. The ledger itself is unchanged.
func (l *Ledger) fold(t *tx, cs []*Certified) (f folded) {
	return foldInto(t, cs, l.waiting, nil)
}

// foldInto is fold beside any ledger: waiting are those that wait, by what
// they wait for, and allow may hold back events that could become effective.
func foldInto(t *tx, cs []*Certified, waiting map[proto.Hash][]*waiter, allow func(*Certified) bool) (f folded) {
	lacking := map[proto.Hash][]*waiter{}
	offered := make(map[proto.Hash]bool, len(cs))
	var todo []*Certified
	try := func(c *Certified) {
		if t.event(c.hash) != nil && !t.base.off.has(guardPlace) {
			return
		}
		e, err := t.judge(c)
		var lacks *missingError
		switch {
		case err == nil && allow != nil && !allow(c):
		case err == nil:
			t.apply(c, e)
			for _, w := range lacking[c.hash] {
				todo = append(todo, w.c)
			}
			delete(lacking, c.hash)
			for _, w := range waiting[c.hash] {
				todo = append(todo, w.c)
			}
		case errors.Is(err, errPruned): // covered by the base checkpoint
			f.dropped = append(f.dropped, c.hash)
		case errors.As(err, &lacks):
			need := lacks.ids[0]
			lacking[need] = append(lacking[need], &waiter{c, need})
		default:
			f.dropped = append(f.dropped, c.hash)
			if f.refused == nil && offered[c.hash] {
				f.refused = fmt.Errorf("event %s: %w", c.ID, err)
			}
		}
	}
	for _, c := range cs {
		if offered[c.hash] {
			continue
		}
		offered[c.hash] = true
		for todo = append(todo, c); len(todo) > 0; {
			next := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			try(next)
		}
	}
	for _, ws := range lacking {
		f.waits = append(f.waits, ws...)
	}
	// Map order must not decide which of them is forgotten first.
	slices.SortFunc(f.waits, func(a, b *waiter) int { return bytes.Compare(a.c.hash[:], b.c.hash[:]) })
	return f
}

// wait keeps w, and forgets the oldest when there are too many.
func (l *Ledger) wait(w *waiter) {
	l.pending[w.c.hash] = w
	l.waiting[w.need] = append(l.waiting[w.need], w)
	l.queue = append(l.queue, w.c.hash)
	for len(l.pending) > MaxPending {
		l.forget(l.queue[0])
		l.queue = l.queue[1:]
	}
	if len(l.queue) > 2*MaxPending {
		l.queue = slices.DeleteFunc(l.queue, func(h proto.Hash) bool { return l.pending[h] == nil })
	}
}

func (l *Ledger) forget(id proto.Hash) {
	w := l.pending[id]
	if w == nil {
		return
	}
	delete(l.pending, id)
	rest := slices.DeleteFunc(l.waiting[w.need], func(x *waiter) bool { return x == w })
	if l.waiting[w.need] = rest; len(rest) == 0 {
		delete(l.waiting, w.need)
	}
}
