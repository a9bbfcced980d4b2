package market

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Guests that run into their time limit cost their submitter nothing. A worker
// remembers that and gives most of its time to those whose work paid; it says so.
func TestUnpaidTimeIsRemembered(t *testing.T) {
	for _, off := range []bool{false, true} {
		b := newBench(t, Worker{Enabled: true, Slots: 1, InFlight: 4000, Types: []string{"text"}, Custom: true})
		b.m.off.worth = off
		pays, wastes := simPeer(1), simPeer(2)
		wasteful := func(a *proto.Assignment) { a.Module = proto.CIDOf([]byte("never ends")).Bytes() }
		for range 20 {
			b.assign(pays, 60, false, nil)
			b.assign(wastes, 60, false, wasteful)
		}
		had := map[peer.ID]time.Duration{}
		var paid proto.Credit
		round := func(n int) {
			clear(had)
			for range n {
				x := b.running[0]
				b.now = b.now.Add(10 * time.Second)
				had[x.From] += 10 * time.Second
				if x.From == wastes {
					b.end(func(in *Executed) { in.Status, in.Fuel = proto.StatusTimeout, 0 })
					continue
				}
				b.end(nil)
				paid += proto.PayFor(600_000, 1_000_000)
				hold := proto.CIDOf([]byte(pays))
				b.step(VoucherSeen{From: pays, Voucher: &proto.Voucher{Hold: hold.Bytes(), Worker: []byte(simPeer(0)), Amount: uint64(paid)}})
			}
		}
		round(20)
		round(180)
		if share := float64(had[wastes]) / float64(had[wastes]+had[pays]); (share < 0.2) == off || share == 0 {
			t.Errorf("without the rule %v: who wastes time gets %.0f %% of it", off, 100*share)
		}
		if off {
			continue
		}
		why := strings.Join(b.m.WhyServed(), " ")
		if want := fmt.Sprintf("For submitter %s: 0 credits", wastes); !strings.Contains(why, want) || !strings.Contains(why, "For module "+proto.CIDOf([]byte("never ends")).String()) ||
			!strings.Contains(why, "others come first") {
			t.Errorf("why says %q", why)
		}
		// It comes back with another key: the module is known.
		again := simPeer(3)
		if b.m.dearest(again, proto.CIDOf([]byte("never ends"))) != worthWorst || b.m.dearest(again, scenarioModule) != 1 {
			t.Error("the module is not remembered apart from its submitter")
		}
		// Its offers are answered later, and what was long ago counts for less.
		for i := range 3 * maxWorths {
			b.m.book(worthKey{payer: simPeer(1000 + i)}, 1, time.Millisecond)
		}
		if len(b.m.work.worths) != maxWorths || b.m.dear(worthKey{payer: wastes}) != worthWorst {
			t.Errorf("%d are remembered, not who wasted most", len(b.m.work.worths))
		}
		b.now = b.now.Add(10 * worthHalf)
		b.step(Tick{})
		if n := b.m.dear(worthKey{payer: wastes}); n != 1 {
			t.Errorf("after %s it still counts %d times", 10*worthHalf, n)
		}
	}
}

// Who has its lane forgotten, by opening others, and shows its voucher again has
// not paid again.
func TestVouchersCountOnce(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 1, Types: []string{"text"}, Custom: true})
	from := simPeer(1)
	hold := proto.CIDOf([]byte("hold"))
	show := func(index uint32, promised proto.Credit) {
		b.step(VoucherSeen{
			From: from, Voucher: &proto.Voucher{Hold: hold.Bytes(), Lane: index, Worker: []byte(simPeer(0)), Amount: 1000},
			Lane: Lane{Hold: hold, Index: index, Payer: from, Worker: simPeer(0), Cap: 1000, Promised: promised, Deadline: simStart.Add(time.Hour)},
		})
	}
	for i := range uint32(maxLanesPer + 1) {
		show(i, 0)
	}
	if b.m.work.customers[from].lanes[laneKey{hold, 0}] != nil {
		t.Fatal("the lane is not forgotten")
	}
	before := b.m.work.worths[worthKey{payer: from}].earned
	show(0, 1000)
	if now := b.m.work.worths[worthKey{payer: from}].earned; now != before || before != 1000*(maxLanesPer+1) {
		t.Errorf("it is worth %d, %d before", now, before)
	}
}
