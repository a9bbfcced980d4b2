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
