package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// A checkpoint is the state of the set cut at a frontier: per account the seq
// of its last event at or below the cut. The cut is an explicit choice of the
// proposer, so that a witness that holds more events computes the same state.
// Its body names the cut by the hash of the changes against the cut before,
// which travel beside it: what light clients read stays small.

// MaxChanges bounds the accounts whose frontier one checkpoint moves; the rest
// follow in the next. Their list stays below maxChangesSize.
const (
	MaxChanges     = 3000
	maxChangesSize = 256 << 10
	// Certified checkpoints this much older than the base are forgotten: an
	// event above it has an epoch at most epochLead before it.
	checkpointsKept = 8
)

// errPruned is an event at or below the base checkpoint's frontier: its
// effects are in the state already.
var errPruned = proto.CodeConflict.Errorf("the event is covered by a checkpoint")

// disabled switches countermeasures off, one at a time, in tests that show
// what happens without them.
var disabled struct {
	fingerprints bool // salted SHA-256 over heads; without: XOR of ids
	signatures   bool // of events in a checkpoint's state
	witnesses    bool // only witnesses' commits make a certificate
	bounds       bool // of a record of a state that a peer sends
	// cut replaces the state at a frontier, which is closed under sources.
	cut func(l *Ledger, cut map[peer.ID]uint64) (*state, error)
}

// CheckpointHeader is a certified checkpoint, checked.
type CheckpointHeader struct {
	ID   cid.Cid
	Body *proto.Checkpoint          // not to be changed
	Wire *proto.CertifiedCheckpoint // with its changes when they are known

	hash proto.Hash
	news
}

// change moves an account's frontier to the event at seq.
type change struct {
	account peer.ID
	seq     uint64
}

// CheckpointSlot is the slot of an epoch's checkpoint.
func CheckpointSlot(epoch uint64) *proto.Slot {
	return &proto.Slot{Kind: &proto.Slot_CheckpointEpoch{CheckpointEpoch: epoch}}
}

