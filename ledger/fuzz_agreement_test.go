package ledger_test

import (
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Frames from the network: a witness of four refuses, asks or answers; it
// never panics and never votes for what it was not shown validly.
func FuzzVoteFrame(f *testing.F) {
	x := newArena(f, 4, func(by peer.ID, n *proto.Network, p *proto.Payload) []byte {
		for _, name := range []string{"alice", "bob", "witness 0", "witness 1", "witness 2", "witness 3"} {
			if who := someone(name); who.id == by {
				raw, err := proto.Seal(who.key, n.ID, p)
				if err != nil {
					f.Fatal(err)
				}
				return raw
			}
		}
		panic("no such key")
	}, true)
	add := func(frame *proto.VoteFrame) {
		raw, err := goproto.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, false)
		f.Add(raw, true)
	}
	for _, m := range x.frames() {
		add(m)
	}
	lie := x.work(bob, 1, 0)
	add(&proto.VoteFrame{Body: &proto.VoteFrame_Accused{Accused: lie}})
	add(&proto.VoteFrame{Body: &proto.VoteFrame_WrongWorks{WrongWorks: x.says(1, x.witnesses[1], found(lie)...)}})
	f.Fuzz(func(t *testing.T, raw []byte, after bool) {
		frame := new(proto.VoteFrame)
		if len(raw) > proto.MaxVoteFrame || goproto.Unmarshal(raw, frame) != nil {
			return
		}
		w := x.at(t)
		disk := x.base.Clone()
		l := w.open(disk)
		votes := 0
		wit, err := ledger.NewWitness(w.net, w.witnesses[0].id, l, disk, ledger.WitnessConfig{Reexecute: true, Sign: func(p *proto.Payload) ([]byte, error) {
			if p.GetPrepare() != nil || p.GetCommit() != nil {
				votes++
			}
			if ok, err := ledger.Durable(disk, p); !ok || err != nil {
				t.Fatalf("asked to sign what is not durable: %v, %v", p, err)
			}
			return proto.Seal(w.witnesses[0].key, w.net.ID, p)
		}})
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		if after { // a round is under way
			if _, err := wit.Handle(clock, alice.id, x.propose(x.a)); err != nil {
				t.Fatal(err)
			}
			want = 1
		}
		if frame.GetPropose() != nil {
			want++ // the seeds hold good ones
		}
		for range 2 {
			if _, err := wit.Handle(clock, bob.id, frame); err != nil {
				t.Fatal(err)
			}
			if next := wit.Next(); !next.IsZero() {
				if _, err := wit.Tick(next); err != nil {
					t.Fatal(err)
				}
			}
		}
		if votes > want {
			t.Fatalf("%d votes, want at most %d", votes, want)
		}
	})
}

// frames are one of each kind, all of them good.
func (x *arena) frames() []*proto.VoteFrame {
	w := x.witnesses
	sealed := func(by person, p *proto.Payload) []byte { return x.seal(by.id, x.net, p) }
	var prepares [][]byte
	for _, p := range w[1:4] {
		prepares = append(prepares, sealed(p, &proto.Payload{Body: &proto.Payload_Prepare{Prepare: &proto.Prepare{Slot: x.slot, Id: []byte(x.ids[0])}}}))
	}
	report := func(p person, r *proto.Report) []byte {
		return sealed(p, &proto.Payload{Body: &proto.Payload_Report{Report: r}})
	}
	evidence, err := ledger.NewEvidence(x.net, x.a, x.b)
	if err != nil {
		x.tb.Fatal(err)
	}
	e := new(proto.Evidence)
	if err := goproto.Unmarshal(evidence, e); err != nil {
		x.tb.Fatal(err)
	}
	proof := sealed(w[2], &proto.Payload{Body: &proto.Payload_Evidence{Evidence: e}})
	locked := report(w[1], &proto.Report{Slot: x.slot, Round: 1, LockId: []byte(x.ids[0]), LockPqc: prepares, Body: x.a})
	free := report(w[2], &proto.Report{Slot: x.slot, Round: 1, Body: x.a, Objections: [][]byte{x.skip, proof, x.list(w[2].id, 20*credit)}})
	third := report(w[3], &proto.Report{Slot: x.slot, Round: 1})
	leader := ledger.Leader(x.net, x.slot, 1)
	propose := x.seal(leader, x.net, &proto.Payload{Body: &proto.Payload_Propose{Propose: &proto.Propose{
		Slot: x.slot, Round: 1, Body: x.a, Justification: [][]byte{locked, free, third},
	}}})
	commit := sealed(w[1], &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{Slot: x.slot, Id: []byte(x.ids[0])}}})
	return []*proto.VoteFrame{
		x.propose(x.a), x.propose(x.b),
		{Body: &proto.VoteFrame_Propose{Propose: propose}},
		{Body: &proto.VoteFrame_Prepare{Prepare: prepares[0]}},
		{Body: &proto.VoteFrame_Commit{Commit: commit}},
		{Body: &proto.VoteFrame_Report{Report: locked}},
		{Body: &proto.VoteFrame_Report{Report: free}},
		{Body: &proto.VoteFrame_Skip{Skip: x.skip}},
		{Body: &proto.VoteFrame_Evidence{Evidence: proof}},
		{Body: &proto.VoteFrame_WorkClaim{WorkClaim: x.claim}},
		{Body: &proto.VoteFrame_ClaimReply{ClaimReply: &proto.ClaimReply{Claim: []byte(x.ids[0]), Amount: 1}}},
		{Body: &proto.VoteFrame_HeadRequest{HeadRequest: &proto.HeadRequest{Account: []byte(alice.id), Nonce: []byte("nonce")}}},
		{Body: &proto.VoteFrame_Error{Error: &proto.VoteError{Code: uint32(proto.CodeMissing), Missing: [][]byte{[]byte(x.ids[0])}, Slot: x.slot}}},
	}
}
