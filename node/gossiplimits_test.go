//go:build !js

package node_test

import (
	"crypto/rand"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// offer is a signed offer that nobody can take, another one at each call.
func (l *lab) offer(key crypto.PrivKey, deadline time.Time) []byte {
	l.t.Helper()
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		l.t.Fatal(err)
	}
	raw, err := proto.Seal(key, l.net.ID, &proto.Payload{Body: &proto.Payload_Offer{Offer: &proto.Offer{
		Id: id, Type: proto.TypeText, Tasks: 1, Redundancy: 1, DeadlineUnixMs: uint64(deadline.UnixMilli()),
	}}})
	if err != nil {
		l.t.Fatal(err)
	}
	return raw
}

// claim is a signed claim for an offer that nobody made.
func (l *lab) claim(key crypto.PrivKey, expires time.Time) []byte {
	l.t.Helper()
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		l.t.Fatal(err)
	}
	raw, err := proto.Seal(key, l.net.ID, &proto.Payload{Body: &proto.Payload_Claim{Claim: &proto.Claim{
		Offer: id, Submitter: []byte(l.nodes[0].ID()), Slots: 1, ExpiresUnixMs: uint64(expires.UnixMilli()),
	}}})
	if err != nil {
		l.t.Fatal(err)
	}
	return raw
}

func someKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (g *gossiper) publish(topic string, data ...[]byte) {
	g.t.Helper()
	m := new(pubsubpb.RPC)
	for _, d := range data {
		m.Publish = append(m.Publish, &pubsubpb.Message{Topic: &topic, Data: d})
	}
	g.say(m)
}

func heardOffers(n *node.Node) uint64 {
	for _, c := range n.Stats().Gossip {
		if c.Topic == "offers" {
			return c.Received
		}
	}
	return 0
}

// An author that says too much is heard at its rate, and it costs the neighbour
// that passed it on nothing: what others say through the same neighbour is heard.
// Authors without credits have one rate together, which does not touch those that
// have some.
func TestGossipIsCountedByItsAuthor(t *testing.T) {
	l := newLab(t, 4)
	n := l.start(0, func(c *node.Config) { c.Relay = true })
	now := time.Now()
	n.GossipAt(func() time.Time { return now })
	neighbour, later := someID(t), now.Add(time.Hour)
	flood := func(authors ...crypto.PrivKey) (passed int) {
		var said [][]byte
		for _, a := range authors {
			said = append(said, l.offer(a, later))
		}
		now = now.Add(time.Minute)
		for i := range 20 * node.AuthorRate { // what the neighbour may pass on at once
			if n.HearOffer(neighbour, said[i%len(said)]) == pubsub.ValidationAccept {
				passed++
			}
		}
		return passed
	}
	var strangers []crypto.PrivKey
	for range 20 {
		strangers = append(strangers, someKey(t))
	}
	for what, x := range map[string]struct {
		authors []crypto.PrivKey
		rate    int
	}{
		"one author":              {l.keys[1:2], node.AuthorRate},
		"authors without credits": {strangers, node.PoorRate},
	} {
		if passed := flood(x.authors...); passed != 2*x.rate {
			t.Errorf("%d messages of %s pass at once, want %d", passed, what, 2*x.rate)
		}
		now = now.Add(time.Second)
		passed := 0
		for i := range 2 * x.rate {
			if n.HearOffer(neighbour, l.offer(x.authors[i%len(x.authors)], later)) == pubsub.ValidationAccept {
				passed++
			}
		}
		if passed != x.rate {
			t.Errorf("%d messages of %s pass in the next second, want %d", passed, what, x.rate)
		}
		for _, other := range l.keys[2:] {
			if n.HearOffer(neighbour, l.offer(other, later)) != pubsub.ValidationAccept {
				t.Errorf("an author with credits is not heard beside %s", what)
			}
		}
		if x.rate == node.PoorRate {
			forged := l.offer(strangers[0], later)
			forged[len(forged)-1] ^= 1
			if got := n.HearOffer(someID(t), forged); got != pubsub.ValidationIgnore {
				t.Errorf("above their rate a signature is looked at: %v", got)
			}
		}
	}
	claims, other := 0, someID(t)
	for i := range 4 * node.StrangersRate {
		if n.HearClaim(other, l.claim(strangers[i%len(strangers)], later)) == pubsub.ValidationAccept {
			claims++
		}
	}
	if claims != 2*node.StrangersRate {
		t.Errorf("%d claims of authors without credits pass beside their offers, want %d", claims, 2*node.StrangersRate)
	}
}

// What one peer passes on is bounded before signatures are checked, and does not
// keep others from passing on theirs.
func TestForwardersAreBounded(t *testing.T) {
	l := newLab(t, 2)
	n := l.start(0, func(c *node.Config) { c.Relay = true })
	now := time.Now()
	n.GossipAt(func() time.Time { return now })
	flooder, junk := someID(t), []byte("junk")
	rejected := 0
	for range 2*node.ForwardRate + 100 {
		if n.HearOffer(flooder, junk) == pubsub.ValidationReject {
			rejected++
		}
	}
	if rejected != 2*node.ForwardRate {
		t.Errorf("%d messages of a flooder were looked at, want %d", rejected, 2*node.ForwardRate)
	}
	if n.HearOffer(someID(t), l.offer(l.keys[1], time.Now().Add(time.Hour))) != pubsub.ValidationAccept {
		t.Error("another peer is not heard")
	}
}

