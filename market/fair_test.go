package market

import (
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// after ends the oldest execution when it ran for d.
func (b *bench) after(d time.Duration) Execute {
	b.now = b.now.Add(d)
	return b.end(nil)
}

func priced(p proto.Priority, percent uint64) func(*proto.Assignment) {
	return func(a *proto.Assignment) { a.Priority, a.Price = uint32(p), 10_000*percent }
}

// Twelve hundred tasks of one submitter do not delay the one of another, nor do
// they find the worker full.
func TestFreeSlotsGoRound(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 2, InFlight: 1200, Types: []string{"text"}, Custom: true})
	many, one := simPeer(1), simPeer(2)
	for range 1200 / 60 {
		b.assign(many, 60, false, nil)
	}
	b.assign(many, 1, false, nil)
	if b.refused[many][proto.CodeBusy] != 1 || b.m.Busy() != 2 {
		t.Fatalf("refused %v, %d run", b.refused[many], b.m.Busy())
	}
	b.assign(one, 1, false, nil)
	if b.refused[one] != nil {
		t.Fatalf("refused %v", b.refused[one])
	}
	b.after(time.Second)
	if last := b.running[len(b.running)-1]; last.From != one {
		t.Error("the slot that came free next was not the other's")
	}
	// Who returns has saved up nothing: one task of each follows in turn.
	for range 12 {
		b.after(time.Second)
	}
	b.assign(one, 20, false, nil)
	got := 0
	for range 20 {
		b.after(time.Second)
		if b.running[len(b.running)-1].From == one {
			got++
		}
	}
	if got < 9 || got > 11 {
		t.Errorf("%d of 20 slots", got)
	}
}

// However many fill a worker, everybody else has room for a task for each slot.
func TestEverybodyHasRoomForATask(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 2, InFlight: 8, Types: []string{"text"}, Custom: true})
	b.assign(simPeer(1), 8, false, nil)
	for i := range 40 {
		from := simPeer(2 + i)
		if b.assign(from, 3, false, nil); b.refused[from][proto.CodeBusy] != 1 {
			t.Fatalf("submitter %d: refused %v", i, b.refused[from])
		}
	}
}

// Whose input or module has to be fetched waits for it, not for a slot: it has no
// older turn when it comes, be it a newcomer's batch or one that keeps a fetch open.
func TestFetchedWorkHasNoOlderTurn(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 1, InFlight: 1000, Types: []string{"text"}, Custom: true})
	old, fetches := simPeer(1), simPeer(2)
	for range 5 {
		b.assign(old, 60, false, nil)
	}
	for range 40 { // it had its slot for long
		b.after(time.Minute)
	}
	share := func(round string, refs []proto.Ref) {
		t.Helper()
		for _, ref := range refs {
			b.step(Fetched{From: fetches, Ref: ref})
		}
		got := 0
		for range 20 {
			b.after(time.Second)
			if b.running[len(b.running)-1].From == fetches {
				got++
			}
		}
		if got < 8 || got > 12 {
			t.Errorf("%s: %d of 20 slots", round, got)
		}
	}
	b.assign(fetches, 1, true, nil) // it never comes
	share("a batch that is fetched", b.assign(fetches, 30, true, nil))
	for range 80 {
		b.after(time.Minute)
	}
	if len(b.m.work.customers[fetches].queue) > 0 || len(b.m.work.customers[old].queue) == 0 {
		t.Fatal("it still has work, or the other has none")
	}
	share("another, with one fetch pending all the time", b.assign(fetches, 30, true, nil))
}

// Slot time is what goes round, not tasks: long tasks of one and short ones of
// another get as much of it.
func TestSlotTimeIsShared(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 1, InFlight: 2000, Types: []string{"text"}, Custom: true})
	long, short := simPeer(1), simPeer(2)
	for range 4 {
		b.assign(long, 60, false, nil)
		b.assign(short, 60, false, nil)
	}
	had := map[peer.ID]time.Duration{}
	for range 100 {
		d := time.Second
		if b.running[0].From == long {
			d = 10 * time.Second
		}
		had[b.after(d).From] += d
	}
	if l, s := had[long], had[short]; l > 2*s || s > 2*l {
		t.Errorf("long tasks had %s, short ones %s", l, s)
	}
}

// High priority gets what it pays for: twice the share of slot time, not all of
// it; and whoever says high without the price is refused.
func TestHighPriorityIsAShareThatIsPaidFor(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 1, InFlight: 2000, Types: []string{"text"}, Custom: true})
	high, normal, cheat := simPeer(1), simPeer(2), simPeer(3)
	for range 4 {
		b.assign(normal, 60, false, priced(proto.PriorityNormal, 100))
		b.assign(high, 60, false, priced(proto.PriorityHigh, 200))
	}
	b.assign(cheat, 3, false, priced(proto.PriorityHigh, 199))
	if b.refused[cheat][proto.CodePrice] != 3 || b.refused[high] != nil {
		t.Fatalf("refused %v", b.refused)
	}
	got := 0
	for range 90 {
		if b.after(time.Second).From == high {
			got++
		}
	}
	if got < 55 || got > 65 {
		t.Errorf("high priority had %d of 90 slots, it pays for 60", got)
	}
	// Among one submitter's own tasks it goes first.
	b = newBench(t, Worker{Enabled: true, Slots: 1, InFlight: 20, Types: []string{"text"}, Custom: true})
	b.assign(normal, 3, false, priced(proto.PriorityNormal, 100))
	b.assign(normal, 1, false, priced(proto.PriorityHigh, 200))
	b.after(time.Second)
	if proto.Priority(b.running[0].Assignment.Priority) != proto.PriorityHigh {
		t.Error("a submitter's own urgent task waits behind its others")
	}
}

