package market

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"edgenet.dev/proto"
)

// halts are what a Step said of executions that stand still.
func (b *bench) halts() (on, off int) {
	for _, o := range b.outs {
		if h, ok := o.(HaltExecution); ok && h.Halt {
			on++
		} else if ok {
			off++
		}
	}
	return on, off
}

func (b *bench) tick(d time.Duration) {
	b.now = b.now.Add(d)
	b.step(Tick{})
}

// A long execution stands still after its slice while another submitter has its
// turn, and goes on after that; none stands for as long as its submitter would
// give it up; and one that takes much memory keeps its slot.
func TestTurnsComeAfterASlice(t *testing.T) {
	long, short := simPeer(1), simPeer(2)
	for _, spare := range []int{1, 0} {
		b := newBench(t, Worker{Enabled: true, Slots: 1, Spare: spare, InFlight: 20, Types: []string{"text"}, Custom: true})
		b.assign(long, 3, false, nil)
		b.tick(slice / 2)
		b.assign(short, 1, false, nil)
		if on, _ := b.halts(); on != 0 || len(b.running) != 1 {
			t.Fatal("an execution has no slice of its own")
		}
		b.tick(slice)
		if on, _ := b.halts(); on != spare || len(b.running) != 1+spare {
			t.Fatalf("with %d spare %d stand still, %d were started", spare, on, len(b.running))
		}
		if spare == 0 {
			continue
		}
		if b.m.Busy() != 1 || b.running[1].From != short {
			t.Fatalf("%d run", b.m.Busy())
		}
		first := b.running[0]
		b.running = b.running[1:]
		b.after(time.Millisecond)
		if _, off := b.halts(); off != 1 || b.m.Busy() != 1 || len(b.running) != 0 {
			t.Fatalf("%d go on, %d run, %d were started", off, b.m.Busy(), len(b.running))
		}
		// Two long ones: the first goes on beside the second before it is given up.
		b.tick(slice)
		b.assign(short, 1, false, nil)
		if on, _ := b.halts(); on != 1 {
			t.Fatalf("%d stand still for the second one", on)
		}
		for stood := time.Duration(0); ; stood += slice {
			if b.tick(slice); b.m.Busy() == 2 {
				break
			}
			if stood > mostHalted {
				t.Fatal("the first one stands for too long")
			}
		}
		b.tick(time.Minute)
		b.running = append(b.running, first)
		b.end(nil)
		b.end(nil)
		if _, off := b.halts(); off != 0 || b.m.Busy() != 1 {
			t.Errorf("%d run", b.m.Busy())
		}
	}
}

// An execution that stands still is stopped, ended and dropped like one that runs.
func TestWhatStandsCanEnd(t *testing.T) {
	long, short := simPeer(1), simPeer(2)
	for name, end := range map[string]func(b *bench, x Execute){
		"aborted": func(b *bench, x Execute) { b.step(AbortSeen{From: x.From, Refs: []proto.Ref{x.Ref}}) },
		"lost":    func(b *bench, x Execute) { b.step(SubmitterLost{Submitter: x.From}) },
		"ended": func(b *bench, x Execute) {
			b.step(Executed{From: x.From, Ref: x.Ref, Status: proto.StatusOK, Fuel: 600_000, Salt: make([]byte, 16)})
		},
	} {
		b := newBench(t, Worker{Enabled: true, Slots: 1, Spare: 1, InFlight: 20, Types: []string{"text"}, Custom: true})
		b.assign(long, 1, false, nil)
		b.assign(short, 1, false, nil)
		b.tick(slice)
		end(b, b.running[0])
		b.running = b.running[1:]
		b.after(time.Millisecond)
		if _, off := b.halts(); off != 0 || b.m.Busy() != 0 || b.m.work.held != 0 || len(b.m.work.halted) != 0 {
			t.Errorf("%s: %d run, %d are held, %d stand", name, b.m.Busy(), b.m.work.held, len(b.m.work.halted))
		}
	}
}

