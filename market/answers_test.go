package market

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// offers brings so many offers of one submitter and counts the claims they are
// answered with, within a second of them.
func (b *bench) offers(from peer.ID, n int, funds *proto.Credit) (claims int) {
	count := func(outs []Output) {
		for _, o := range outs {
			if _, ok := o.(PublishClaim); ok {
				claims++
			}
		}
	}
	for range n {
		b.n++
		var id proto.JobID
		copy(id[4:], from[len(from)-12:])
		binary.BigEndian.PutUint32(id[:], b.n)
		count(b.step(OfferSeen{From: from, Funds: funds, Offer: &proto.Offer{
			Id: id[:], Type: "text", Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion, FuelLimit: uint64(proto.PriceUnit), PriceCap: 1_000_000,
			SlotsWanted: 1, WorkersWanted: 1, DeadlineUnixMs: uint64(b.now.Add(time.Hour).UnixMilli()), Priority: uint32(proto.PriorityNormal), Round: 1,
		}}))
	}
	b.now = b.now.Add(time.Second)
	count(b.step(Tick{}))
	return claims
}

// However many offers come, a worker makes no more claims than its neighbours
// take of it, few of them for submitters that cannot pay, and those that can are
// answered all the same.
func TestWorkerAnswersWithinItsRate(t *testing.T) {
	for _, off := range []bool{false, true} {
		b := newBench(t, Worker{Enabled: true, Slots: 1, Types: []string{"text"}, Custom: true})
		b.m.off.answers = off
		b.step(Neighbours{Workers: 4})
		nothing, enough := proto.Credit(0), proto.OneCredit
		spam := 0
		for i := range 40 {
			spam += b.offers(simPeer(10+i), 40, &nothing)
		}
		if most := 60 * poorClaims; (spam > most) == !off || !off && spam < 20*poorClaims {
			t.Errorf("without the rule %v: %d of 1600 offers that nobody can pay for are answered", off, spam)
		}
		if n := b.offers(simPeer(1), 10, &enough); n != 10 {
			t.Errorf("%d of 10 offers of one that can pay are answered", n)
		}
		if n := b.offers(simPeer(2), maxOfferPeer, nil); n != maxOfferPeer {
			t.Errorf("%d of %d offers of one of whom nothing is known are answered", n, maxOfferPeer)
		}
		one, all := 0, 0
		for range 10 {
			one += b.offers(simPeer(3), maxOfferPeer, &enough)
		}
		if most := 12 * claimsOf; (one > most) == !off {
			t.Errorf("without the rule %v: %d offers of one submitter are answered", off, one)
		}
		b.step(Neighbours{})
		for i := range 10 {
			b.now = b.now.Add(-time.Second) // all at once
			all += b.offers(simPeer(100+i), maxOfferPeer, &enough)
		}
		if most := (claimBurst + 2) * MaxClaims; (all > most) == !off {
			t.Errorf("without the rule %v: %d offers are answered at once", off, all)
		}
	}
}

// Who cannot pay is answered after those who can.
func TestWhoCannotPayIsAnsweredLater(t *testing.T) {
	nothing, enough := proto.Credit(0), proto.OneCredit
	for _, c := range []struct {
		funds *proto.Credit
		now   bool
	}{{nil, true}, {&enough, true}, {&nothing, false}} {
		b := newBench(t, Worker{Enabled: true, Slots: 1, Types: []string{"text"}, Custom: true})
		b.step(Reputations{PPM: map[peer.ID]uint64{simPeer(0): 1_000_000}, Stakes: map[peer.ID]proto.Credit{simPeer(0): 1 << 40}}) // first among 8
		b.step(Neighbours{Workers: 8})
		id := proto.JobID{1}
		claimed := false
		for _, o := range b.step(OfferSeen{From: simPeer(5), Funds: c.funds, Offer: &proto.Offer{
			Id: id[:], Type: "text", Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion, FuelLimit: uint64(proto.PriceUnit), PriceCap: 1_000_000,
			SlotsWanted: 1, WorkersWanted: 1, DeadlineUnixMs: uint64(b.now.Add(time.Hour).UnixMilli()), Priority: uint32(proto.PriorityNormal), Round: 1,
		}}) {
			_, ok := o.(PublishClaim)
			claimed = claimed || ok
		}
		if claimed != c.now {
			t.Errorf("with %v: answered at once %v", c.funds, claimed)
		}
	}
}

