package ledger

import (
	"bytes"
	"cmp"
	"reflect"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Disable switches a countermeasure off until the returned function is called.
func Disable(name string) (restore func()) {
	was := disabled
	switch name {
	case "fingerprints":
		disabled.fingerprints = true
	case "signatures":
		disabled.signatures = true
	case "witnesses":
		disabled.witnesses = true
	case "state bounds":
		disabled.bounds = true
	case "closed frontier":
		disabled.cut = openCut
	default:
		panic("no countermeasure " + name)
	}
	return func() { disabled = was }
}

// ShortHeadIDs lets only n bytes of listed head ids differ.
func ShortHeadIDs(n int) (restore func()) {
	was := headIDLen
	headIDLen = n
	return func() { headIDLen = was }
}

// Unsigned is Verify without signatures.
func Unsigned(net *proto.Network, wire *proto.CertifiedEvent) (*Certified, error) {
	c, err := decode(net, wire.Event, false)
	if err != nil {
		return nil, err
	}
	c.Wire = wire
	return c, nil
}

// UnsignedChain makes a chain of n events, transfers to itself excluded, with
// the sizes of signed and certified ones. It grants the account what it needs.
func UnsignedChain(net *proto.Network, key [32]byte, n int) []*Certified {
	id, err := accountOfKey(key[:])
	if err != nil {
		panic(err)
	}
	net.Grants[id] = proto.Credit(n)
	to, err := accountOfKey(make([]byte, keyLen))
	if err != nil {
		panic(err)
	}
	var out []*Certified
	for seq := range n {
		ev := &proto.Event{Account: []byte(id), Seq: uint64(seq), Post: &proto.Post{Avail: uint64(n - seq)}, AuthorTimeUnixMs: 1_700_000_000_000}
		if seq == 0 {
			ev.Body = &proto.Event_Open{Open: &proto.Open{}}
		} else {
			ev.Prev = out[seq-1].ID.Bytes()
			ev.Body = &proto.Event_Transfer{Transfer: &proto.Transfer{To: []byte(to), Amount: 1}}
		}
		payload, err := goproto.Marshal(&proto.Payload{Body: &proto.Payload_Event{Event: ev}})
		if err != nil {
			panic(err)
		}
		env, err := goproto.Marshal(&proto.Envelope{Payload: payload, Signer: []byte(id), Signature: bytes.Repeat([]byte{1}, 64)})
		if err != nil {
			panic(err)
		}
		c, err := Unsigned(net, &proto.CertifiedEvent{Event: env, Certificate: &proto.Certificate{Commits: [][]byte{make([]byte, 200)}}})
		if err != nil {
			panic(err)
		}
		out = append(out, c)
	}
	return out
}

// openCut reads each account's state off its last event below the cut and
// does not ask whether sources and claims are on the same side.
func openCut(l *Ledger, cut map[peer.ID]uint64) (*state, error) {
	st := newState(l.net)
	st.adopt(&l.s)
	st.events = l.s.events
	claimed := map[point]bool{}
	below := func(fn func(*account, *Certified)) {
		for _, id := range l.s.order {
			for _, c := range l.s.accounts[id].chain {
				if c.Seq < cut[id] {
					fn(l.s.accounts[id], c)
				}
			}
		}
	}
	below(func(a *account, c *Certified) {
		x := st.accounts[a.id]
		if x == nil {
			x = &account{id: a.id}
			st.accounts[a.id] = x
		}
		if len(x.chain) == 0 {
			st.order = append(st.order, a.id)
		}
		x.chain = append(x.chain, c)
		x.post, x.epoch = c.post, c.Event.Epoch
		for _, s := range append(c.Event.GetOpen().GetSources(), c.Event.GetReceive().GetSources()...) {
			if p, err := pointOf(s); err == nil {
				claimed[p] = true
			}
		}
	})
	below(func(a *account, c *Certified) {
		if b := c.Event.GetTransfer(); b != nil && !claimed[point{c.hash, 0}] {
			r := receivable{to: peer.ID(b.To), from: a.id, amount: b.Amount}
			st.points[point{c.hash, 0}] = r
			if st.accounts[r.to] == nil {
				st.accounts[r.to] = &account{id: r.to}
			}
			st.accounts[r.to].receivable += r.amount
		}
	})
	return &st, nil
}

// DraftCut is DraftCheckpoint with a frontier of the caller's choice: the seq
// after the last one below it.
func (l *Ledger) DraftCut(cut map[peer.ID]uint64) (*proto.Checkpoint, []byte, error) {
	before, err := l.frontier(l.s.newest)
	if err != nil {
		return nil, nil, err
	}
	var moved []change
	for _, id := range l.s.order {
		if cut[id] > before[id] {
			moved = append(moved, change{id, cut[id] - 1})
		}
	}
	st, err := l.stateAt(l.s.newest+1, cut)
	if err != nil {
		return nil, nil, err
	}
	return l.draftBody(l.s.newest+1, st, cut, news{changes: moved})
}

// BodyFor is the body that a proposer would compute for changes of its choice.
func (l *Ledger) BodyFor(changes []byte) (*proto.Checkpoint, error) {
	n, err := parseChanges(changes)
	if err != nil {
		return nil, err
	}
	epoch := l.s.newest + 1
	cut, err := l.frontier(l.s.newest)
	if err != nil {
		return nil, err
	}
	for _, c := range n.changes {
		cut[c.account] = c.seq + 1
	}
	st, err := l.stateAt(epoch, cut)
	if err != nil {
		return nil, err
	}
	all, err := l.standings(epoch, st, cut, n)
	if err != nil {
		return nil, err
	}
	return l.bodyOf(epoch, st, all, n, changes), nil
}

// FewChanges lets a checkpoint move only n frontiers.
func FewChanges(n int) (restore func()) {
	was := maxChanges
	maxChanges = n
	return func() { maxChanges = was }
}

// CodecLoses encodes and decodes records that fill draws and reports what does
// not come back.
func CodecLoses(fill func(any)) []string {
	var lost []string
	compare := func(what string, want, got any, err error) {
		if err != nil || !reflect.DeepEqual(want, got) {
			lost = append(lost, what)
		}
	}
	var p post
	fill(&p)
	e := new(encoder)
	p.encode(e)
	var p2 post
	d := &decoder{b: e.b}
	p2.decode(d)
	compare("post", p, p2, d.end("post"))

	var r receivable
	fill(&r)
	_, r2, err := r.leaf(point{}).receivable()
	compare("receivable", r, r2, err)

	h := new(hold)
	fill(h)
	h.closed, h.events = false, nil // open holds only; events are kept beside
	h2, _, err := h.leaf().hold()
	compare("hold", h, h2, err)

	var x standing
	fill(&x)
	_, x2, err := x.leaf(peer.ID(idPrefix + string(make([]byte, keyLen)))).standing()
	compare("standing", x, x2, err)

	// These are put together by stateOf; a new field needs its place there.
	if n := reflect.TypeFor[account]().NumField(); n != 6 {
		lost = append(lost, "account")
	}
	if n := reflect.TypeFor[state]().NumField(); n != 18 {
		lost = append(lost, "state")
	}
	return lost
}

// FakeSignatures puts a cheap stand-in before signature checks, for walks of
// millions of steps: a signature is a hash, and a checked envelope is decoded
// once. Until restore is called no real signature passes.
func FakeSignatures() (seal func(by peer.ID, n *proto.Network, p *proto.Payload) []byte, forget, restore func()) {
	known := map[string]*proto.Signed{}
	sign := func(by peer.ID, payload []byte) []byte {
		h := proto.HashOf(append([]byte(by), payload...))
		return append(h[:], h[:]...)
	}
	check := func(_ proto.NetworkID, raw []byte, want ...proto.Kind) (*proto.Signed, error) {
		s := known[string(raw)]
		if s == nil {
			var err error
			if s, err = proto.Inspect(raw, want...); err != nil {
				return nil, err
			}
			env := new(proto.Envelope)
			if err := goproto.Unmarshal(raw, env); err != nil {
				return nil, err
			}
			if !bytes.Equal(env.Signature, sign(peer.ID(env.Signer), env.Payload)) {
				return nil, proto.CodeBadSignature.Errorf("fake signature of %s does not match", s.Signer)
			}
			known[string(raw)] = s
		}
		for _, k := range want {
			if s.Kind == k {
				return s, nil
			}
		}
		return nil, proto.CodeUnknownKind.Errorf("%s where %v was expected", s.Kind, want)
	}
	seal = func(by peer.ID, _ *proto.Network, p *proto.Payload) []byte {
		payload := must(p)
		return must(&proto.Envelope{Payload: payload, Signer: []byte(by), Signature: sign(by, payload)})
	}
	signed, unchecked := openSigned, openUnchecked
	openSigned = check
	openUnchecked = func(raw []byte, want ...proto.Kind) (*proto.Signed, error) {
		if s := known[string(raw)]; s != nil {
			return check(proto.NetworkID{}, raw, want...)
		}
		return proto.Inspect(raw, want...)
	}
	return seal, func() { clear(known) }, func() { openSigned, openUnchecked = signed, unchecked }
}

// SwitchOff disables rule 2, 3 or 5.
func (w *Witness) SwitchOff(rule int) {
	switch rule {
	case 2:
		w.off.rule2 = true
	case 3:
		w.off.rule3 = true
	case 5:
		w.off.rule5 = true
	default:
		panic("no such rule")
	}
}

// SwitchOffNamed disables what a witness does beside the rules' safety: claims
// are closed, Close comes before the author, peers open few slots, votes are
// durable.
func (w *Witness) SwitchOffNamed(names ...string) {
	for _, n := range names {
		switch n {
		case "close":
			w.off.close = true
		case "close first":
			w.off.closeFirst = true
		case "few slots":
			w.off.slots = true
		case "durable votes":
			w.off.durable = true
		case "epochs":
			w.off.epochs = true
		case "longest hold":
			w.off.maxHold = true
		case "clock":
			w.l.s.off |= guardClock
		default:
			panic("no countermeasure " + n)
		}
	}
}

// KeepEvidence changes how many offences a witness keeps.
func KeepEvidence(n int) (restore func()) {
	was := maxEvidence
	maxEvidence = n
	return func() { maxEvidence = was }
}

// MaxOpened is how many undecided slots one peer may open.
const MaxOpened = maxOpened

// Leader names who leads a round r ≥ 1 of a slot.
func Leader(net *proto.Network, slot *proto.Slot, round uint32) peer.ID {
	return (&Witness{net: net}).leader(newInstance(slot), round)
}

// Durable reports whether a store holds the vote or report that a witness is
// about to sign. Other payloads are no votes.
func Durable(s Store, p *proto.Payload) (bool, error) {
	var in *instance
	var key []byte
	var want []byte
	switch b := p.Body.(type) {
	case *proto.Payload_Prepare:
		in = newInstance(b.Prepare.Slot)
		key, want = in.recordKey('p', ""), must(b.Prepare)
	case *proto.Payload_Commit:
		in = newInstance(b.Commit.Slot)
		key, want = in.recordKey('c', ""), must(b.Commit)
		// With the Commit goes the lock.
		raw, err := s.Get(in.recordKey('l', ""))
		if err != nil {
			return false, err
		}
		state := new(proto.Report)
		if err := goproto.Unmarshal(raw, state); err != nil || state.LockRound != b.Commit.Round || !bytes.Equal(state.LockId, b.Commit.Id) {
			return false, err
		}
	case *proto.Payload_Report:
		in = newInstance(b.Report.Slot)
		key, want = in.recordKey('r', ""), must(b.Report)
	case *proto.Payload_Propose:
		in = newInstance(b.Propose.Slot)
		key, want = in.recordKey('o', ""), must(b.Propose)
	default:
		return true, nil
	}
	raw, err := s.Get(key)
	if err != nil || !bytes.Equal(raw, want) {
		return false, err
	}
	return changesDurable(s, in, cmp.Or(string(p.GetPrepare().GetId()), string(p.GetCommit().GetId())))
}

// changesDurable reports whether a store holds the changes of a checkpoint that
// is about to be voted for, if it has any.
func changesDurable(s Store, in *instance, id string) (bool, error) {
	if in.account != "" || id == "" {
		return true, nil
	}
	raw, err := s.Get(in.recordKey('b', id))
	if err != nil || raw == nil {
		return false, err
	}
	c, err := proto.Inspect(raw, proto.KindCheckpoint)
	if err != nil {
		return false, err
	}
	changes, err := s.Get(in.recordKey('f', id))
	hash := proto.HashOf(changes)
	return bytes.Equal(hash[:], c.Payload.GetCheckpoint().ChangesHash), err
}

// MemoSignatures checks each signature once, for tests that show the same
// signed bytes to many ledgers. Until restore is called.
func MemoSignatures() (restore func()) {
	type key struct {
		net proto.NetworkID
		raw string
	}
	known := map[key]*proto.Signed{}
	was := openSigned
	openSigned = func(n proto.NetworkID, raw []byte, want ...proto.Kind) (*proto.Signed, error) {
		k := key{n, string(raw)}
		if s := known[k]; s != nil {
			for _, kind := range want {
				if s.Kind == kind {
					return s, nil
				}
			}
			return nil, proto.CodeUnknownKind.Errorf("%s where %v was expected", s.Kind, want)
		}
		s, err := proto.Unseal(n, raw, want...)
		if err == nil {
			known[k] = s
		}
		return s, err
	}
	return func() { openSigned = was }
}

// Recode decodes a record of a checkpoint's state and encodes it again.
func Recode(tree byte, key, value []byte) (leafKey, leafValue []byte, err error) {
	x := leaf{tree, key, value}
	switch tree {
	case treeAccounts:
		v, err := x.account()
		if err != nil {
			return nil, nil, err
		}
		e := new(encoder)
		e.num(v.seq, v.epoch)
		e.hash(v.head)
		v.post.encode(e)
		return accountKey(v.id), e.b, nil
	case treeHolds:
		h, events, err := x.hold()
		if err != nil {
			return nil, nil, err
		}
		for _, id := range events {
			h.events = append(h.events, &Certified{hash: id})
		}
		y := h.leaf()
		return y.key, y.value, nil
	case treeUnclaimed:
		p, r, err := x.receivable()
		if err != nil {
			return nil, nil, err
		}
		y := r.leaf(p)
		return y.key, y.value, nil
	case treeReputation:
		id, st, err := x.standing()
		if err != nil {
			return nil, nil, err
		}
		y := st.leaf(id)
		return y.key, y.value, nil
	}
	return nil, nil, proto.CodeMalformed.Errorf("no tree %q", tree)
}

// Leaves lists the records of the base's state in a store's ledger.
func (l *Ledger) Leaves() (trees []byte, keys, values [][]byte) {
	all, err := l.storedLeaves()
	if err != nil {
		panic(err)
	}
	for _, x := range all {
		trees, keys, values = append(trees, x.tree), append(keys, x.key), append(values, x.value)
	}
	return trees, keys, values
}

// StateSpace is where a store keeps the base's state.
var StateSpace = []byte{spaceState}

// MaxState bounds the bytes that are kept of a state before it is complete: per
// record its longest value, with an author's event and its certificate for
// every account, and one part that is too much in every tree.
func MaxState(b *proto.Checkpoint) int {
	n := 0
	for _, tree := range trees {
		_, count := rootField(b, tree)
		key, value := limits(tree)
		if tree == treeAccounts {
			value += MaxAuthorEvent + 1024
		}
		n += int(*count+1) * (key + value + 64)
	}
	return n
}

// Asked is the base whose state a session waits for.
func (s *Sync) Asked() uint64 { return s.join.asked }
