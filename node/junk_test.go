//go:build !js

package node_test

import (
	"context"
	"slices"
	"testing"
	"time"

	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// What a node knows passes gossip only with what certifies it: who lacks it
// would punish whoever passes on junk, and the one whose turn it is to publish
// the real one must not think that it passed. A good copy passes after that.
func TestJunkCertificateOfAKnownElement(t *testing.T) {
	l := newLabOf(t, 5, 4, func(g *proto.Genesis) { g.EpochSeconds = 2 })
	st := keep{mem.New()}
	const last = 3
	for i := range 4 {
		l.start(i, func(c *node.Config) {
			if c.KeepEpochs = 2; i == last {
				c.Store = st
			}
		})
	}
	payer := l.start(4, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var reply *proto.ProofReply
	l.until("there is a checkpoint", func() (ok bool) {
		var err error
		reply, err = payer.AskProof(ctx, l.nodes[last].ID(), payer.ID())
		return err == nil
	})
	if _, err := payer.Transfer(ctx, l.nodes[0].ID(), proto.OneCredit, ""); err != nil {
		t.Fatal(err)
	}
	event := at(t, payer, 1).Wire
	has := func(n *node.Node) bool {
		return slices.ContainsFunc(n.History(payer.ID(), 100), func(e node.HistoryEntry) bool { return e.Seq == 1 })
	}
	l.until("the last witness has the event", func() bool { return has(l.nodes[last]) })
	header, err := ledger.VerifyCheckpoint(l.net, reply.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		l.stops[i]()
		l.nodes[i] = nil
	}
	knows := l.start(last, func(c *node.Config) { c.Store, c.Bootstrap = st, nil }) // and did not see it pass
	if !has(knows) {
		t.Fatal("the event is pruned")
	}
	lacks := l.start(4, func(c *node.Config) { c.Bootstrap = nil })
	hear := func(n *node.Node, e *proto.CertifiedEvent, c *proto.CertifiedCheckpoint) (bool, error) {
		m := new(proto.CertifiedEvents)
		if e != nil {
			m.Events = []*proto.CertifiedEvent{e}
		}
		if c != nil {
			m.Checkpoints = []*proto.CertifiedCheckpoint{c}
		}
		raw, err := goproto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return n.HearCredits(raw)
	}
	junk := &proto.Certificate{Commits: [][]byte{[]byte("junk")}}
	signed := slices.Clone(event.Event) // the id does not cover the signature
	s, err := proto.Inspect(signed, proto.KindEvent)
	if err != nil {
		t.Fatal(err)
	}
	env := new(proto.Envelope)
	if err := goproto.Unmarshal(signed, env); err != nil {
		t.Fatal(err)
	}
	env.Signature[0] ^= 1
	if signed, err = goproto.Marshal(env); err != nil {
		t.Fatal(err)
	}
	if x, err := proto.Inspect(signed, proto.KindEvent); err != nil || x.ID != s.ID {
		t.Fatalf("the event with another signature is %v, %v", x, err)
	}
	known := reply.Checkpoint
	swapped := slices.Clone(event.Certificate.Commits)
	slices.Reverse(swapped)
	for _, tt := range []struct {
		name  string
		e     *proto.CertifiedEvent
		c     *proto.CertifiedCheckpoint
		fresh bool
	}{
		{"event without certificate", &proto.CertifiedEvent{Event: event.Event}, nil, false},
		{"event with junk", &proto.CertifiedEvent{Event: event.Event, Certificate: junk}, nil, false},
		{"event with a bad signature", &proto.CertifiedEvent{Event: signed, Certificate: event.Certificate}, nil, false},
		{"checkpoint with junk", nil, &proto.CertifiedCheckpoint{Checkpoint: known.Checkpoint, Certificate: junk, Changes: known.Changes}, false},
		{"checkpoint with other changes", nil, &proto.CertifiedCheckpoint{Checkpoint: known.Checkpoint, Certificate: known.Certificate, Changes: []byte("junk")}, false},
		{"good event", &proto.CertifiedEvent{Event: event.Event, Certificate: &proto.Certificate{Commits: swapped}}, nil, true},
		{"good checkpoint", nil, &proto.CertifiedCheckpoint{Checkpoint: known.Checkpoint, Certificate: known.Certificate}, true},
	} {
		for who, n := range map[string]*node.Node{"knows it": knows, "lacks it": lacks} {
			if fresh, err := hear(n, tt.e, tt.c); fresh != tt.fresh || (err == nil) != tt.fresh {
				t.Errorf("%s: who %s passes it on: %v, %v (checkpoint %d)", tt.name, who, fresh, err, header.Body.Epoch)
			}
		}
	}
}
