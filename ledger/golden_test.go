package ledger_test

import (
	"testing"

	"edgenet.dev/proto"
)

// The layout of StateHash is part of the protocol: nodes compare it. A change
// here is a change of every network's state.
func TestStateHashGolden(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit, "bob": 7})
	l := w.ledger()
	w.do(l, alice, &proto.Open{RecoveryKey: []byte(dave.id)})
	w.do(l, alice, transfer(bob, 3*credit))
	w.receive(l, bob)
	w.do(l, bob, transfer(carol, credit))
	hold := w.do(l, alice, &proto.Hold{Job: job(1), Budget: 20 * credit, DeadlineUnixMs: 1_700_000_600_000, Lanes: []*proto.Lane{
		{Worker: []byte(bob.id), Cap: 5 * credit}, {Worker: []byte(carol.id), Payee: []byte(dave.id), Cap: 6 * credit},
	}})
	w.do(l, alice, &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{
		{Lane: 0, Amount: 2 * credit, Fuel: 1000, Done: w.done(bob, hold.ID, 0, 2*credit)}, {Lane: 1, Amount: 1234567, Fuel: 99},
	}})
	for _, g := range []struct{ what, got, want string }{
		{"network", w.net.ID.String(), "bafkreiag3b323vokx37kfiujvmpe6aeqnanyxt2fl6yxzkdxhvgxvy42ea"},
		{"state", l.StateHash().String(), "a13192086ea184ae5fd6afd84964b44fea68a6b010f4cbcfc23c4e274dca9abd"},
		{"empty state", w.ledger().StateHash().String(), "bdda973734309aa8a61ecc0a3ca3637d4b6345bd1f2ee8a803f36dcb421331fd"},
		{"hold id", hold.ID.String(), "bafkreifws2oxp5e5reqotvhplgw3fr3hf6hrelzgi5b3z6v5vi4lspdfhq"},
	} {
		if g.got != g.want {
			t.Errorf("%s is %s, want %s", g.what, g.got, g.want)
		}
	}
}
