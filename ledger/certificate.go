package ledger

import (
	"bytes"
	"fmt"
	"slices"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Certified is an event with its certificate, both checked.
type Certified struct {
	ID      cid.Cid
	Account peer.ID
	Signer  peer.ID // the account's key, its recovery key, or a witness
	Seq     uint64
	Event   *proto.Event          // not to be changed
	Wire    *proto.CertifiedEvent // as received; not to be changed

	hash proto.Hash
	post post
}

// Equals reports whether wire is what was checked, byte for byte. A witness may
// well certify an event by other commits; those are to be verified.
func (c *Certified) Equals(wire *proto.CertifiedEvent) bool {
	return bytes.Equal(c.Wire.Event, wire.GetEvent()) && sameCommits(c.Wire.Certificate, wire.GetCertificate())
}

func sameCommits(a, b *proto.Certificate) bool {
	return slices.EqualFunc(a.GetCommits(), b.GetCommits(), bytes.Equal)
}

// Verify checks everything about a certified event that needs no other event:
// sizes, the author's signature over the bytes as received, the shape of the
// body, and the certificate. It may be called concurrently. A failure is the
// sender's fault; errors carry a proto.Code.
func Verify(net *proto.Network, wire *proto.CertifiedEvent) (*Certified, error) {
	c, err := decode(net, wire.GetEvent(), true)
	if err != nil {
		return nil, err
	}
	if err := checkCertificate(net, AccountSlot(c.Account, c.Seq), c.ID, wire.GetCertificate()); err != nil {
		return nil, fmt.Errorf("event %s: %w", c.ID, err)
	}
	// A copy of what was checked: unknown fields around it would be stored and
	// passed on with the event.
	c.Wire = &proto.CertifiedEvent{Event: wire.Event, Certificate: &proto.Certificate{Commits: wire.Certificate.Commits}}
	return c, nil
}

// decode opens the envelope of an event. With check false the signature is
// taken as checked before.
func decode(net *proto.Network, raw []byte, check bool) (*Certified, error) {
	var s *proto.Signed
	var err error
	if check {
		s, err = openSigned(net.ID, raw, proto.KindEvent)
	} else {
		s, err = openUnchecked(raw, proto.KindEvent)
	}
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	ev := s.Payload.GetEvent()
	account, err := validate(ev)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", s.ID, err)
	}
	if hasUnknown(s.Payload) {
		return nil, proto.CodeInvalidEvent.Errorf("event %s: has fields that this version does not know", s.ID)
	}
	if s.Size > MaxAuthorEvent && !madeByWitness(ev) {
		return nil, proto.CodeTooLarge.Errorf("event %s: %d bytes, at most %d", s.ID, s.Size, MaxAuthorEvent)
	}
	if err := claimedSigner(net, account, ev, s.Signer); err != nil {
		return nil, fmt.Errorf("event %s: %w", s.ID, err)
	}
	hash, err := proto.CIDHash(s.ID)
	if err != nil {
		return nil, err
	}
	return &Certified{ID: s.ID, Account: account, Signer: s.Signer, Seq: ev.Seq, Event: ev, hash: hash, post: postOf(ev.Post)}, nil
}

// AccountSlot is the slot of a place in an account's chain.
func AccountSlot(account peer.ID, seq uint64) *proto.Slot {
	return &proto.Slot{Kind: &proto.Slot_Account{Account: &proto.AccountSlot{Account: []byte(account), Seq: seq}}}
}

func sameSlot(a, b *proto.Slot) bool {
	switch x := a.GetKind().(type) {
	case *proto.Slot_Account:
		y, ok := b.GetKind().(*proto.Slot_Account)
		return ok && x.Account != nil && y.Account != nil &&
			x.Account.Seq == y.Account.Seq && string(x.Account.Account) == string(y.Account.Account)
	case *proto.Slot_CheckpointEpoch:
		y, ok := b.GetKind().(*proto.Slot_CheckpointEpoch)
		return ok && x.CheckpointEpoch == y.CheckpointEpoch
	}
	return false
}

