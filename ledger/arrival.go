package ledger

import (
	"bytes"
	"fmt"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// arrival is a checkpoint's state as it comes from a peer, one leaf after the
// other. Whether it is the certified one only the whole of it shows, so until
// then it is a stranger's word, and what is kept of that is bounded by what
// witnesses certified: no more leaves of a tree than the header counts, none
// longer than its kind can be, and no event but certified ones that its leaf
// names. The first frame that goes beyond ends the session.
type arrival struct {
	l       *Ledger
	h       *CheckpointHeader // verified, with its changes
	leaves  []leaf
	count   map[byte]uint64           // leaves by tree
	kept    map[proto.Hash]*Certified // events that leaves name
	open    bool                      // the last leaf's value may still grow
	need    []proto.Hash              // events of the last leaf that are to come, in this order
	hold    *hold                     // that the last leaf is, and whose events come
	counted int                       // receipts in reputations
}

func newArrival(l *Ledger, h *CheckpointHeader) *arrival {
	return &arrival{l: l, h: h, count: map[byte]uint64{}, kept: map[proto.Hash]*Certified{}}
}

// Bytes that records of the trees can have: see their encodings.
const (
	maxPeerString     = 8 + peerLen
	maxAccountLeaf    = 2*8 + 32 + 10*8 + 3*maxPeerString + 8 + 8*maxOffences
	maxLaneRecord     = 2*maxPeerString + 4*8
	bareHoldLeaf      = maxPeerString + 16 + 6*8 // without lanes and events
	maxHoldLeaf       = bareHoldLeaf + MaxHoldLanes*maxLaneRecord + (1+MaxExtends)*32
	maxReceivableLeaf = 2*maxPeerString + 2*8
	maxStandingLeaf   = 5*8 + maxPeerString + 8 + maxCounted*(8+32)
	// maxCounted bounds the receipts that all reputations together remember.
	maxCounted = maxWrong * (WrongEpochs + 1)
)

// limits are the lengths of a tree's keys and of its longest value.
func limits(tree byte) (key, value int) {
	switch tree {
	case treeAccounts:
		return keyLen, maxAccountLeaf
	case treeHolds:
		return len(proto.Hash{}), maxHoldLeaf
	case treeUnclaimed:
		return len(proto.Hash{}) + 4, maxReceivableLeaf
	case treeReputation:
		return keyLen, maxStandingLeaf
	}
	return 0, 0
}

// add takes a leaf or a further part of the last one: first the value's parts,
// then the events that the value names, in its order.
func (a *arrival) add(p *proto.StateLeaf) error {
	x := leaf{byte(p.GetTree()), p.GetKey(), p.GetValue()}
	n := len(a.leaves)
	switch {
	case n == 0 || a.leaves[n-1].tree != x.tree || !bytes.Equal(a.leaves[n-1].key, x.key):
		if err := a.begin(p.GetTree(), x); err != nil {
			return err
		}
	case len(x.value)+len(p.GetEvents()) == 0:
		return proto.CodeMalformed.Errorf("a part of a record with nothing in it")
	case len(x.value) > 0:
		last := &a.leaves[n-1]
		if !a.open {
			return proto.CodeMalformed.Errorf("a record goes on behind its events")
		}
		if _, most := limits(x.tree); len(last.value)+len(x.value) > most && !disabled.bounds {
			return proto.CodeTooLarge.Errorf("a record of more than %d bytes", most)
		}
		last.value = append(last.value, x.value...)
	}
	for _, w := range p.GetEvents() {
		if a.open {
			if err := a.read(); err != nil {
				return err
			}
		}
		if err := a.event(w); err != nil {
			return err
		}
	}
	return nil
}

// begin starts the next leaf.
func (a *arrival) begin(tree uint32, x leaf) error {
	if err := a.end(); err != nil {
		return err
	}
	key, most := limits(x.tree)
	switch n := len(a.leaves); {
	case tree > 255 || key == 0:
		return proto.CodeMalformed.Errorf("no tree %d", tree)
	case n > 0 && compareLeaves(a.leaves[n-1], x) >= 0:
		return proto.CodeMalformed.Errorf("state out of order")
	case len(x.key) != key:
		return proto.CodeMalformed.Errorf("a record's key has %d bytes, want %d", len(x.key), key)
	case len(x.value) == 0 || len(x.value) > most:
		return proto.CodeTooLarge.Errorf("a record of %d bytes, want 1 to %d", len(x.value), most)
	}
	if _, count := rootField(a.h.Body, x.tree); a.count[x.tree] == *count {
		return proto.CodeTooLarge.Errorf("more records in tree %q than the %d that are certified", x.tree, *count)
	}
	a.count[x.tree]++
	x.value = bytes.Clone(x.value) // it may grow
	a.leaves, a.open = append(a.leaves, x), true
	return nil
}

// read decodes the last leaf, whose value has come.
func (a *arrival) read() (err error) {
	x := a.leaves[len(a.leaves)-1]
	a.open, a.hold = false, nil
	switch x.tree {
	case treeHolds:
		if a.hold, a.need, err = x.hold(); err != nil {
			return err
		}
		if len(a.need) == 0 || a.need[0] != a.hold.id {
			return proto.CodeMalformed.Errorf("hold %s has no event", a.hold.id.CID())
		}
	case treeUnclaimed:
		_, _, err = x.receivable()
	case treeReputation:
		_, st, serr := x.standing()
		if a.counted += len(st.counted); serr == nil && (a.counted > maxCounted || len(st.referrer) > peerLen) {
			return proto.CodeTooLarge.Errorf("a reputation with a referrer of %d bytes, or more than %d receipts in all", len(st.referrer), maxCounted)
		}
		err = serr
	default:
		a.need, err = x.events()
	}
	return err
}

// event takes the next event that the last leaf names.
func (a *arrival) event(w *proto.CertifiedEvent) error {
	s, err := proto.Inspect(w.GetEvent(), proto.KindEvent)
	if err != nil {
		return err
	}
	id, err := proto.CIDHash(s.ID)
	if err != nil {
		return err
	}
	if len(a.need) == 0 || id != a.need[0] {
		return proto.CodeMalformed.Errorf("event %s is not the next that its record names", s.ID)
	}
	a.need = a.need[1:]
	c := a.kept[id]
	if c == nil {
		c = a.l.s.events[id]
	}
	if c == nil {
		if c, err = a.l.verifyKept(w); err != nil {
			return fmt.Errorf("event %s: %w", s.ID, err)
		}
	}
	if a.hold != nil {
		if err := a.hold.follows(c); err != nil {
			return err
		}
		a.hold.events = append(a.hold.events, c)
	}
	a.kept[id] = c
	return nil
}

// follows checks that an event is the next of a hold's: an event that fits
// anywhere could be repeated under every hold.
func (h *hold) follows(c *Certified) error {
	n := len(h.events)
	if c.Account == h.payer && (n == 0 && c.Event.GetHold() != nil ||
		n > 0 && h.events[n-1].Seq < c.Seq && bytes.Equal(c.Event.GetExtend().GetHold(), h.id.CID().Bytes())) {
		return nil
	}
	return proto.CodeMalformed.Errorf("event %s does not belong to hold %s", c.ID, h.id.CID())
}

// end checks the last leaf, before another one begins.
func (a *arrival) end() error {
	if a.open {
		if err := a.read(); err != nil {
			return err
		}
	}
	if len(a.need) > 0 {
		return proto.CodeMalformed.Errorf("%d events of a record did not come", len(a.need))
	}
	if h := a.hold; h != nil {
		lanes := 0
		for _, c := range h.events {
			lanes += len(c.Event.GetHold().GetLanes()) + len(c.Event.GetExtend().GetLanes())
		}
		most := bareHoldLeaf + min(lanes, len(h.lanes))*maxLaneRecord + len(h.events)*32
		if n := len(a.leaves[len(a.leaves)-1].value); n > most {
			return proto.CodeTooLarge.Errorf("a record of hold %s with %d bytes, its events allow %d", h.id.CID(), n, most)
		}
		a.hold = nil
	}
	return nil
}

// install makes the state that came the base of the ledger, once all of it
// leads to the certified roots. What is here above its frontier stays.
func (a *arrival) install() error {
	h, l := a.h, a.l
	if err := a.end(); err != nil {
		return fmt.Errorf("checkpoint %d: %w", h.Body.Epoch, err)
	}
	roots := new(proto.Checkpoint)
	fillRoots(roots, a.leaves)
	for _, tree := range trees {
		got, n := rootField(roots, tree)
		want, m := rootField(h.Body, tree)
		if !bytes.Equal(*got, *want) || *n != *m {
			return proto.CodeMalformed.Errorf("checkpoint %d: the state that came is not the one that is certified", h.Body.Epoch)
		}
	}
	next := map[peer.ID]uint64{}
	for _, x := range ofTree(a.leaves, treeAccounts) {
		v, err := x.account()
		if err != nil {
			return err
		}
		next[v.id] = v.seq + 1
	}
	for _, id := range l.own {
		if own := l.s.accounts[id]; own != nil {
			for _, c := range own.chain {
				if c.Seq < next[id] {
					a.kept[c.hash] = c
				}
			}
		}
	}
	st, err := stateOf(l.net, h.Body, a.leaves, a.kept)
	if err != nil {
		return err
	}
	if err := l.matches(h, &st, a.leaves); err != nil {
		return err
	}
	return l.install(h, a.leaves, a.kept)
}

func (l *Ledger) verifyKept(wire *proto.CertifiedEvent) (*Certified, error) {
	if disabled.signatures {
		c, err := decode(l.net, wire.GetEvent(), false)
		if err == nil {
			c.Wire = wire
		}
		return c, err
	}
	return Verify(l.net, wire)
}
