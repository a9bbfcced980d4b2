package ledger_test

import (
	"fmt"
	"strings"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// person is someone whose key the scenario can find by id.
func (s *scenario) person(name string) person {
	p := someone(name)
	s.names[p.id] = p
	return p
}

// deadline is a minute away; nothing reads it with one witness.
func (s *scenario) deadline() uint64 {
	if s.crowd == nil {
		return 1
	}
	return uint64(s.crowd.now.Add(time.Minute).UnixMilli())
}

// sign drafts an account's next event and signs it with the right key.
func (s *scenario) sign(name string, body any) ([]byte, error) {
	account := s.person(name).id
	ev, err := s.l.Draft(account, s.l.Epoch(), 0, body)
	if err != nil {
		return nil, err
	}
	key := s.l.Signer(account, s.l.Epoch())
	if r, ok := body.(*proto.Rotate); ok && r.Recovery {
		key = s.l.Account(account).Recovery
	}
	return s.w.event(s.names[key], ev), nil
}

// certify makes a signed event effective: the one witness certifies whatever is
// there, several agree on it.
func (s *scenario) certify(raw []byte) (*ledger.Certified, error) {
	if s.crowd == nil {
		added, err := s.l.Add(s.w.certify(raw))
		if err != nil {
			return nil, err
		}
		if len(added) != 1 {
			return nil, fmt.Errorf("%d added", len(added))
		}
		return added[0], nil
	}
	e, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		return nil, err
	}
	ev := e.Payload.GetEvent()
	f := s.proposal(raw)
	for i := range s.crowd.machines {
		s.crowd.hand(i, e.Signer, f)
	}
	c, err := s.decide(peer.ID(ev.Account), ev.Seq)
	if err == nil && !c.ID.Equals(e.ID) {
		err = fmt.Errorf("the place went to another event")
	}
	return c, err
}

func (s *scenario) proposal(raw []byte) *proto.VoteFrame {
	e, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		panic(err)
	}
	return &proto.VoteFrame{Body: &proto.VoteFrame_Propose{
		Propose: s.w.propose(s.names[e.Signer], raw, s.l.Attachments(e.Payload.GetEvent())...),
	}}
}

// decide lets time go by, a minute at most, until the present witnesses agree
// on a place, and brings what they certified here.
func (s *scenario) decide(account peer.ID, seq uint64) (*ledger.Certified, error) {
	c := s.crowd
	for range 60 {
		decided := 0
		for i, l := range c.ledgers {
			if _, ok := l.At(account, seq); ok && !c.away[i] {
				decided++
			}
		}
		if decided == len(c.ledgers)-len(c.away) {
			session(s.tb, s.l, c.ledgers[c.present()])
			if x, ok := s.l.At(account, seq); ok {
				return x, nil
			}
			return nil, fmt.Errorf("the certified event does not arrive")
		}
		c.later(time.Second)
	}
	return nil, fmt.Errorf("no decision in a minute")
}

// act takes the steps that are no event of one account's owner.
func (s *scenario) act(words []string) (done bool, err error) {
	c := s.crowd
	switch words[0] {
	case "away":
		c.away[int(number(words[1]))] = true
	case "back":
		i := int(number(words[1]))
		session(s.tb, c.ledgers[i], c.ledgers[c.present()])
		delete(c.away, i)
	case "twice":
		var frames []*proto.VoteFrame
		account := s.person(words[1])
		seq := s.l.Account(account.id).Seq + 1
		for _, x := range words[2:4] {
			to, n, _ := strings.Cut(x, ":")
			raw, err := s.sign(words[1], transfer(someone(to), number(n)))
			if err != nil {
				return true, err
			}
			frames = append(frames, s.proposal(raw))
		}
		for i := range c.machines {
			c.hand(i, account.id, frames[i%2])
		}
		_, err = s.decide(account.id, seq)
		for i := range c.machines { // whoever has seen one sees the other
			c.hand(i, account.id, frames[1-i%2])
		}
	case "skip":
		account := s.person(words[1])
		seq := s.l.Account(account.id).Seq + 1
		raw := s.w.seal(s.names[s.l.Signer(account.id, s.l.Epoch())], &proto.Payload{Body: &proto.Payload_Skip{
			Skip: &proto.Skip{Account: []byte(account.id), Seq: seq},
		}})
		for i := range c.machines {
			c.hand(i, account.id, &proto.VoteFrame{Body: &proto.VoteFrame_Skip{Skip: raw}})
		}
		_, err = s.decide(account.id, seq)
	case "claim":
		name, n, _ := strings.Cut(words[2], ":")
		h, _ := s.l.Hold(s.holds[words[1]])
		worker := someone(name)
		lane, _, _ := h.Lane(worker.id)
		voucher := s.w.seal(someone(s.of[words[1]]), &proto.Payload{Body: &proto.Payload_Voucher{Voucher: &proto.Voucher{
			Hold: h.ID.Bytes(), Lane: lane, Worker: []byte(worker.id), Amount: number(n), Fuel: number(n),
		}}})
		raw := s.w.seal(worker, &proto.Payload{Body: &proto.Payload_WorkClaim{WorkClaim: &proto.WorkClaim{Hold: h.ID.Bytes(), Lane: lane, Voucher: voucher}}})
		for i := range c.machines {
			c.hand(i, worker.id, &proto.VoteFrame{Body: &proto.VoteFrame_WorkClaim{WorkClaim: raw}})
		}
		for _, f := range c.told[worker.id] {
			if r := f.GetClaimReply(); r.GetCode() != 0 {
				err = proto.Code(r.Code).Errorf("%s", r.Reason)
			}
		}
		clear(c.told)
	case "over":
		h, _ := s.l.Hold(s.holds[words[1]])
		payer := s.l.Account(h.Payer)
		c.later(time.UnixMilli(int64(h.DeadlineUnixMs)).Add(time.Duration(s.w.net.Genesis.GraceSeconds+1) * time.Second).Sub(c.now))
		_, err = s.decide(h.Payer, payer.Seq+1)
	case "checkpoint":
		s.w.checkpoint(s.l)
		s.w.prune(s.l, 0)
	default:
		return false, nil
	}
	if err == nil && !s.l.Audit().Conserved() {
		err = fmt.Errorf("audit %+v", s.l.Audit())
	}
	return true, err
}