// Offers whose time is over are not passed on.
func TestStaleOffersEndHere(t *testing.T) {
	l := newLab(t, 2)
	n := l.start(0, func(c *node.Config) { c.Relay = true })
	if got := n.HearOffer(someID(t), l.offer(l.keys[1], time.Now().Add(-time.Hour))); got != pubsub.ValidationIgnore {
		t.Errorf("an offer of an hour ago: %v", got)
	}
	if got := n.HearOffer(someID(t), l.offer(l.keys[1], time.Now().Add(time.Hour))); got != pubsub.ValidationAccept {
		t.Errorf("an offer of now: %v", got)
	}
}

// A peer that goes on to send what is invalid is not heard any more.
func TestInvalidMessagesCostAPeerItsHearing(t *testing.T) {
	l := newLab(t, 2)
	n := l.start(0, func(c *node.Config) { c.Relay = true })
	topic, later := l.net.ID.OffersTopic(0), time.Now().Add(time.Hour)
	bad, good := newGossiper(t, n), newGossiper(t, n)
	bad.publish(topic, l.offer(l.keys[1], later))
	until(t, "a peer is heard at first", func() bool { return heardOffers(n) == 1 })
	bad.publish(topic, []byte("junk 1"), []byte("junk 2"), []byte("junk 3"))
	silenced(t, l, n, bad)
	before := heardOffers(n)
	good.publish(topic, l.offer(l.keys[1], later))
	until(t, "another peer of the same address is heard", func() bool { return heardOffers(n) == before+1 })
}

// silenced wants n to hear a peer no more within a few seconds.
func silenced(t *testing.T, l *lab, n *node.Node, g *gossiper) {
	t.Helper()
	for range 20 {
		before := heardOffers(n)
		g.publish(l.net.ID.OffersTopic(0), l.offer(l.keys[1], time.Now().Add(time.Hour)))
		time.Sleep(200 * time.Millisecond)
		if heardOffers(n) == before {
			return
		}
	}
	t.Error("the peer is heard all the same")
}

// A fault weighs more the more other identities of the same address had one, so
// new identities do not begin anew; who did no wrong there is heard.
func TestFaultsOfOneAddressAddUp(t *testing.T) {
	l := newLab(t, 2)
	n := l.start(0, func(c *node.Config) { c.Relay = true })
	topic, later := l.net.ID.OffersTopic(0), time.Now().Add(time.Hour)
	for i := range 6 {
		newGossiper(t, n).publish(topic, []byte{byte(i)})
	}
	last, good := newGossiper(t, n), newGossiper(t, n)
	last.publish(topic, []byte("a first fault"))
	silenced(t, l, n, last)
	before := heardOffers(n)
	good.publish(topic, l.offer(l.keys[1], later))
	until(t, "who did no wrong is heard", func() bool { return heardOffers(n) == before+1 })
}

// Many accounts with a microcredit each fill the budget that all authors with credits
// have together, and no more than that is passed on; one that has more is heard
// meanwhile. What it would cost to open an account is nothing that it has.
func TestRichAuthorsAreHeardBesideManyPoor(t *testing.T) {
	var poor []crypto.PrivKey
	l := newLabOf(t, 3, 1, func(g *proto.Genesis) {
		g.OpeningCost = 5
		for i := range 21 {
			key := someKey(t)
			poor = append(poor, key)
			id, err := peer.IDFromPrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			has := uint64(6) // a microcredit more than it costs to open the account
			if i == 20 {
				has = 5
			}
			g.Grants = append(g.Grants, &proto.Grant{Account: []byte(id), Amount: has})
		}
	})
	n := l.start(0, func(c *node.Config) { c.Relay = true })
	now := time.Now()
	n.GossipAt(func() time.Time { return now })
	later := now.Add(time.Hour)
	said := make([][]byte, len(poor))
	for i, key := range poor {
		said[i] = l.offer(key, later)
	}
	rich, neighbours := l.offer(l.keys[1], later), []peer.ID{someID(t), someID(t), someID(t)}
	passed := 0
	for ms := range 4000 {
		now = now.Add(time.Millisecond)
		for k := range 4 { // 4,000 a second of 20 authors, over three neighbours
			if n.HearOffer(neighbours[k%3], said[(4*ms+k)%20]) == pubsub.ValidationAccept {
				passed++
			}
		}
		if ms%20 == 0 && n.HearOffer(neighbours[0], rich) != pubsub.ValidationAccept {
			t.Fatalf("a rich author is not heard after %d ms", ms)
		}
	}
	if most := 4 * node.FundedRate; passed > most+1 || passed < most/2 {
		t.Errorf("%d messages of authors with a microcredit pass in four seconds, at most %d should", passed, most)
	}
	now = now.Add(time.Minute)
	pauper := 0
	for range 2 * node.AuthorRate {
		if n.HearOffer(neighbours[0], said[20]) == pubsub.ValidationAccept {
			pauper++
		}
	}
	if pauper != 2*node.PoorRate {
		t.Errorf("%d messages of an account that cannot be opened pass, want %d as of strangers", pauper, 2*node.PoorRate)
	}
}
