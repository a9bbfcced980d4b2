package market

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// bench is one worker that submitters assign tasks to.
type bench struct {
	t   *testing.T
	m   *Machine
	now time.Time
	n   uint32

	running []Execute
	refused map[peer.ID]map[proto.Code]int
	outs    []Output // of the last Step
}

func newBench(t *testing.T, w Worker) *bench {
	t.Helper()
	m, err := New(Config{Self: simPeer(0), Worker: w})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, m: m, now: simStart, refused: map[peer.ID]map[proto.Code]int{}}
}

func (b *bench) step(in Input) []Output {
	b.outs = b.m.Step(b.now, in)
	for _, o := range b.outs {
		switch o := o.(type) {
		case Execute:
			b.running = append(b.running, o)
		case SendRefused:
			if b.refused[o.To] == nil {
				b.refused[o.To] = map[proto.Code]int{}
			}
			b.refused[o.To][o.Code]++
		}
	}
	return b.outs
}

// assign brings n assignments of one submitter in one batch; edit may change each.
func (b *bench) assign(from peer.ID, n int, fetch bool, edit func(*proto.Assignment)) (refs []proto.Ref) {
	b.t.Helper()
	hold := proto.CIDOf([]byte(from))
	batch := &proto.AssignmentBatch{Worker: []byte(simPeer(0)), Hold: hold.Bytes(), ExpiresUnixMs: uint64(b.now.Add(time.Minute).UnixMilli())}
	in := AssignSeen{From: from, Batch: batch, Lane: Lane{
		Hold: hold, Payer: from, Worker: simPeer(0), Cap: 1000 * proto.OneCredit, Deadline: simStart.Add(24 * time.Hour),
	}}
	for range n {
		b.n++
		var ref proto.Ref
		copy(ref.Task.Job[:], from[len(from)-16:])
		ref.Task.Index = b.n
		a := &proto.Assignment{
			Job: ref.Task.Job[:], Task: b.n, Replicas: 1, Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion,
			InputHash: make([]byte, 32), FuelLimit: 60_000_000, Price: 1_000_000, Priority: uint32(proto.PriorityNormal),
		}
		if edit != nil {
			edit(a)
		}
		batch.Assignments, in.Fetch, refs = append(batch.Assignments, a), append(in.Fetch, fetch), append(refs, ref)
	}
	b.step(in)
	return refs
}

// end ends the oldest execution that runs.
func (b *bench) end(edit func(*Executed)) Execute {
	b.t.Helper()
	if len(b.running) == 0 {
		b.t.Fatal("nothing runs")
	}
	x := b.running[0]
	b.running = b.running[1:]
	in := Executed{From: x.From, Ref: x.Ref, Status: proto.StatusOK, Fuel: 600_000, Ran: 25 * time.Millisecond, Salt: make([]byte, 16)}
	if edit != nil {
		edit(&in)
	}
	b.step(in)
	return x
}