// A quote, what is put on hold, offered and paid follow one price per priority.
func TestPriorityHasItsPrice(t *testing.T) {
	base := Terms{Price: proto.OneCredit, FeePPM: 10_000}
	for _, c := range []struct {
		p       proto.Priority
		percent proto.Credit
	}{{proto.PriorityLow, 50}, {proto.PriorityNormal, 100}, {proto.PriorityHigh, 200}, {proto.PriorityHigh, 300}} {
		terms := base
		if c.percent == 300 {
			terms.HighPercent = 300
		}
		o := Options{Redundancy: 1, Fuel: proto.PriceUnit, Priority: c.p, MaxCredits: 100 * proto.OneCredit}
		want := withFee(proto.OneCredit*c.percent/100, 10_000)
		if q := terms.Quote(Job{Options: o, Inputs: inputs(1, 5)}, asLimit); q.Task != want {
			t.Errorf("%s at %d %%: a task is quoted at %s, want %s", c.p, c.percent, q.Task, want)
		}
		s := newSim(t, 8, 4, func(_ int, cfg *Config) { cfg.HighPercent = terms.HighPercent })
		s.need = 600_000_000
		var offered []uint64
		s.observe = func(n *simNode, _ Input, outs []Output) {
			for _, out := range outs {
				if out, ok := out.(PublishOffer); ok {
					offered = append(offered, out.Offer.PriceCap)
				}
			}
		}
		o = Options{Redundancy: 2, Fuel: 600_000_000, Priority: c.p, MaxCredits: proto.OneCredit}
		id := s.job(0, "a", 10, o)
		quoted := s.nodes[0].m.Quote(s.view(id).Record.Job)
		s.until(time.Minute, s.settled(id))
		if v, want := s.view(id), withFee(2*10*10_000*c.percent/100, 10_000); v.Record.State != Done || v.Cost != want || quoted.Worst != want {
			t.Errorf("%s at %d %%: %s for %s, quoted %s, want %s", c.p, c.percent, v.Record.State, v.Cost, quoted.Worst, want)
		}
		if want := uint64(proto.OneCredit * c.percent / 100); len(offered) == 0 || offered[0] != want {
			t.Errorf("%s: offered at %d, want %d", c.p, offered, want)
		}
		s.check()
	}
}

// A worker claims what it can start soon: much when tasks are short, little when
// they are long or when long ones hold its slots. What others' tasks took says
// nothing of a module that is not known here.
func TestBusyWorkerClaimsWhatItStartsSoon(t *testing.T) {
	other := proto.CIDOf([]byte("another module"))
	slots := func(runs, busy time.Duration, from int, module cid.Cid) uint32 {
		b := newBench(t, Worker{Enabled: true, Slots: 2, InFlight: 128, Types: []string{"text"}, Custom: true})
		for range 60 {
			b.assign(simPeer(1), 1, false, nil)
			b.after(runs)
		}
		b.assign(simPeer(2), 1, false, func(a *proto.Assignment) { a.Module = proto.CIDOf([]byte("a short one")).Bytes() })
		b.after(time.Millisecond)
		if busy > 0 {
			b.assign(simPeer(1), 2, false, nil)
			b.now = b.now.Add(busy)
		}
		id := proto.JobID{1}
		b.step(OfferSeen{From: simPeer(from), Offer: &proto.Offer{
			Id: id[:], Type: "text", Module: module.Bytes(), MeterVersion: proto.MeterVersion, FuelLimit: 60_000_000, PriceCap: 1_000_000,
			SlotsWanted: 500, WorkersWanted: 2, DeadlineUnixMs: uint64(b.now.Add(time.Hour).UnixMilli()), Priority: uint32(proto.PriorityNormal), Round: 1,
		}})
		for _, o := range b.outs {
			if c, ok := o.(PublishClaim); ok {
				return c.Claim.Slots
			}
		}
		t.Fatal("no claim")
		return 0
	}
	for name, x := range map[string]struct {
		runs, busy  time.Duration
		from        int
		module      cid.Cid
		least, most uint32
	}{
		"short tasks":                        {2 * time.Millisecond, 0, 5, scenarioModule, 128, 128},
		"tasks of ten seconds":               {10 * time.Second, 0, 5, scenarioModule, 3, 5},
		"slots taken for a minute":           {2 * time.Millisecond, time.Minute, 5, scenarioModule, 1, 1},
		"slots to be taken for a minute":     {time.Minute, 5 * time.Second, 2, other, 1, 1}, // who had short ones
		"slots that are free again in a bit": {10 * time.Second, 8 * time.Second, 5, scenarioModule, 1, 2},
		"unknown after long ones":            {time.Minute, 0, 5, other, 126, 128},
		"who had long ones":                  {time.Minute, 0, 1, other, 1, 3},
		"who had short ones":                 {time.Minute, 0, 2, scenarioModule, 126, 128},
	} {
		if n := slots(x.runs, x.busy, x.from, x.module); n < x.least || n > x.most {
			t.Errorf("%s: claims %d, want %d to %d", name, n, x.least, x.most)
		}
	}
}
