package node

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// The /proof stream: one ProofRequest, one ProofReply, for light clients. What
// a reply says is proven by the certificate of its checkpoint; see
// ledger.VerifyCheckpoint and ledger.VerifyAccount. A live reply is a witness's
// word; see ledger.Report and ledger.OpenLight.

const (
	maxProofs    = 16 // served at once, beside witnesses
	maxProofsOf  = 4  // of these to one peer
	proofTimeout = 30 * time.Second
	proofWait    = 8 * time.Second // for a place: the turns of others are shorter
	proofTurn    = 3 * time.Second // before the least rate counts
	maxProof     = proto.MaxSyncFrame + 1024
	// maxProofRequest holds a live request with as many lanes as it may name.
	maxProofRequest = 16 << 10
)

func (n *Node) serveProof(s network.Stream) {
	if err := n.answerProof(s); err != nil {
		s.Reset()
		return
	}
	s.Close()
}

func (n *Node) answerProof(s network.Stream) error {
	s.SetDeadline(time.Now().Add(proofTimeout))
	var q proto.ProofRequest
	if err := frames(s, maxProofRequest).Read(&q); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(n.ctx, proofWait) // only now: a stream without a question must not keep others waiting
	place, ok := n.proving.take(wait, s.Conn().RemotePeer(), siteOf(s.Conn()), nil)
	cancel()
	if !ok {
		if n.ctx.Err() != nil {
			return ErrClosed
		}
		return proto.WriteFrame(s, &proto.ProofReply{Code: uint32(proto.CodeBusy)}, maxProof)
	}
	defer n.proving.leave(place)
	defer context.AfterFunc(place, func() { s.Reset() })() // its turn is over
	var reply bytes.Buffer
	if err := proto.WriteFrame(&reply, n.prove(&q), maxProof); err != nil {
		return err
	}
	return n.proving.send(s, reply.Bytes(), proofTimeout)
}

func (n *Node) prove(q *proto.ProofRequest) *proto.ProofReply {
	account, err := proto.ParsePeer(q.GetAccount())
	var r *proto.ProofReply
	if err == nil {
		n.wallet.mu.Lock()
		switch {
		case q.Live:
			r, err = n.wallet.l.Report(q)
		case q.Reputation:
			r, err = n.wallet.l.ProveReputation(account)
		default:
			r, err = n.wallet.l.Prove(account)
		}
		n.wallet.mu.Unlock()
	}
	if err != nil {
		return &proto.ProofReply{Code: uint32(proto.CodeOf(err))}
	}
	return r
}

// AskProof asks a peer for what its base checkpoint proves about an account.
// The reply is not checked: see ledger.VerifyCheckpoint, ledger.VerifyAccount,
// ledger.VerifyReputation and ledger.VerifyReceivable. CodeNotFound says that the peer has no
// checkpoint yet.
func (n *Node) AskProof(ctx context.Context, from, account peer.ID) (*proto.ProofReply, error) {
	if err := n.isReady(); err != nil {
		return nil, err
	}
	return n.askProof(ctx, from, &proto.ProofRequest{Account: []byte(account)})
}

func (n *Node) askProof(ctx context.Context, from peer.ID, q *proto.ProofRequest) (*proto.ProofReply, error) {
	account := peer.ID(q.Account)
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	s, err := n.stream(ctx, from, "proof")
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	if err := proto.WriteFrame(s, q, maxProofRequest); err != nil {
		return nil, fmt.Errorf("proof of %s: %w", account, err)
	}
	r := new(proto.ProofReply)
	if err := frames(s, maxProof).Read(r); err != nil {
		return nil, fmt.Errorf("proof of %s: %w", account, err)
	}
	if r.Code != 0 {
		return nil, proto.Code(r.Code).Errorf("proof of %s: the peer answers %s", account, proto.Code(r.Code))
	}
	return r, nil
}
