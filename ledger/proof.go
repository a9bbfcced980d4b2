package ledger

import (
	"bytes"
	"fmt"
	"sort"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Proofs for light clients. A tab keeps the genesis, the newest checkpoint's
// header and its own chain. It trusts a quorum of witnesses that the header is
// right, and nobody for what a proof says: the account's state at the
// frontier, and what it could claim there.

// proofs are the trees of the base's state, made when the first proof is
// asked for.
type proofs struct {
	leaves []leaf
	trees  map[byte]merkle
}

// ProvenAccount is an account's state at a checkpoint's frontier.
type ProvenAccount struct {
	ID    peer.ID
	Epoch uint64     // of the checkpoint
	Seq   uint64     // of its last event at or below the frontier
	Head  *Certified // that event
	State Account    // Receivable is not part of it: see VerifyReceivable
}

// proveBase begins a reply: the base checkpoint's header. It makes the trees.
func (l *Ledger) proveBase() (*proto.ProofReply, error) {
	h := l.checkpoints[l.base]
	if h == nil {
		return nil, proto.CodeNotFound.Errorf("prove: there is no checkpoint yet")
	}
	if l.proofs == nil {
		leaves, err := l.storedLeaves()
		if err != nil {
			return nil, err
		}
		l.proofs = &proofs{leaves, map[byte]merkle{}}
		for _, tree := range trees {
			l.proofs.trees[tree] = newMerkle(tree, ofTree(leaves, tree))
		}
	}
	return &proto.ProofReply{Checkpoint: &proto.CertifiedCheckpoint{Checkpoint: h.Wire.Checkpoint, Certificate: h.Wire.Certificate}}, nil
}

// proveWork adds the account's register, if there is one and a frame has room:
// the receipts that were held against a worker are part of the leaf.
func (l *Ledger) proveWork(out *proto.ProofReply, account peer.ID) error {
	p, err := l.proofs.of(treeReputation, accountKey(account))
	if proto.CodeOf(err) == proto.CodeNotFound {
		return nil
	}
	if err == nil && goproto.Size(out)+goproto.Size(p)+8 <= proto.MaxSyncFrame {
		out.Reputation = p
	}
	return err
}

// proveState adds the account's state, if it is below the frontier and a frame
// has room.
func (l *Ledger) proveState(out *proto.ProofReply, account peer.ID) error {
	a := l.s.accounts[account]
	if a == nil || a.kept == 0 {
		return nil
	}
	p, err := l.proofs.of(treeAccounts, accountKey(account))
	if err != nil {
		return err
	}
	p.Leaf.Events = []*proto.CertifiedEvent{a.chain[a.kept-1].Wire}
	if goproto.Size(out)+goproto.Size(p)+8 <= proto.MaxSyncFrame {
		out.Account = p
	}
	return nil
}

// ProveReputation answers a ProofRequest for an account's reputation from the
// base checkpoint: its header and, with their paths, the register, which is unset
// for an account without work, and the account's state, which tells its stake.
// CodeNotFound means that no checkpoint is the base yet.
func (l *Ledger) ProveReputation(account peer.ID) (*proto.ProofReply, error) {
	out, err := l.proveBase()
	if err == nil {
		err = l.proveWork(out, account)
	}
	if err == nil {
		err = l.proveState(out, account)
	}
	return out, err
}

// Prove answers a ProofRequest from the base checkpoint: its header, the
// account's state, its reputation and what it can claim, with their paths, and
// the account's events above the frontier as far as a frame of
// proto.MaxSyncFrame has room; receivables come before events. CodeNotFound
// means that no checkpoint is the base yet.
func (l *Ledger) Prove(account peer.ID) (*proto.ProofReply, error) {
	out, err := l.proveBase()
	if err != nil {
		return nil, err
	}
	if err := l.proveState(out, account); err != nil {
		return nil, err
	}
	if err := l.proveWork(out, account); err != nil {
		return nil, err
	}
	size := goproto.Size(out)
	room := func(m goproto.Message) bool {
		size += goproto.Size(m) + 8
		return size <= syncFill
	}
	for _, r := range l.Receivables(account) {
		at, err := pointOf(r.Source)
		if err != nil {
			return nil, err
		}
		p, err := l.proofs.of(treeUnclaimed, l.s.points[at].leaf(at).key)
		if proto.CodeOf(err) == proto.CodeNotFound { // paid above the frontier
			continue
		}
		if err != nil {
			return nil, err
		}
		if !room(p) {
			return out, nil
		}
		out.Unclaimed = append(out.Unclaimed, p)
	}
	if a := l.s.accounts[account]; a != nil {
		for _, c := range a.chain[a.kept:] {
			if !room(c.Wire) {
				break
			}
			out.Events = append(out.Events, c.Wire)
		}
	}
	return out, nil
}

func (p *proofs) of(tree byte, key []byte) (*proto.StateProof, error) {
	part := ofTree(p.leaves, tree)
	i := sort.Search(len(part), func(i int) bool { return bytes.Compare(part[i].key, key) >= 0 })
	if i == len(part) || !bytes.Equal(part[i].key, key) {
		return nil, proto.CodeNotFound.Errorf("prove: the checkpoint has no such record")
	}
	return &proto.StateProof{
		Leaf:  &proto.StateLeaf{Tree: uint32(tree), Key: part[i].key, Value: part[i].value},
		Index: uint64(i), Path: p.trees[tree].path(i),
	}, nil
}

// provenLeaf checks a proof's path against the header.
func provenLeaf(h *CheckpointHeader, p *proto.StateProof, tree byte) (leaf, error) {
	x := leaf{tree, p.GetLeaf().GetKey(), p.GetLeaf().GetValue()}
	want, count := rootField(h.Body, tree)
	root, err := provenRoot(x, p.GetIndex(), *count, p.GetPath())
	if err != nil {
		return x, fmt.Errorf("proof: %w", err)
	}
	if p.GetLeaf().GetTree() != uint32(tree) || !bytes.Equal(root[:], *want) {
		return x, proto.CodeMalformed.Errorf("proof: not a record of checkpoint %d", h.Body.Epoch)
	}
	return x, nil
}

// VerifyAccount checks that the state of an account at the frontier of a
// checkpoint (see VerifyCheckpoint) is what the proof says. It needs no
// ledger. Newer events of the account, each verified on its own, tell what
// happened since: their post state is proven by their certificate. How old the
// checkpoint is, only a head report of a quorum with a fresh nonce tells.
func VerifyAccount(net *proto.Network, h *CheckpointHeader, p *proto.StateProof) (ProvenAccount, error) {
	x, err := provenLeaf(h, p, treeAccounts)
	if err != nil {
		return ProvenAccount{}, err
	}
	v, err := x.account()
	if err != nil {
		return ProvenAccount{}, err
	}
	if len(p.Leaf.Events) != 1 {
		return ProvenAccount{}, proto.CodeMalformed.Errorf("proof: %d events beside an account", len(p.Leaf.Events))
	}
	head, err := Verify(net, p.Leaf.Events[0])
	if err != nil {
		return ProvenAccount{}, fmt.Errorf("proof: %w", err)
	}
	if head.hash != v.head || head.Account != v.id || head.Seq != v.seq || head.post != v.post {
		return ProvenAccount{}, proto.CodeMalformed.Errorf("proof: the event is not the account's head")
	}
	out := ProvenAccount{ID: v.id, Epoch: h.Body.Epoch, Seq: v.seq, Head: head}
	out.State = Account{
		Seq: v.seq, Head: head.ID, Opened: v.post.flags&flagUnopened == 0, Avail: proto.Credit(v.post.avail), Held: proto.Credit(v.post.held),
		Staked: proto.Credit(v.post.staked), Unbonding: proto.Credit(v.post.unbonding), Epoch: v.epoch, Frozen: v.post.frozen(),
		Key: v.post.signer(v.id), PendingKey: peer.ID(v.post.pendingKey), PendingFrom: v.post.pendingEpoch,
		Recovery: peer.ID(v.post.recoveryKey), Offences: len(v.post.slashed) / 8,
	}
	return out, nil
}

// VerifyReceivable checks that a payment was unclaimed at a checkpoint's
// frontier, and whose it is. It may have been claimed since.
func VerifyReceivable(h *CheckpointHeader, p *proto.StateProof) (to peer.ID, r Receivable, err error) {
	x, err := provenLeaf(h, p, treeUnclaimed)
	if err != nil {
		return "", Receivable{}, err
	}
	at, v, err := x.receivable()
	if err != nil {
		return "", Receivable{}, err
	}
	return v.to, Receivable{
		Source: &proto.Source{Event: at.source.CID().Bytes(), Index: at.index, Amount: v.amount},
		From:   v.from, Amount: proto.Credit(v.amount),
	}, nil
}

// VerifyReputation checks that a checkpoint has a register, and whose it is. Its
// version is not the checkpoint's epoch but the one of its last change, so
// registers from proofs of any two checkpoints merge to the newer one, and equal
// ones are equal. Read it with At: it is as old as its version.
func VerifyReputation(h *CheckpointHeader, p *proto.StateProof) (id peer.ID, r Reputation, err error) {
	x, err := provenLeaf(h, p, treeReputation)
	if err != nil {
		return "", Reputation{}, err
	}
	id, st, err := x.standing()
	if err != nil {
		return "", Reputation{}, err
	}
	return id, st.rep, nil
}