// VerifyCheckpoint checks a certified checkpoint without any state: size, the
// signature of the witness that proposed it, certificate, and its changes when
// it has any. It is all that a light client needs before it reads proofs. A
// failure is the sender's fault; errors carry a proto.Code.
func VerifyCheckpoint(net *proto.Network, wire *proto.CertifiedCheckpoint) (*CheckpointHeader, error) {
	h, err := decodeCheckpoint(net, wire.GetCheckpoint(), true)
	if err != nil {
		return nil, err
	}
	if err := checkCertificate(net, CheckpointSlot(h.Body.Epoch), h.ID, wire.GetCertificate()); err != nil {
		return nil, fmt.Errorf("checkpoint %d: %w", h.Body.Epoch, err)
	}
	h.Wire = &proto.CertifiedCheckpoint{Checkpoint: wire.Checkpoint, Certificate: &proto.Certificate{Commits: wire.Certificate.Commits}}
	if len(wire.Changes) > 0 || h.unchanged() {
		if err := h.attach(wire.Changes); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// unchanged reports a checkpoint before which nothing happened: its changes
// are no bytes at all.
func (h *CheckpointHeader) unchanged() bool { return bytes.Equal(h.Body.ChangesHash, noChanges[:]) }

var noChanges = proto.HashOf(nil)

func decodeCheckpoint(net *proto.Network, raw []byte, check bool) (*CheckpointHeader, error) {
	var s *proto.Signed
	var err error
	if check {
		s, err = openSigned(net.ID, raw, proto.KindCheckpoint)
	} else {
		s, err = proto.Inspect(raw, proto.KindCheckpoint)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	b := s.Payload.GetCheckpoint()
	if !net.IsWitness(s.Signer) {
		return nil, proto.CodeNotWitness.Errorf("checkpoint by %s, who is no witness", s.Signer)
	}
	if hasUnknown(s.Payload) {
		return nil, proto.CodeInvalidEvent.Errorf("checkpoint %d: has fields that this version does not know", b.Epoch)
	}
	if b.Epoch == 0 || (b.Epoch == 1) != (len(b.Prev) == 0) {
		return nil, proto.CodeInvalidEvent.Errorf("checkpoint %d: wrong epoch or prev", b.Epoch)
	}
	hash, err := proto.CIDHash(s.ID)
	if err != nil {
		return nil, err
	}
	return &CheckpointHeader{ID: s.ID, Body: b, hash: hash}, nil
}

// attach adds the changes that the body names.
func (h *CheckpointHeader) attach(raw []byte) error {
	if hash := proto.HashOf(raw); !bytes.Equal(hash[:], h.Body.ChangesHash) {
		return proto.CodeMalformed.Errorf("checkpoint %d: these are not its changes", h.Body.Epoch)
	}
	n, err := parseChanges(raw)
	if err != nil {
		return err
	}
	if total, ok := totalReward(n.rewards); !ok || total != h.Body.Rewarded {
		return proto.CodeInvalidEvent.Errorf("checkpoint %d: its rewards are not what it says", h.Body.Epoch)
	}
	h.news = n
	if h.Wire != nil {
		h.Wire.Changes = raw
	}
	return nil
}

// Base is the epoch of the checkpoint that the store begins above: events at
// or below its frontier may be pruned. 0 is the genesis.
func (l *Ledger) Base() uint64 { return l.base }

// Checkpoint returns a certified checkpoint, or false when it is not known or
// forgotten: the last few and the base are kept.
func (l *Ledger) Checkpoint(epoch uint64) (*CheckpointHeader, bool) {
	h := l.checkpoints[epoch]
	return h, h != nil
}

// frontier is the seq after the last one below an epoch's frontier, by
// account. It wants all changes since the base.
func (l *Ledger) frontier(epoch uint64) (map[peer.ID]uint64, error) {
	next := make(map[peer.ID]uint64, len(l.s.order))
	for _, id := range l.s.order {
		if a := l.s.accounts[id]; a.kept > 0 {
			next[id] = a.chain[a.kept-1].Seq + 1
		}
	}
	for e := l.base + 1; e <= epoch; e++ {
		h := l.checkpoints[e]
		if h == nil || h.changes == nil {
			return nil, proto.CodeMissing.Errorf("checkpoint %d: its changes are not known here", e)
		}
		for _, c := range h.changes {
			if c.seq < next[c.account] {
				return nil, proto.CodeInvalidEvent.Errorf("checkpoint %d: the frontier moves back", e)
			}
			next[c.account] = c.seq + 1
		}
	}
	return next, nil
}

// DraftCheckpoint makes the body for the slot of an epoch, which must be the
// one after the newest, and its changes. The body is to be signed by a witness
// as Payload_Checkpoint and proposed with the changes beside it. Everything
// that is effective here is below the frontier, as far as MaxChanges allows.
// When an epoch ends is not judged here.
func (l *Ledger) DraftCheckpoint(epoch uint64) (body *proto.Checkpoint, changes []byte, err error) {
	if epoch != l.s.newest+1 {
		return nil, nil, proto.CodeConflict.Errorf("checkpoint %d: the newest is %d", epoch, l.s.newest)
	}
	before, err := l.frontier(l.s.newest)
	if err != nil {
		return nil, nil, err
	}
	var moved []change
	for _, id := range l.s.order {
		if next := l.s.accounts[id].next(); next > before[id] {
			moved = append(moved, change{id, next - 1})
		}
	}
	st := &l.s
	if len(moved) > maxChanges {
		if st, moved, err = l.bounded(before, epoch); err != nil {
			return nil, nil, err
		}
	}
	cut := maps.Clone(before)
	for _, c := range moved {
		cut[c.account] = c.seq + 1
	}
	return l.draftBody(epoch, st, cut, news{changes: moved, probes: l.quorumOfProbes(epoch)})
}

// draftBody adds what follows from the state at the cut.
func (l *Ledger) draftBody(epoch uint64, st *state, cut map[peer.ID]uint64, n news) (*proto.Checkpoint, []byte, error) {
	all, err := l.standings(epoch, st, cut, n)
	if err != nil {
		return nil, nil, err
	}
	if n.rewards, err = l.rewards(epoch, st, all.referral, n.probes); err != nil {
		return nil, nil, err
	}
	changes, err := n.marshal()
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint %d: %w", epoch, err)
	}
	if len(changes) > maxChangesSize && len(n.probes) > 0 { // of very many witnesses; nobody is paid then
		n.probes = nil
		return l.draftBody(epoch, st, cut, n)
	}
	if l.attachWrong(epoch, &n, maxChangesSize-len(changes)) {
		if all, err = l.standings(epoch, st, cut, n); err != nil {
			return nil, nil, err
		}
		if changes, err = n.marshal(); err != nil {
			return nil, nil, fmt.Errorf("checkpoint %d: %w", epoch, err)
		}
	}
	l.KeepChanges(changes)
	return l.bodyOf(epoch, st, all, n, changes), changes, nil
}

// bodyOf summarises a state.
func (l *Ledger) bodyOf(epoch uint64, s *state, all stood, n news, changes []byte) *proto.Checkpoint {
	total, _ := totalReward(n.rewards)
	b := &proto.Checkpoint{Epoch: epoch, Rewarded: total}
	if h := l.checkpoints[epoch-1]; h != nil {
		b.Prev = h.ID.Bytes()
	}
	hash := proto.HashOf(changes)
	b.ChangesHash = hash[:]
	s.summarise(l.net, b)
	fillRoots(b, append(s.leaves(), all.leaves()...))
	return b
}

// summarise writes what the state says outside its leaves, and totals.
func (s *state) summarise(net *proto.Network, b *proto.Checkpoint) {
	b.Burned, b.Minted, b.Worked, b.X = s.burned, s.minted, s.worked, cpuMicrohours(net, s.worked)
	for _, a := range s.accounts {
		b.Avail += a.post.avail
		b.Held += a.post.held
		b.Staked += a.post.staked
		b.Unbonding += a.post.unbonding
	}
	for _, r := range s.points {
		b.Receivable += r.amount
	}
}

// carry is the inverse of summarise: what leaves do not say.
func (s *state) carry(b *proto.Checkpoint) {
	s.burned, s.minted, s.worked = b.GetBurned(), b.GetMinted(), b.GetWorked()
}

// cpuMicrohours is x: the work that bonuses were claimed for, from microcredits
// at the base price, which buys 60 s.
func cpuMicrohours(net *proto.Network, worked uint64) uint64 {
	return mulDiv(worked, 1_000_000, max(1, 60*net.Genesis.BasePrice))
}

// fillRoots sets roots and numbers of leaves, which are sorted.
func fillRoots(b *proto.Checkpoint, leaves []leaf) {
	for _, tree := range trees {
		part := ofTree(leaves, tree)
		root := newMerkle(tree, part).root()
		r, n := rootField(b, tree)
		*r, *n = root[:], uint64(len(part))
	}
}

func ofTree(leaves []leaf, tree byte) []leaf {
	from := slices.IndexFunc(leaves, func(l leaf) bool { return l.tree == tree })
	if from < 0 {
		return nil
	}
	to := from
	for to < len(leaves) && leaves[to].tree == tree {
		to++
	}
	return leaves[from:to]
}

func rootField(b *proto.Checkpoint, tree byte) (root *[]byte, count *uint64) {
	switch tree {
	case treeAccounts:
		return &b.FrontierRoot, &b.Accounts
	case treeHolds:
		return &b.HoldsRoot, &b.Holds
	case treeUnclaimed:
		return &b.UnclaimedRoot, &b.Unclaimed
	}
	return &b.ReputationRoot, &b.Reputations
}

// KeepChanges remembers the changes of a proposed checkpoint, which a Propose
// carries beside the body, for CheckCheckpoint and AddCheckpoint. Only the
// last few are kept; damaged ones are ignored.
func (l *Ledger) KeepChanges(raw []byte) {
	if _, err := parseChanges(raw); err != nil {
		return
	}
	hash := proto.HashOf(raw)
	if slices.ContainsFunc(l.proposed, func(p []byte) bool { return proto.HashOf(p) == hash }) {
		return
	}
	if l.proposed = append(l.proposed, slices.Clone(raw)); len(l.proposed) > 2*len(l.net.Witnesses)+2 {
		l.proposed = l.proposed[1:]
	}
}

// changesNamed finds the changes that a body names.
func (l *Ledger) changesNamed(hash []byte) ([]byte, bool) {
	if bytes.Equal(hash, noChanges[:]) {
		return nil, true
	}
	for _, p := range l.proposed {
		if h := proto.HashOf(p); bytes.Equal(h[:], hash) {
			return p, true
		}
	}
	return nil, false
}

// CheckCheckpoint judges a proposed body, a marshalled Envelope of Checkpoint,
// for its slot: it follows the newest checkpoint, its frontier is closed,
// nowhere behind the one before and somewhere ahead unless nothing happened,
// and all its roots and totals are what this ledger computes from the events
// that it holds. CodeMissing means that this ledger lacks events, a checkpoint
// or the changes (see KeepChanges): reconcile with the proposer and ask again.
// Every other code says what is wrong with the body. Whether the epoch is over
// is for the agreement to judge, which knows the time.
func (l *Ledger) CheckCheckpoint(raw []byte) (*CheckpointHeader, error) {
	h, err := decodeCheckpoint(l.net, raw, true)
	if err != nil {
		return nil, err
	}
	return h, l.checkBody(h)
}

func (l *Ledger) checkBody(h *CheckpointHeader) error {
	e := h.Body.Epoch
	switch {
	case e <= l.s.newest:
		return proto.CodeConflict.Errorf("checkpoint %d: the newest is %d", e, l.s.newest)
	case e > l.s.newest+1:
		return proto.CodeMissing.Errorf("checkpoint %d: the one before it is not known here", e)
	}
	changes, ok := l.changesNamed(h.Body.ChangesHash)
	if !ok {
		return proto.CodeMissing.Errorf("checkpoint %d: its changes are not known here", e)
	}
	if err := h.attach(changes); err != nil {
		return err
	}
	cut, err := l.frontier(l.s.newest)
	if err != nil {
		return err
	}
	for _, c := range h.changes {
		if c.seq < cut[c.account] {
			return proto.CodeInvalidEvent.Errorf("checkpoint %d: the frontier of %s does not move forward", e, c.account)
		}
		cut[c.account] = c.seq + 1
		if l.next(c.account) <= c.seq {
			return proto.CodeMissing.Errorf("checkpoint %d: events of %s up to %d are not known here", e, c.account, c.seq)
		}
	}
	st, err := l.stateAt(e, cut)
	if err != nil {
		return err
	}
	if err := l.checkWrong(e, h.news); err != nil {
		return err
	}
	all, err := l.standings(e, st, cut, h.news)
	if err != nil {
		return err
	}
	rewards, err := l.rewards(e, st, all.referral, h.probes)
	if err != nil {
		return err
	}
	if !slices.Equal(rewards, h.rewards) {
		return proto.CodeInvalidEvent.Errorf("checkpoint %d: its rewards do not follow from the events", e)
	}
	want := l.bodyOf(e, st, all, h.news, changes)
	want.TimeUnixMs = h.Body.TimeUnixMs
	if !goproto.Equal(want, h.Body) {
		return proto.CodeInvalidEvent.Errorf("checkpoint %d: its roots or totals do not follow from the events", e)
	}
	return nil
}

// AddCheckpoint verifies a certified checkpoint and keeps it, durably and with
// the caller's own records in the same batch. It reports whether anything is
// new. Changes that a Propose brought are added. Older ones than the newest few
// are verified, since callers pass on what brings no error, and skipped.
func (l *Ledger) AddCheckpoint(wire *proto.CertifiedCheckpoint, own ...Record) (bool, error) {
	s, err := proto.Inspect(wire.GetCheckpoint(), proto.KindCheckpoint)
	if err != nil {
		return false, fmt.Errorf("checkpoint: %w", err)
	}
	e := s.Payload.GetCheckpoint().GetEpoch()
	old := l.checkpoints[e]
	skip := e+checkpointsKept < l.base || old != nil && (old.changes != nil || len(wire.Changes) == 0)
	if skip && len(own) > 0 { // the caller's own certificate
		if err := l.store.Append(own...); err != nil {
			return false, fmt.Errorf("ledger: %w", err)
		}
		return false, nil
	}
	if old != nil && skip && old.equals(wire) {
		return false, nil
	}
	h, err := VerifyCheckpoint(l.net, wire)
	if err != nil {
		return false, err
	}
	if old != nil && old.hash != h.hash {
		return false, proto.CodeConflict.Errorf("checkpoint %d: %s is certified here, and %s too", e, old.ID, h.ID)
	}
	if skip {
		return false, nil
	}
	if h.changes == nil {
		if changes, ok := l.changesNamed(h.Body.ChangesHash); ok {
			if err := h.attach(changes); err != nil {
				return false, err
			}
		}
	}
	value, err := goproto.Marshal(h.Wire)
	if err != nil {
		return false, fmt.Errorf("ledger: checkpoint %d: %w", e, err)
	}
	batch := append(slices.Clone(own), Record{checkpointKey(e), value})
	var gone []uint64
	for x := range l.checkpoints {
		if x+checkpointsKept < l.base {
			gone = append(gone, x)
			batch = append(batch, Record{checkpointKey(x), nil})
		}
	}
	if err := l.store.Append(batch...); err != nil {
		return false, fmt.Errorf("ledger: %w", err)
	}
	for _, x := range gone {
		delete(l.checkpoints, x)
	}
	l.know(h)
	l.hash = proto.Hash{}
	for _, need := range []proto.Hash{epochNeed(e), h.hash} {
		if _, err := l.retry(need); err != nil {
			return true, err
		}
	}
	return true, nil
}

// equals reports whether nothing in wire is to be checked again.
func (h *CheckpointHeader) equals(wire *proto.CertifiedCheckpoint) bool {
	return bytes.Equal(h.Wire.Checkpoint, wire.Checkpoint) && sameCommits(h.Wire.Certificate, wire.Certificate) &&
		(len(wire.Changes) == 0 || bytes.Equal(h.Wire.Changes, wire.Changes))
}

// know makes a checkpoint and the figures that rules read of it part of the
// state.
func (l *Ledger) know(h *CheckpointHeader) {
	e := h.Body.Epoch
	l.checkpoints[e] = h
	l.s.figures[e] = figures{x: h.Body.X, minted: satAdd(h.Body.Minted, h.Body.Rewarded)}
	l.stood = nil
	if e >= l.base && l.s.light == "" {
		l.s.grant(h)
	}
	l.s.newest = max(l.s.newest, e)
}

func checkpointKey(epoch uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{spaceCheckpoint}, epoch)
}