// vote opens one signed Prepare or Commit of a genesis witness.
func vote(net *proto.Network, kind proto.Kind, raw []byte) (by peer.ID, slot *proto.Slot, round uint32, id []byte, err error) {
	s, err := openSigned(net.ID, raw, kind)
	if err != nil {
		return "", nil, 0, nil, err
	}
	if !net.IsWitness(s.Signer) && !disabled.witnesses {
		return "", nil, 0, nil, proto.CodeNotWitness.Errorf("%s by %s, who is no witness", kind, s.Signer)
	}
	if p := s.Payload.GetPrepare(); p != nil {
		return s.Signer, p.Slot, p.Round, p.Id, nil
	}
	c := s.Payload.GetCommit()
	return s.Signer, c.GetSlot(), c.GetRound(), c.GetId(), nil
}

// checkCertificate wants q commits of distinct witnesses for one slot, round
// and id, and nothing else beside them.
func checkCertificate(net *proto.Network, slot *proto.Slot, id cid.Cid, cert *proto.Certificate) error {
	commits := cert.GetCommits()
	if len(commits) < net.Quorum() || len(commits) > len(net.Witnesses) {
		return proto.CodeInvalidEvent.Errorf("certificate of %d commits, want %d to %d", len(commits), net.Quorum(), len(net.Witnesses))
	}
	seen := make(map[peer.ID]bool, len(commits))
	var first uint32
	for i, raw := range commits {
		by, s, round, voted, err := vote(net, proto.KindCommit, raw)
		if err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		if i == 0 {
			first = round
		}
		switch {
		case seen[by]:
			return proto.CodeInvalidEvent.Errorf("certificate: two commits by %s", by)
		case round != first:
			return proto.CodeInvalidEvent.Errorf("certificate: rounds %d and %d", first, round)
		case !sameSlot(s, slot):
			return proto.CodeInvalidEvent.Errorf("certificate: a commit is for another slot")
		case string(voted) != string(id.Bytes()):
			return proto.CodeInvalidEvent.Errorf("certificate: a commit is for another event")
		}
		seen[by] = true
	}
	return nil
}

// Certify makes a certificate from any set of marshalled Commit envelopes:
// those that are not valid commits of witnesses for slot and id are ignored.
// It reports false until one round has a quorum; the lowest such round wins.
func Certify(net *proto.Network, slot *proto.Slot, id cid.Cid, commits [][]byte) (*proto.Certificate, bool) {
	_, votes, ok := quorum(net, proto.KindCommit, slot, id, commits)
	return &proto.Certificate{Commits: votes}, ok
}

// PreparedQuorum makes a PQC, the proof that q witnesses prepared id in one
// round, from any set of marshalled Prepare envelopes.
func PreparedQuorum(net *proto.Network, slot *proto.Slot, id cid.Cid, prepares [][]byte) (round uint32, pqc [][]byte, ok bool) {
	return quorum(net, proto.KindPrepare, slot, id, prepares)
}

func quorum(net *proto.Network, kind proto.Kind, slot *proto.Slot, id cid.Cid, votes [][]byte) (uint32, [][]byte, bool) {
	rounds := map[uint32]map[peer.ID][]byte{}
	for _, raw := range votes {
		by, s, round, voted, err := vote(net, kind, raw)
		if err != nil || !sameSlot(s, slot) || string(voted) != string(id.Bytes()) {
			continue
		}
		if rounds[round] == nil {
			rounds[round] = map[peer.ID][]byte{}
		}
		rounds[round][by] = raw
	}
	best, found := uint32(0), false
	for r, by := range rounds {
		if len(by) >= net.Quorum() && (!found || r < best) {
			best, found = r, true
		}
	}
	if !found {
		return 0, nil, false
	}
	out := make([][]byte, 0, net.Quorum())
	for _, w := range net.Witnesses { // genesis order, so that equal votes give equal bytes
		if raw, ok := rounds[best][w]; ok && len(out) < net.Quorum() {
			out = append(out, raw)
		}
	}
	return best, out, true
}
