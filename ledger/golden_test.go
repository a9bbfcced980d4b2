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
		{"state", l.StateHash().String(), "410ba566aa33e1021490193570611609de3781a625ad5c333a619e39b5111696"},
		{"empty state", w.ledger().StateHash().String(), "455191106328238876ae3e034bf8cf6a486163d1c4408797cbf240ea0b75d648"},
		{"hold id", hold.ID.String(), "bafkreifws2oxp5e5reqotvhplgw3fr3hf6hrelzgi5b3z6v5vi4lspdfhq"},
	} {
		if g.got != g.want {
			t.Errorf("%s is %s, want %s", g.what, g.got, g.want)
		}
	}
}
