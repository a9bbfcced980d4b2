package market

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
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
			b.m.tookSlot(simPeer(1000+i), scenarioModule, time.Millisecond, 1)
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

// Pay comes once a task's other replicas ended, too: until then a new submitter
// counts as one that pays, and its second round has its share of the slots. One that
// never pays, or gives its results up, does not for long.
func TestPayThatComesLaterCounts(t *testing.T) {
	for _, gives := range []string{"pays later", "never pays", "gives them up"} {
		b := newBench(t, Worker{Enabled: true, Slots: 4, InFlight: 4000, Types: []string{"text"}, Custom: true})
		known, late := simPeer(1), simPeer(2)
		owed := map[peer.ID]proto.Credit{}
		pay := func(from peer.ID) {
			hold := proto.CIDOf([]byte(from))
			b.step(VoucherSeen{From: from, Voucher: &proto.Voucher{Hold: hold.Bytes(), Worker: []byte(simPeer(0)), Amount: uint64(owed[from])}})
		}
		round := func() { // of 30 s in all slots
			b.now = b.now.Add(30 * time.Second)
			for range 4 {
				x := b.end(nil)
				owed[x.From] += proto.PayFor(600_000, 1_000_000)
				if x.From == known {
					pay(known)
				} else if gives == "gives them up" {
					b.step(AbortSeen{From: late, Refs: []proto.Ref{x.Ref}})
				}
			}
		}
		two := func(a *proto.Assignment) { a.Replicas = 2 }
		b.assign(known, 4, false, two)
		round()
		b.assign(late, 60, false, two)
		round()
		if n, want := b.m.dearest(late, scenarioModule), map[bool]int{false: 1, true: worthWorst}[gives == "gives them up"]; n != want {
			t.Errorf("%s: after its first round its time counts %d times, want %d", gives, n, want)
		}
		for range 8 {
			b.assign(known, 60, false, two)
		}
		got := 0
		for range 4 {
			for _, x := range b.running {
				if x.From == late {
					got++
				}
			}
			round()
		}
		if gives == "pays later" && (got < 6 || got > 10) || gives == "gives them up" && got > 6 {
			t.Errorf("%s: it had %d of 16 slots", gives, got)
		}
		if gives == "never pays" {
			for range 120 {
				b.assign(late, 2, false, two)
				round()
			}
			if n := b.m.dearest(late, scenarioModule); n < worthWorst/2 {
				t.Errorf("%s: after an hour its time counts %d times", gives, n)
			}
		}
	}
}

// What an execution counts is known when it ends: a guest that ran to its limit
// counts as time without pay, though its submitter was not known before. What failed
// at this worker is not held against anybody.
func TestTimeIsChargedByHowItEnds(t *testing.T) {
	for status, want := range map[proto.Status]turn{proto.StatusTimeout: worthWorst, proto.StatusOK: 1, proto.StatusCancelled: 1} {
		b := newBench(t, Worker{Enabled: true, Slots: 1, Types: []string{"text"}, Custom: true})
		known, stranger := simPeer(1), simPeer(2)
		b.assign(known, 1, false, nil)
		b.after(time.Minute)
		hold := proto.CIDOf([]byte(known))
		b.step(VoucherSeen{From: known, Voucher: &proto.Voucher{Hold: hold.Bytes(), Worker: []byte(simPeer(0)), Amount: 10}})
		b.assign(stranger, 1, false, nil)
		c := b.m.work.customers[stranger]
		from := b.m.work.served // where its time began
		b.now = b.now.Add(time.Hour)
		b.end(func(in *Executed) {
			if in.Status, in.Fuel = status, 36_000_000; status == proto.StatusCancelled {
				in.Code = proto.CodeLocalFailure // its sandbox did not start
			}
		})
		if got := (c.served - from) / turn(time.Hour); got != want {
			t.Errorf("%s: an hour counts %d times, want %d", status, got, want)
		}
		if kept := b.m.work.worths[worthKey{payer: stranger}]; status == proto.StatusCancelled && kept != nil {
			t.Errorf("a failure of the worker counts %+v", kept)
		}
	}
}

