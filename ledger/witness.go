package ledger

import (
	"fmt"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// maxAbove bounds the bodies in a HeadReport.
const maxAbove = 8

// Head is the witness's answer to a HeadRequest, to be signed by it: the
// account's certified head, and the bodies that it has seen above the head and
// may have voted for, which the owner must finish before it signs another.
func (w *Witness) Head(account peer.ID, nonce []byte) (*proto.HeadReport, error) {
	if _, err := proto.ParsePeer([]byte(account)); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	if len(nonce) > 64 {
		return nil, proto.CodeTooLarge.Errorf("head: nonce of %d bytes, at most 64", len(nonce))
	}
	r := &proto.HeadReport{Account: []byte(account), Nonce: nonce}
	if a := w.l.s.accounts[account]; a != nil && a.head() != nil {
		r.Head = a.head().Wire
	}
	prefix := append([]byte{spaceVote, 'a'}, account...)
	err := w.store.Scan(prefix, func(key, body []byte) error {
		_, kind, _, err := splitKey(key)
		if err != nil || kind != 'b' || len(r.Above) == maxAbove {
			return err
		}
		// Only what the owner signed is for it to finish.
		if c, err := decode(w.net, body, false); err == nil && !madeByWitness(c.Event) {
			r.Above = append(r.Above, slices.Clone(body))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	return r, nil
}

// VerifyHead checks a marshalled Envelope of HeadReport: a witness signed it
// for this account and nonce, the head is certified, and the bodies are the
// account's own events above it. Head and Above are returned checked; head is
// nil when the account has no event.
func VerifyHead(net *proto.Network, raw []byte, account peer.ID, nonce []byte) (witness peer.ID, head *Certified, above [][]byte, err error) {
	s, err := proto.Unseal(net.ID, raw, proto.KindHeadReport)
	if err != nil {
		return "", nil, nil, fmt.Errorf("head report: %w", err)
	}
	if !net.IsWitness(s.Signer) {
		return "", nil, nil, proto.CodeNotWitness.Errorf("head report by %s, who is no witness", s.Signer)
	}
	r := s.Payload.GetHeadReport()
	if string(r.Account) != string(account) || string(r.Nonce) != string(nonce) {
		return "", nil, nil, proto.CodeMalformed.Errorf("head report answers another request")
	}
	next := uint64(0)
	if r.Head != nil {
		if head, err = Verify(net, r.Head); err != nil {
			return "", nil, nil, fmt.Errorf("head report: %w", err)
		}
		if head.Account != account {
			return "", nil, nil, proto.CodeMalformed.Errorf("head report: the head is another account's")
		}
		next = head.Seq + 1
	}
	if len(r.Above) > maxAbove {
		return "", nil, nil, proto.CodeTooLarge.Errorf("head report: %d bodies, at most %d", len(r.Above), maxAbove)
	}
	for _, b := range r.Above {
		c, err := decode(net, b, true)
		if err != nil {
			return "", nil, nil, fmt.Errorf("head report: %w", err)
		}
		if c.Account != account || c.Seq < next {
			return "", nil, nil, proto.CodeMalformed.Errorf("head report: a body is not above the head")
		}
	}
	return s.Signer, head, r.Above, nil
}