// Executions whose inputs are not here have no slot, and a submitter has a
// bounded number of them.
func TestFetchingTakesNoSlot(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 2, InFlight: 16, Types: []string{"text"}, Custom: true})
	slow, honest := simPeer(1), simPeer(2)
	refs := b.assign(slow, 12, true, nil)
	if got := b.refused[slow][proto.CodeBusy]; got != 4 || len(b.running) != 0 {
		t.Fatalf("%d refused, %d run", got, len(b.running))
	}
	b.assign(honest, 3, false, nil)
	if len(b.running) != 2 || b.running[0].From != honest || b.running[1].From != honest {
		t.Fatalf("%d run", len(b.running))
	}
	b.step(Fetched{From: slow, Ref: refs[0]})
	b.step(Fetched{From: slow, Ref: refs[0]}) // twice counts once
	b.step(Fetched{From: slow, Ref: refs[1], Code: proto.CodeFetch, Reason: "it came too slowly"})
	if b.refused[slow][proto.CodeFetch] != 1 {
		t.Error("a fetch that failed is not told")
	}
	for range 4 {
		b.end(nil)
	}
	if len(b.running) != 0 || b.m.Waiting() != 6 {
		t.Errorf("%d run, %d wait", len(b.running), b.m.Waiting())
	}
	// A module that goes out of the cache again and again ends with a refusal.
	for n := 1; ; n++ {
		b.step(Fetched{From: slow, Ref: refs[2]})
		if len(b.running) == 0 {
			break
		}
		b.end(func(in *Executed) { in.Missing = true })
		if n > maxFetches {
			t.Fatal("it is fetched for ever")
		}
	}
	// A worker that is switched off gives back what is awaited.
	b.step(WorkerSettings{Worker{Slots: 2, Reason: "test"}})
	if b.m.Waiting() != 0 || b.m.work.customers[slow].fetching != 0 || b.refused[slow][proto.CodePaused] != 5 {
		t.Errorf("%d wait, refused %v", b.m.Waiting(), b.refused[slow])
	}
	if b.m.work.held != 0 || b.m.work.customers[slow].lanes[laneKey{proto.CIDOf([]byte(slow)), 0}].worst != 0 {
		t.Error(fmt.Sprint(b.m.work.held, " are held"))
	}
}

// Inputs that are never served take nothing from work whose input is here, and
// leave every submitter room for inputs of its own: those of who has most give way.
func TestFetchesAreCountedApart(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 1, InFlight: 64, Types: []string{"text"}, Custom: true})
	share, most := b.m.work.fetchShare(), b.m.work.maxFetching()
	for i := range most / share {
		b.assign(simPeer(1+i), share, true, nil)
	}
	if len(b.refused) > 0 || b.m.work.fetching != most || b.m.Waiting() != most {
		t.Fatalf("%d of %d wait for inputs, refused %v", b.m.work.fetching, most, b.refused)
	}
	honest := simPeer(100)
	b.assign(honest, 60, false, nil)
	b.assign(honest, 4, true, nil)
	if b.refused[honest] != nil || b.m.work.fetching != most || b.m.work.customers[honest].fetching != 4 {
		t.Errorf("refused %v", b.refused[honest])
	}
	gaveWay := 0
	for from, codes := range b.refused {
		if gaveWay += codes[proto.CodeBusy]; b.m.work.customers[from].fetching < share-1 {
			t.Errorf("one that has most has %d now", b.m.work.customers[from].fetching)
		}
	}
	if gaveWay != 4 {
		t.Errorf("%d gave way", gaveWay)
	}
	for i := range maxCustomers - most/share - 1 { // as many identities as there may be
		from := simPeer(200 + i)
		if b.assign(from, 3, true, nil); b.m.work.customers[from].fetching == 0 {
			t.Fatalf("newcomer %d has none", i)
		}
	}
	if n := b.m.work.customers[honest].fetching; n == 0 || b.m.work.fetching > most {
		t.Errorf("the honest submitter has %d, all %d", n, b.m.work.fetching)
	}
	if b.assign(simPeer(1), share, true, nil); b.m.work.customers[honest].fetching == 0 {
		t.Error("one with many takes the only one of another")
	}
}

// What preparing a module takes counts as its submitter's slot time, whether or not
// something comes of it, and for what its time is worth.
func TestPreparingModulesCounts(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 1, InFlight: 1000, Types: []string{"text"}, Custom: true})
	greedy, honest := simPeer(1), simPeer(2)
	for _, id := range []peer.ID{greedy, honest} {
		b.assign(id, 30, false, nil)
	}
	b.step(Prepared{From: greedy, Took: 10 * time.Second})
	b.step(Prepared{From: simPeer(3), Took: time.Hour}) // nobody's
	for range 9 {
		b.after(time.Second)
		if got := b.running[len(b.running)-1].From; got != honest {
			t.Fatal("who had a processor for ten seconds has the slot, too")
		}
	}
	if x := b.m.work.worths[worthKey{payer: greedy}]; x == nil || x.took < 10*time.Second {
		t.Errorf("its time is remembered as %+v", x)
	}
}