// A worker whose slot is another's only for a slice answers almost as soon as if
// it were free.
func TestWorkerThatMakesWayAnswersSooner(t *testing.T) {
	for _, spare := range []int{1, 0} {
		b := newBench(t, Worker{Enabled: true, Slots: 1, Spare: spare, InFlight: 20, Types: []string{"text"}, Custom: true})
		b.step(Reputations{PPM: map[peer.ID]uint64{simPeer(0): 1_000_000}, Stakes: map[peer.ID]proto.Credit{simPeer(0): 1 << 40}}) // first among 8
		b.step(Neighbours{Workers: 8})
		b.assign(simPeer(1), 5, false, nil)
		b.tick(slice)
		id := proto.JobID{1}
		b.step(OfferSeen{From: simPeer(5), Offer: &proto.Offer{
			Id: id[:], Type: "text", Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion, FuelLimit: 60_000_000, PriceCap: 1_000_000,
			SlotsWanted: 1, WorkersWanted: 1, DeadlineUnixMs: uint64(b.now.Add(time.Hour).UnixMilli()), Priority: uint32(proto.PriorityNormal), Round: 1,
		}})
		b.tick(4 * b.m.cfg.ClaimStep)
		claims := 0
		for _, o := range b.outs {
			if _, ok := o.(PublishClaim); ok {
				claims++
			}
		}
		if claims != spare {
			t.Errorf("with %d spare it has answered %d times", spare, claims)
		}
	}
}

func turnsBench(t *testing.T) *bench {
	return newBench(t, Worker{Enabled: true, Slots: 1, Spare: 1, InFlight: 20, MaxMemory: 1 << 30, Types: []string{"text"}, Custom: true})
}

// Two submitters with guests that never end do not get round the turns: where one
// runs beside the other, because it stood for long enough, one of them goes to
// another worker as soon as somebody else has a turn. Who is known to pay is spared.
func TestWhatStoodForLongEnoughGivesWay(t *testing.T) {
	first, second, honest := simPeer(1), simPeer(2), simPeer(3)
	for _, pays := range []bool{false, true} {
		b := turnsBench(t)
		b.assign(first, 1, false, nil)
		b.assign(second, 1, false, nil)
		for range (mostHalted + time.Second) / slice {
			b.tick(slice)
		}
		if b.m.Busy() != 2 || len(b.running) != 2 {
			t.Fatalf("%d run, %d were started", b.m.Busy(), len(b.running))
		}
		if pays {
			b.m.worthOf(worthKey{payer: first}).add(proto.OneCredit, worthLeast)
		}
		b.assign(honest, 1, false, nil)
		for range 3 {
			b.tick(slice)
		}
		gone, stands := first, second // which ran for longer
		if pays {
			gone, stands = second, first
		}
		if b.refused[gone][proto.CodeBusy] != 1 || b.refused[stands] != nil {
			t.Errorf("with one that pays %v: refused %v", pays, b.refused)
		}
		if started := len(b.running) == 3; started == pays { // the other one stood for long enough, too
			t.Errorf("with one that pays %v: the honest task was started %v", pays, started)
		}
		if b.m.Busy() != 1 || b.m.work.held != 2 {
			t.Errorf("%d run, %d are held", b.m.Busy(), b.m.work.held)
		}
	}
}

// One that stood for long enough and has the slot for itself gives way to a submitter
// whose work is paid, and not to a stranger or when its own is paid.
func TestPaidWorkNeedNotWaitForWhatStood(t *testing.T) {
	long, short := simPeer(1), simPeer(2)
	for _, c := range []struct {
		long, short bool // known to pay
		gives       bool
	}{{false, true, true}, {false, false, false}, {true, true, false}} {
		b := turnsBench(t)
		b.assign(long, 1, false, nil)
		for p, pays := range map[peer.ID]bool{long: c.long, short: c.short} {
			if pays {
				b.m.worthOf(worthKey{payer: p}).add(proto.OneCredit, worthLeast)
			}
		}
		endless := b.running[0]
		for b.m.work.customers[long].execs[endless.Ref].stood < mostHalted {
			b.tick(slice)
			b.assign(short, 1, false, nil)
			b.tick(slice)
			if len(b.running) == 2 {
				b.running = b.running[1:]
				b.after(slice)
				b.running = []Execute{endless}
			}
		}
		b.assign(short, 1, false, nil)
		for range 100 {
			b.tick(slice)
		}
		if gave := b.refused[long][proto.CodeBusy] == 1; gave != c.gives || gave != (len(b.running) == 2) {
			t.Errorf("%+v: it gave way %v, %d were started", c, gave, len(b.running))
		}
	}
}