// Who is known is judged by its own work, whoever else runs its module: others'
// guests that end without pay count for their submitter, for one minute for the
// module, and not at all for a built-in one.
func TestModulesAreNobodysToSpoil(t *testing.T) {
	builtin := proto.CIDOf([]byte("built in"))
	b := newBench(t, Worker{Enabled: true, Slots: 1, InFlight: 1000, Types: []string{"text"}, Custom: true, Builtin: map[cid.Cid][]string{builtin: {"text"}}})
	honest, spoils, newcomer := simPeer(1), simPeer(2), simPeer(3)
	var paid proto.Credit
	for range 12 {
		b.assign(honest, 1, false, nil)
		b.after(10 * time.Second)
		paid += proto.PayFor(600_000, 1_000_000)
		hold := proto.CIDOf([]byte(honest))
		b.step(VoucherSeen{From: honest, Voucher: &proto.Voucher{Hold: hold.Bytes(), Worker: []byte(simPeer(0)), Amount: uint64(paid)}})
	}
	timeout := func(module cid.Cid) {
		b.assign(spoils, 1, false, func(a *proto.Assignment) { a.Module = module.Bytes() })
		b.now = b.now.Add(10 * time.Second)
		b.end(func(in *Executed) { in.Status, in.Fuel = proto.StatusTimeout, 0 })
	}
	for range 6 {
		timeout(builtin)
	}
	if x := b.m.work.worths[worthKey{module: builtin}]; x != nil {
		t.Errorf("a built-in module has a record: %+v", x)
	}
	spoils = simPeer(4)
	for range 60 {
		timeout(scenarioModule)
	}
	if n := b.m.work.worths[worthKey{module: scenarioModule}].took; n > 2*worthShare {
		t.Errorf("two submitters' time with a module counts %s", n)
	}
	if n := b.m.dearest(honest, scenarioModule); n != 1 {
		t.Errorf("who always paid counts %d times", n)
	}
	if n := b.m.dearest(newcomer, scenarioModule); n == worthWorst {
		t.Errorf("one submitter spoils the module of another: %d", n)
	}
	if n := b.m.dearest(spoils, scenarioModule); n != worthWorst {
		t.Errorf("who spoils it counts %d times", n)
	}
}

// A worker that starts again remembers what work was worth to it, fades it by the
// time that it was away, and keeps no more on disk than in memory.
func TestWorthOutlivesARestart(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 1, Types: []string{"text"}, Custom: true})
	disk := map[worthKey]WorthRecord{}
	keep := func(outs []Output) {
		for _, o := range outs {
			if save, ok := o.(SaveWorth); ok {
				k := worthKey{save.Record.Payer, save.Record.Module}
				if disk[k] = save.Record; save.Record.TookMs == 0 {
					delete(disk, k)
				}
			}
		}
	}
	pays, wastes, stranger, endless := simPeer(1), simPeer(2), simPeer(3), proto.CIDOf([]byte("never ends"))
	book := func(p peer.ID, module cid.Cid, paid proto.Credit) {
		b.now = b.now.Add(10 * time.Second)
		b.step(Tick{})
		b.m.tookSlot(p, module, 10*time.Second, 0)
		b.m.paid(p, paid)
		keep(b.step(Tick{}))
	}
	for range 20 {
		book(pays, scenarioModule, 1000)
		book(wastes, endless, 0)
	}
	counts := func(m *Machine) string {
		return fmt.Sprint(m.dearest(pays, scenarioModule), m.dearest(wastes, scenarioModule), m.dearest(stranger, endless))
	}
	want := fmt.Sprint(1, worthWorst, worthWorst)
	if got := counts(b.m); got != want || len(disk) != 5 {
		t.Fatalf("they count %s times, want %s; %d records", got, want, len(disk))
	}
	restart := func(later time.Duration) *Machine {
		in := Restore{}
		for _, r := range disk {
			in.Worths = append(in.Worths, r)
		}
		raw, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		in = Restore{}
		if err := json.Unmarshal(raw, &in); err != nil {
			t.Fatal(err)
		}
		m, err := New(Config{Self: simPeer(0), Worker: Worker{Enabled: true, Slots: 1}})
		if err != nil {
			t.Fatal(err)
		}
		keep(m.Step(b.now.Add(later), in))
		return m
	}
	if got := counts(restart(0)); got != want {
		t.Errorf("after a restart they count %s times, want %s", got, want)
	}
	if m := restart(10 * worthHalf); counts(m) != "1 1 1" || len(disk) != 0 {
		t.Errorf("after %s they count %s times, %d records", 10*worthHalf, counts(m), len(disk))
	}
	for i := range 2 * maxWorths {
		book(simPeer(100+i), scenarioModule, 1)
	}
	if len(disk) < maxWorths/2 || len(disk) > maxWorths+1 {
		t.Errorf("%d records on disk", len(disk))
	}
}
