package node

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// earner is a worker with a certified lane of another's hold. All stands on one
// node: the payer's other key signs nothing that this test does not make.
type earner struct {
	t    *testing.T
	n    *Node
	hold cid.Cid
	l    *link
}

const earnerCap = 100 * proto.OneCredit

func newEarner(t *testing.T, change ...func(*Config)) *earner {
	n := alone(t, append(change, func(c *Config) {
		raw, err := goproto.Marshal(&proto.Genesis{
			Name: "unpaid", Nonce: make([]byte, 16), Witnesses: c.Network.Genesis.Witnesses,
			Grants: []*proto.Grant{{Account: c.Network.Genesis.Witnesses[0], Amount: uint64(1000 * proto.OneCredit)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if c.Network, err = proto.ParseGenesis(raw); err != nil {
			t.Fatal(err)
		}
	})...)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := n.wallet.certify(ctx, &proto.Hold{
		Job: make([]byte, 16), Budget: uint64(earnerCap * 11 / 10), DeadlineUnixMs: uint64(time.Now().Add(time.Hour).UnixMilli()),
		Lanes: []*proto.Lane{{Worker: []byte(n.self), Cap: uint64(earnerCap)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &earner{t, n, c.ID, newLink(n.self, "")}
}

// order is an assignment of a task that costs so many credits.
func (e *earner) order(task uint32, credits uint64) *proto.Assignment {
	h := proto.HashOf([]byte("input"))
	return &proto.Assignment{
		Job: make([]byte, 16), Task: task, Replicas: 1, Module: proto.CIDOf([]byte("module")).Bytes(), MeterVersion: proto.MeterVersion,
		InputHash: h[:], Price: uint64(proto.OneCredit), FuelLimit: credits * uint64(proto.PriceUnit),
	}
}

func (e *earner) batch(edit func(*proto.AssignmentBatch), list ...*proto.Assignment) []byte {
	e.t.Helper()
	b := &proto.AssignmentBatch{Worker: []byte(e.n.self), Hold: e.hold.Bytes(), ExpiresUnixMs: uint64(time.Now().Add(time.Minute).UnixMilli()), Assignments: list}
	if edit != nil {
		edit(b)
	}
	raw, err := e.n.seal(&proto.Payload{Body: &proto.Payload_Assignments{Assignments: b}})
	if err != nil {
		e.t.Fatal(err)
	}
	return raw
}

func (e *earner) receipt(key crypto.PrivKey, worker peer.ID, a *proto.Assignment, output string) (raw, batch []byte) {
	e.t.Helper()
	h := proto.HashOf([]byte(output))
	raw, err := goproto.Marshal(&proto.Receipt{
		Worker: []byte(worker), Submitter: []byte(e.n.self), Job: a.Job, Task: a.Task, Replica: a.Replica, Module: a.Module, MeterVersion: a.MeterVersion,
		InputHash: a.InputHash, OutputHash: h[:], OutputSize: uint64(len(output)), Fuel: a.FuelLimit, Status: uint32(proto.StatusOutOfFuel), Price: a.Price, FuelLimit: a.FuelLimit,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	if batch, err = proto.SignReceipts(key, e.n.net.ID, [][]byte{raw}, 0); err != nil {
		e.t.Fatal(err)
	}
	return raw, batch
}

// deliver has the worker return a result for an assignment.
func (e *earner) deliver(a *proto.Assignment) {
	raw, batch := e.receipt(e.n.cfg.Key, e.n.self, a, "output")
	e.n.claims.delivered(batch, [][]byte{raw}, []delivered{{hold: e.hold, payer: e.n.self, output: []byte("output")}})
}

func (e *earner) take(raw []byte) { e.n.claims.taken(e.hold, 0, e.n.self, raw) }

// claimed is what witnesses would count.
func (e *earner) claimed() proto.Credit {
	e.t.Helper()
	raw, err := e.n.claims.claim(e.n.claims.lanes[laneKey(e.hold, 0)])
	if err != nil {
		e.t.Fatal(err)
	}
	e.n.wallet.mu.Lock()
	defer e.n.wallet.mu.Unlock()
	got, err := e.n.wallet.l.CheckClaim(raw)
	if err != nil {
		e.t.Fatal(err)
	}
	return got.Amount
}

// finish has the payer ask for Done at what it says that it owes.
func (e *earner) finish(promised proto.Credit) (done *proto.Done, claim []byte) {
	e.t.Helper()
	fs, err := e.n.work.frames(e.l, []toSubmitter{doneItem{&proto.Done{Hold: e.hold.Bytes(), Amount: uint64(promised)}, earnerCap}})
	if err != nil || len(fs) != 1 {
		e.t.Fatal(fs, err)
	}
	s, err := proto.Unseal(e.n.net.ID, fs[0].GetDone().GetDone(), proto.KindDone)
	if err != nil {
		e.t.Fatal(err)
	}
	return s.Payload.GetDone(), fs[0].GetDone().GetClaim()
}

// One bad item never spoils the rest: whatever else the payer signed on the lane,
// and in whatever order it came, the claim is worth all the work.
func TestClaimSurvivesBadAssignments(t *testing.T) {
	_, stranger := newIdentity(t)
	for name, bad := range map[string]func(e *earner, work ...*proto.Assignment){
		"a batch that names another worker": func(e *earner, work ...*proto.Assignment) {
			for i := range uint64(16) { // one of them is read first
				e.take(e.batch(func(b *proto.AssignmentBatch) { b.Worker, b.ExpiresUnixMs = []byte(stranger), i }, work...))
			}
		},
		"a batch for another lane": func(e *earner, work ...*proto.Assignment) {
			for i := range uint64(16) {
				e.take(e.batch(func(b *proto.AssignmentBatch) { b.Lane, b.ExpiresUnixMs = 1, i }, work...))
			}
		},
		"a batch that is none": func(e *earner, _ ...*proto.Assignment) { e.take([]byte("none")) },
		"40 bulky batches": func(e *earner, work ...*proto.Assignment) {
			for i := range 40 {
				junk := work
				for n := range 60 {
					junk = append(junk, e.order(uint32(1000+60*i+n), 1))
				}
				e.take(e.batch(nil, junk...))
			}
		},
		"a bulky batch for each result": func(e *earner, work ...*proto.Assignment) {
			for i, a := range work {
				list := []*proto.Assignment{a}
				for n := range 63 {
					list = append(list, e.order(uint32(1000+100*i+n), 1))
				}
				e.take(e.batch(nil, list...))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEarner(t)
			var work []*proto.Assignment
			for n := range uint32(30) {
				work = append(work, e.order(n, 2))
			}
			bad(e, work...)
			e.take(e.batch(nil, work...))
			bad(e, work...)
			for _, a := range work {
				e.deliver(a)
			}
			if got := e.claimed(); got != 60*proto.OneCredit {
				t.Errorf("the claim is worth %s of 60 credits", got)
			}
		})
	}
}

// Assignments of which most are never done take the room of a claim. Before more
// is owed than the claim can show, the worker takes no more on the lane.
func TestUnprovableWorkIsNotTaken(t *testing.T) {
	e := newEarner(t)
	taken := 0
	for i := range 64 {
		list := []*proto.Assignment{e.order(uint32(i), 1)}
		for n := range 63 {
			list = append(list, e.order(uint32(1000+100*i+n), 1))
		}
		raw := e.batch(nil, list...)
		if err := e.n.claims.admits(e.hold, 0, e.n.self, raw, 0); err != nil {
			if proto.CodeOf(err) != proto.CodeBusy {
				t.Fatal(err)
			}
			break
		}
		e.take(raw)
		e.deliver(list[0])
		taken++
		e.n.claims.lanes[laneKey(e.hold, 0)].gathered = time.Time{}
	}
	got := e.claimed()
	if want := proto.Credit(taken) * proto.OneCredit; taken < 10 || got < want-want/unprovenPart-proto.OneCredit {
		t.Fatalf("%d results were taken, the claim is worth %s", taken, got)
	}
	// A voucher for it makes room.
	e.n.claims.promised(e.hold, 0, e.n.self, proto.Credit(taken)*proto.OneCredit)
	if err := e.n.claims.admits(e.hold, 0, e.n.self, e.batch(nil, e.order(9999, 1)), 0); err != nil {
		t.Error(err)
	}
}

// A payer that has the results and asks for Done at less than they are worth does
// not get it: Done is for what the receipts prove, the claim comes with it, and the
// lane takes no more work, also after another start of the worker.
func TestDoneIsForWhatWasEarned(t *testing.T) {
	e := newEarner(t)
	a, b := e.order(0, 2), e.order(1, 3)
	e.take(e.batch(nil, a, b))
	e.deliver(a)
	e.deliver(b)
	done, claim := e.finish(1 * proto.OneCredit)
	if proto.Credit(done.Amount) != 5*proto.OneCredit || claim == nil {
		t.Fatalf("done at %s, claim of %d bytes", proto.Credit(done.Amount), len(claim))
	}
	if done, claim := e.finish(7 * proto.OneCredit); proto.Credit(done.Amount) != 7*proto.OneCredit || claim != nil {
		t.Errorf("promised are 7 credits, done at %s", proto.Credit(done.Amount))
	}
	more := func() error { return e.n.claims.admits(e.hold, 0, e.n.self, e.batch(nil, e.order(2, 1)), 0) }
	if err := more(); proto.CodeOf(err) != proto.CodeNoLane {
		t.Errorf("more work on a lane that is done: %v", err)
	}
	e.n.claims = newClaims(e.n)
	if err := e.n.claims.load(); err != nil {
		t.Fatal(err)
	}
	if done, _ := e.finish(0); proto.Credit(done.Amount) != 5*proto.OneCredit {
		t.Errorf("after another start done at %s", proto.Credit(done.Amount))
	}
	if err := more(); proto.CodeOf(err) != proto.CodeNoLane {
		t.Errorf("after another start more work on a lane that is done: %v", err)
	}
}

// A payer takes back what its votes show to be wrong, and nothing else.
func TestOutvotedResultIsNotOwed(t *testing.T) {
	e := newEarner(t)
	a, b := e.order(0, 2), e.order(1, 3)
	a.Replicas, b.Replicas = 2, 2
	e.take(e.batch(nil, a, b))
	e.deliver(a)
	e.deliver(b)
	var keys []crypto.PrivKey
	for range 2 {
		key, _ := newIdentity(t)
		keys = append(keys, key)
	}
	vote := func(key crypto.PrivKey, a *proto.Assignment, output string) *proto.SignedReceipt {
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		raw, batch := e.receipt(key, id, a, output)
		return &proto.SignedReceipt{Receipt: raw, Batch: batch}
	}
	show := func(votes ...*proto.SignedReceipt) {
		_ = e.n.work.received(e.l, &proto.TaskFrame{Body: &proto.TaskFrame_Abort{Abort: &proto.Abort{
			Code: uint32(proto.CodeMinority), Hold: e.hold.Bytes(), Votes: votes,
		}}})
	}
	forged := vote(keys[1], a, "another")
	forged.Batch = append(bytes.Clone(forged.Batch[:len(forged.Batch)-1]), forged.Batch[len(forged.Batch)-1]^1)
	for name, votes := range map[string][]*proto.SignedReceipt{
		"no votes":        nil,
		"one vote":        {vote(keys[0], a, "another")},
		"one vote twice":  {vote(keys[0], a, "another"), vote(keys[0], a, "another")},
		"votes that part": {vote(keys[0], a, "another"), vote(keys[1], a, "a third")},
		"the same result": {vote(keys[0], a, "output"), vote(keys[1], a, "output")},
		"of two tasks":    {vote(keys[0], a, "another"), vote(keys[1], e.order(1, 2), "another")},
		"its own":         {vote(e.n.cfg.Key, a, "another"), vote(keys[1], a, "another")},
		"forged":          {vote(keys[0], a, "another"), forged},
	} {
		show(votes...)
		if got := e.claimed(); got != 5*proto.OneCredit {
			t.Errorf("%s: the claim is worth %s", name, got)
		}
	}
	show(vote(keys[0], a, "another"), vote(keys[1], a, "another"))
	if done, _ := e.finish(0); proto.Credit(done.Amount) != 3*proto.OneCredit {
		t.Errorf("done at %s, of 5 credits 2 were outvoted", proto.Credit(done.Amount))
	}
}

// A payer pays what a worker proves though it had not promised it, and nothing that
// is not proven.
func TestPayerPaysWhatIsProven(t *testing.T) {
	e := newEarner(t)
	a := e.order(0, 2)
	e.take(e.batch(nil, a))
	e.deliver(a)
	done, claim := e.finish(0)
	l := newLease(e.n.self)
	if fuel, ok, err := e.n.leases.owes(l, e.hold, done, claim); err != nil || !ok || fuel != 2*proto.PriceUnit {
		t.Errorf("%d fuel, %v, %v", fuel, ok, err)
	}
	l.judged = time.Time{}
	done.Amount++
	if _, ok, err := e.n.leases.owes(l, e.hold, done, claim); err == nil || ok {
		t.Errorf("more than is proven: %v, %v", ok, err)
	}
}

// Assignments that came before, or too late, write nothing.
func TestReplayedAssignmentsWriteNothing(t *testing.T) {
	e := newEarner(t)
	written := func() (keys, size int) {
		if err := e.n.kv.scan("work/", func(_ string, v []byte) error { keys++; size += len(v); return nil }); err != nil {
			t.Fatal(err)
		}
		return keys, size
	}
	assign := func(raw []byte) {
		t.Helper()
		in := []*proto.Input{{Where: &proto.Input_Inline{Inline: []byte("input")}}}
		if err := e.n.work.assigned(e.l, &proto.Assign{Batch: raw, Inputs: in}); err != nil {
			t.Fatal(err)
		}
		if err := e.n.tell(e.n.ctx, market.Tick{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		assign(e.batch(func(b *proto.AssignmentBatch) { b.ExpiresUnixMs = uint64(i + 1) }, e.order(uint32(i), 1)))
	}
	if keys, _ := written(); keys != 0 {
		t.Errorf("%d records of expired assignments", keys)
	}
	for i := range 100 { // the market takes none: this node has no sandbox
		assign(e.batch(nil, e.order(uint32(i), 1)))
	}
	if keys, _ := written(); keys != 0 {
		t.Errorf("%d records of assignments that were refused", keys)
	}
	once := e.batch(nil, e.order(0, 1))
	e.take(once)
	keys, size := written()
	for range 100 {
		e.take(once)
		if err := e.n.claims.admits(e.hold, 0, e.n.self, once, 0); err != errReplay {
			t.Fatal(fmt.Sprint(err))
		}
	}
	if k, s := written(); k != keys || s != size || keys != 1 {
		t.Errorf("%d records of %d bytes became %d of %d", keys, size, k, s)
	}
}

// What is kept of unpaid work is counted, the same after another start, and shown
// with its bound.
func TestStoresAreCounted(t *testing.T) {
	e := newEarner(t)
	a := e.order(0, 2)
	e.take(e.batch(nil, a))
	e.deliver(a)
	claims := func() Store {
		for _, s := range e.n.Stores() {
			if s.Name == "claims" {
				return s
			}
		}
		return Store{}
	}
	before := claims()
	if before.Bytes == 0 || before.Limit != DefaultMaxClaims {
		t.Fatalf("%+v", before)
	}
	e.n.claims = newClaims(e.n)
	if err := e.n.claims.load(); err != nil {
		t.Fatal(err)
	}
	if after := claims(); after != before {
		t.Errorf("%+v became %+v", before, after)
	}
	if err := e.n.claims.forget(e.n.claims.lanes[laneKey(e.hold, 0)]); err != nil {
		t.Fatal(err)
	}
	if after := claims(); after.Bytes != 0 || len(e.n.claims.payers) != 0 {
		t.Errorf("%+v after all was forgotten", after)
	}
}