// A turn that comes while another's execution runs needs no event: the worker looks
// when that submitter is ahead, also where it has the turn itself until then.
func TestTurnsComeInTime(t *testing.T) {
	busy, long := simPeer(1), simPeer(2)
	for _, own := range []int{1, 2} {
		b := turnsBench(t)
		b.assign(busy, 1, false, nil)
		b.assign(long, own, false, nil) // both start where the other did
		b.after(5 * time.Second)
		b.assign(busy, 1, false, nil)
		began, looks := b.now, 0
		for ; len(b.m.work.halted) == 0; looks++ {
			at, ok := b.m.Next()
			if !ok || at.Sub(began) > 6*time.Second {
				t.Fatalf("with %d tasks: the turn does not come within 6 s, %v", own, ok)
			}
			b.now = at
			b.step(Tick{})
		}
		if looks > 10 || b.now.Sub(began) < 4*time.Second {
			t.Errorf("with %d tasks: it looked %d times and the turn came after %s", own, looks, b.now.Sub(began))
		}
	}
}

// Whatever memory a guest asked for, it is halted for those that have room beside
// it, and those that have none do not stand in their way.
func TestMemoryBesideWhatStands(t *testing.T) {
	b := turnsBench(t)
	asks := func(n uint64) func(*proto.Assignment) {
		return func(a *proto.Assignment) { a.MemoryLimit = n }
	}
	b.assign(simPeer(1), 1, false, asks(1<<30)) // all of the slot
	b.assign(simPeer(2), 1, false, asks(haltMemory+1))
	if b.tick(time.Second); len(b.running) != 1 {
		t.Fatal("more memory is used than all slots may and what stands")
	}
	b.assign(simPeer(3), 1, false, nil)
	if b.tick(slice); len(b.running) != 2 || b.running[1].From != simPeer(3) {
		t.Fatal("who asks for much memory keeps its slot")
	}
	large := b.running[0]
	b.running = b.running[1:]
	b.after(time.Millisecond)
	if _, off := b.halts(); off != 1 || len(b.running) != 0 {
		t.Errorf("%d go on, %d were started beside it", off, len(b.running))
	}
	b.running = []Execute{large}
	b.after(time.Millisecond)
	if len(b.running) != 1 || b.running[0].From != simPeer(2) {
		t.Error("the slot that became free stays so")
	}
}

// Whatever comes in whatever order: no more executions have a child than there are
// children, no slot is free while somebody waits, and memory keeps its bound.
func TestTurnsKeepTheirBounds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots := rapid.IntRange(1, 3).Draw(rt, "slots")
		b := newBench(t, Worker{Enabled: true, Slots: slots, Spare: 1, InFlight: 40, MaxMemory: 1 << 30, Types: []string{"text"}, Custom: true})
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			from := simPeer(rapid.IntRange(1, 5).Draw(rt, "submitter"))
			switch rapid.IntRange(0, 4).Draw(rt, "what") {
			case 0, 1:
				b.assign(from, rapid.IntRange(1, 3).Draw(rt, "tasks"), false, func(a *proto.Assignment) {
					a.MemoryLimit = rapid.SampledFrom([]uint64{0, 1 << 20, haltMemory + 1, 1 << 30}).Draw(rt, "memory")
				})
			case 2:
				b.tick(time.Duration(rapid.IntRange(1, 5000).Draw(rt, "ms")) * time.Millisecond)
			case 3:
				if at, ok := b.m.Next(); ok {
					if at.After(b.now) {
						b.now = at
					}
					b.step(Tick{})
				}
			case 4:
				if len(b.running) > 0 { // or was dropped
					b.after(time.Duration(rapid.IntRange(1, 50).Draw(rt, "ms")) * time.Millisecond)
				}
			}
			books(rt, b.m)
			w := &b.m.work
			used := uint64(0)
			for _, x := range slices.Concat(w.halted, slices.Collect(maps.Keys(w.executing))) {
				used += x.memory()
			}
			switch {
			case w.running != len(w.executing) || w.running+len(w.halted) > slots+1:
				rt.Fatalf("%d run, %d stand", w.running, len(w.halted))
			case w.running < slots && w.queued+len(w.halted) > 0:
				rt.Fatalf("%d run, %d wait", w.running, w.queued+len(w.halted))
			case used > uint64(slots)<<30+haltMemory:
				rt.Fatalf("%d bytes may be used", used)
			}
		}
	})
}
