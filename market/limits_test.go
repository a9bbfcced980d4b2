package market

import (
	"encoding/binary"
	"testing"
	"time"

	"edgenet.dev/proto"
)

func numbered(i int) (id proto.JobID) {
	binary.BigEndian.PutUint32(id[:], uint32(i))
	return id
}

func bounded(t *testing.T) *Machine {
	t.Helper()
	m, err := New(Config{Self: simPeer(0), Worker: Worker{Enabled: true, Slots: 1, Types: []string{"text"}}})
	if err != nil {
		t.Fatal(err)
	}
	m.now = simStart
	return m
}

// Offers of others are tracked up to a bound, and so many of one submitter: the
// oldest of its own give way, then the oldest of all.
func TestOffersAreBounded(t *testing.T) {
	m := bounded(t)
	w := &m.work
	n := 0
	for range 3 * maxOfferPeer {
		w.track(m, numbered(n), simPeer(1))
		n++
	}
	if len(w.bids) != maxOfferPeer || w.bids[numbered(0)] != nil || w.bids[numbered(n-1)] == nil {
		t.Errorf("%d offers of one submitter", len(w.bids))
	}
	for i := range 3 * maxOffers {
		w.track(m, numbered(n), simPeer(2+i))
		n++
		if i%2 == 0 { // ids of withdrawn ones do not pile up
			w.dropBid(m, numbered(n-1))
			w.track(m, numbered(n), simPeer(2+i))
			n++
		}
	}
	if len(w.bids) != maxOffers || len(w.bidsOf) > maxOffers || len(w.bidOrder) > 2*maxOffers+1 {
		t.Errorf("%d offers of %d submitters, %d in order", len(w.bids), len(w.bidsOf), len(w.bidOrder))
	}
	if w.bids[numbered(n-1)] == nil {
		t.Error("the newest offer is not tracked")
	}
}

// Competitors are counted up to a bound, and what one says it takes counts up to
// another.
func TestRivalsAreBounded(t *testing.T) {
	m := bounded(t)
	id := numbered(1)
	b := m.work.track(m, id, simPeer(1))
	b.offer = &proto.Offer{Id: id[:]}
	for i := range 3 * maxSeen {
		m.rivalClaim(id, simPeer(2+i), &proto.Claim{Submitter: []byte(simPeer(1)), Slots: 1 << 31})
	}
	if len(b.rivals) != maxSeen || b.slots != maxSeen*maxSlots {
		t.Errorf("%d competitors with %d slots", len(b.rivals), b.slots)
	}
}

// A submitter has so many modules here; expired grants give way, others do not.
func TestModulesOfASubmitterAreBounded(t *testing.T) {
	c := &customer{grants: map[grantKey]grant{}}
	for i := range maxModules {
		id := numbered(i)
		if !c.grant(grantKey{module: proto.CIDOf(id[:])}, grant{expires: simStart.Add(time.Hour)}, simStart) {
			t.Fatal("no room for a grant")
		}
	}
	more := proto.CIDOf([]byte("more"))
	if c.grant(grantKey{module: more}, grant{}, simStart) || len(c.grants) != maxModules {
		t.Errorf("%d grants", len(c.grants))
	}
	if !c.grant(grantKey{module: more}, grant{}, simStart.Add(2*time.Hour)) || len(c.grants) != 1 {
		t.Errorf("expired grants stay: %d", len(c.grants))
	}
}

// A submitter has so many lanes here. Of more, one without work gives way: one that
// is done or over, else the one not used for longest; one with work never does.
func TestLanesOfASubmitterAreBounded(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 1, InFlight: 1000, Types: []string{"text"}, Custom: true})
	from := simPeer(1)
	hold := proto.CIDOf([]byte("hold"))
	lasts := map[uint32]time.Duration{}
	assign := func(index uint32) {
		t.Helper()
		b.n++
		var ref proto.Ref
		b.step(AssignSeen{
			From: from, Lane: Lane{
				Hold: hold, Index: index, Payer: from, Worker: simPeer(0), Cap: 1000 * proto.OneCredit, Deadline: simStart.Add(time.Hour + lasts[index]),
			},
			Batch: &proto.AssignmentBatch{
				Worker: []byte(simPeer(0)), Hold: hold.Bytes(), Lane: index, ExpiresUnixMs: uint64(b.now.Add(time.Minute).UnixMilli()),
				Assignments: []*proto.Assignment{{
					Job: ref.Task.Job[:], Task: b.n, Replicas: 2, Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion,
					InputHash: make([]byte, 32), FuelLimit: 60_000_000, Price: 1_000_000,
				}},
			},
		})
	}
	has := func(index uint32) bool { return b.m.work.customers[from].lanes[laneKey{hold, index}] != nil }
	for i := range uint32(maxLanesPer) {
		lasts[i] = time.Hour
		if i == 1 {
			lasts[i] = 0
		}
		assign(i) // 0 runs, the others wait
	}
	assign(100)
	if n := b.refused[from][proto.CodeBusy]; n != 1 || has(100) || len(b.m.work.customers[from].lanes) != maxLanesPer {
		t.Fatalf("with work on all lanes: %d refused, %d lanes", n, len(b.m.work.customers[from].lanes))
	}
	for range maxLanesPer { // of lane 0 a result is kept that is not asked for yet
		if ref := b.end(nil).Ref; ref.Task.Index > 1 {
			b.step(AbortSeen{From: from, Refs: []proto.Ref{ref}})
		}
	}
	lasts[100], lasts[101] = time.Hour, time.Hour
	b.now = b.now.Add(90 * time.Minute)
	assign(2)
	assign(100)
	if n := b.refused[from][proto.CodeBusy]; n != 1 || !has(100) || has(1) || !has(2) || !has(3) {
		t.Fatalf("the lane that is over stays: %d refused", n)
	}
	assign(101)
	if has(3) || !has(2) || !has(0) {
		t.Error("not the lane that was not used for longest gave way")
	}
}

// Of the claims that answer an own offer so many are kept.
func TestClaimsOfAnOfferAreBounded(t *testing.T) {
	m := bounded(t)
	id := numbered(7)
	m.Step(simStart, Submit{Job: Job{ID: id, Type: "text", Module: scenarioModule, Inputs: make([]InputRef, 1), Created: simStart, Options: Options{Redundancy: 2, MaxCredits: 1000 * proto.OneCredit, Timeout: time.Hour}}})
	for i := range 3 * maxClaims {
		m.Step(simStart, ClaimSeen{From: simPeer(1 + i), Claim: &proto.Claim{
			Offer: id[:], Submitter: []byte(simPeer(0)), Round: 1, Slots: 1, Held: 1, ExpiresUnixMs: uint64(simStart.Add(time.Minute).UnixMilli()),
		}})
	}
	if n := len(m.jobs[id].bid.claims); n != maxClaims {
		t.Errorf("%d claims", n)
	}
}

// Jobs that are over are forgotten, the oldest first; their records stay on disk.
func TestFinishedJobsAreBounded(t *testing.T) {
	m := bounded(t)
	for i := range maxFinished + 10 {
		id := numbered(i)
		m.Step(simStart, Submit{Job: Job{ID: id, Type: "text", Module: scenarioModule, Inputs: make([]InputRef, 1), Created: simStart, Options: Options{Redundancy: 1, MaxCredits: proto.OneCredit, Timeout: time.Hour}}})
		m.Step(simStart, Cancel{Job: id})
	}
	if len(m.jobs) > maxFinished || m.jobs[numbered(maxFinished+9)] == nil || m.jobs[numbered(0)] != nil {
		t.Errorf("%d jobs are kept", len(m.jobs))
	}
}