// However many accounts make more offers than a worker answers, one that has more
// than they is answered, one with an open lane is, and one that has less now and then.
func TestManyAccountsSilenceNobody(t *testing.T) {
	for name, x := range map[string]struct {
		of, has proto.Credit // of each of the many, and of the one
		lane    bool
		least   int // of eleven offers, one a second
	}{
		"more":           {of: 1, has: proto.OneCredit, least: 11},
		"less":           {of: proto.OneCredit, has: 2, least: 1},
		"less, a lane":   {of: proto.OneCredit, has: 2, lane: true, least: 11},
		"nothing, alone": {of: 0, has: proto.OneCredit, least: 11},
	} {
		b := newBench(t, Worker{Enabled: true, Slots: 2, Types: []string{"text"}, Custom: true})
		one, answered, all := simPeer(1), 0, 0
		if x.lane {
			b.assign(one, 1, false, nil)
		}
		for ms := 0; ms < 15_000; ms += 10 {
			b.now = b.now.Add(10 * time.Millisecond)
			for i := range 14 {
				all += b.answered(simPeer(10+(14*ms/10+i)%100), x.of)
			}
			if ms%1000 == 0 && ms >= 4000 { // what was saved up is gone
				answered += b.answered(one, x.has)
			}
		}
		if answered < x.least {
			t.Errorf("%s: %d offers are answered, %d should be", name, answered, x.least)
		}
		if most := (15 + claimBurst) * MaxClaims; all+answered > most {
			t.Errorf("%s: %d claims in 15 seconds, %d at most", name, all+answered, most)
		}
	}
}

// answered brings an offer and reports whether it is answered at once, 1 or 0.
func (b *bench) answered(from peer.ID, funds proto.Credit) int {
	b.n++
	var id proto.JobID
	binary.BigEndian.PutUint32(id[:], b.n)
	for _, o := range b.step(OfferSeen{From: from, Funds: &funds, Offer: &proto.Offer{
		Id: id[:], Type: "text", Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion, FuelLimit: 1, PriceCap: 1_000_000,
		SlotsWanted: 1, WorkersWanted: 1, DeadlineUnixMs: uint64(b.now.Add(time.Hour).UnixMilli()), Priority: uint32(proto.PriorityNormal), Round: 1,
	}}) { // a microcredit pays for it
		if _, ok := o.(PublishClaim); ok {
			return 1
		}
	}
	return 0
}

// An offer that waits for its turn to be answered stays while those of many accounts
// with less come, and one that is decided goes before all that wait.
func TestOffersThatWaitGiveWayByFunds(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 1, Types: []string{"text"}, Custom: true})
	b.step(Neighbours{Workers: 1000}) // it answers late
	bids := b.m.work.bids
	waits := func(from peer.ID, funds proto.Credit) proto.JobID {
		for {
			b.answered(from, funds)
			var id proto.JobID
			binary.BigEndian.PutUint32(id[:], b.n)
			if bids[id].timer.armed() {
				return id
			}
		}
	}
	honest := waits(simPeer(1), proto.OneCredit)
	for i := range 2 * maxOffers {
		waits(simPeer(10+i%100), 1)
	}
	if bids[honest] == nil {
		t.Error("it went with the oldest")
	}
	decided := waits(simPeer(2), 1000*proto.OneCredit)
	b.m.stop(bids[decided].timer)
	last := waits(simPeer(200), 1)
	if waits(simPeer(201), 1); bids[decided] != nil || bids[last] == nil || bids[honest] == nil {
		t.Errorf("decided: %v, waiting: %v and %v", bids[decided] != nil, bids[last] != nil, bids[honest] != nil)
	}
}
