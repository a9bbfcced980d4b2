//go:build !js

package node

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
)

// kept outlives its node.
type kept struct{ *mem.Store }

func (kept) Close() error { return nil }

// The memo of a transfer reaches its receiver, whatever ledger that keeps, and
// stays over a restart. What a hold takes and gives back is no income.
func TestMemoReachesItsReceiver(t *testing.T) {
	f := newFresh(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	witness := f.start(0)
	for i, light := range []bool{false, true} {
		store := mem.New()
		open := func() *Node {
			n, err := New(Config{Network: f.net, Key: f.keys[1+i], Listen: []string{}, DHT: "off", Bootstrap: witness.Addrs(), Store: kept{store}, Light: light})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { n.Close() })
			if err := n.Up(ctx); err != nil {
				t.Fatal(err)
			}
			return n
		}
		check := func(n *Node) {
			t.Helper()
			for _, e := range n.History(n.self, 10) {
				if e.Memo() != "for the ☕" {
					continue
				}
				if e.Kind != "open" && e.Kind != "receive" || e.Counterparty != witness.self || len(e.Payments) != 1 || e.Payments[0].Kind != ledger.Sent {
					t.Errorf("%+v, %+v", e, e.Payments)
				}
				if by := e.Witnesses(); len(by) != 1 || by[0] != witness.self {
					t.Errorf("certified by %v", by)
				}
				return
			}
			t.Errorf("light %v: no event of the receiver tells the memo: %+v", light, n.History(n.self, 10))
		}
		n := open()
		if _, err := witness.Transfer(ctx, n.self, 3*proto.OneCredit, "for the ☕"); err != nil {
			t.Fatal(err)
		}
		until(t, "the transfer is claimed", func() bool { return n.Account(n.self).Avail == 3*proto.OneCredit })
		check(n)
		income, next := n.Income(0)
		if len(income) != 1 || income[ledger.Sent] != 3*proto.OneCredit {
			t.Errorf("income %v", income)
		}
		if _, err := n.wallet.certify(ctx, &proto.Hold{
			Job: make([]byte, 16), Budget: 300, DeadlineUnixMs: uint64(time.Now().Add(time.Hour).UnixMilli()),
			Lanes: []*proto.Lane{{Worker: []byte(witness.self), Cap: 100}},
		}); err != nil {
			t.Fatal(err)
		}
		if more, after := n.Income(next); len(more) != 0 || after != next+1 {
			t.Errorf("a hold is income: %v", more)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		check(open())
	}
	// The sender reads its own words, too.
	id, err := peer.IDFromPrivateKey(f.keys[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range witness.History(witness.self, 10) {
		if e.Counterparty == id && e.Memo() != "for the ☕" {
			t.Errorf("the sender reads %q", e.Memo())
		}
	}
}
