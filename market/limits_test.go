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

// A submitter has so many lanes and modules here; expired grants and lanes that
// are done give way, others do not.
func TestLanesAndModulesAreBounded(t *testing.T) {
	c := &customer{grants: map[grantKey]grant{}, lanes: map[laneKey]*workLane{}}
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
	var first *workLane
	for i := range maxLanesPer {
		l := c.lane(Lane{Hold: more, Index: uint32(i)})
		if l == nil {
			t.Fatal("no room for a lane")
		}
		if first == nil {
			first = l
		}
	}
	if c.lane(Lane{Hold: more, Index: 1 << 20}) != nil {
		t.Errorf("%d lanes", len(c.lanes))
	}
	first.done = true
	if c.lane(Lane{Hold: more, Index: 1 << 20}) == nil || len(c.lanes) != maxLanesPer {
		t.Errorf("a lane that is done keeps its place: %d", len(c.lanes))
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
