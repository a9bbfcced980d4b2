package market

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

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
		b.assign(simPeer(3), 1, false, nil)
		if on, _ := b.halts(); on != 0 {
			t.Error("it stands again, though it stood for long enough, or its like runs beside it")
		}
		b.running = append(b.running, first)
		b.end(nil)
		b.end(nil)
		if _, off := b.halts(); off != 0 || b.m.Busy() != 1 {
			t.Errorf("%d run", b.m.Busy())
		}
	}
	b := newBench(t, Worker{Enabled: true, Slots: 1, Spare: 1, InFlight: 20, Types: []string{"text"}, Custom: true})
	b.assign(long, 1, false, func(a *proto.Assignment) { a.MemoryLimit = haltMemory + 1 })
	b.assign(short, 1, false, nil)
	if b.tick(time.Second); len(b.running) != 1 {
		t.Error("one that takes much memory stands still")
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
