// Package sim runs many nodes of one network in one goroutine and virtual time:
// the ledger as it is, over disks that crash and a network that loses, repeats,
// delays and divides. Two of the seven witnesses are hostile, and so are some
// owners; some workers lie, and some owners are light clients. One seed is one
// run: the same seed gives the same run.
package sim

import (
	"bytes"
	"container/heap"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Shape of every run.
const (
	witnesses = 7
	hostile   = 2 // of the witnesses, as many as the agreement bears
	acts      = 3
	act       = 25 * time.Second // of work under faults; quiet hours lie between
	epoch     = time.Hour
	grace     = time.Minute
	settled   = 30 * time.Second // after the faults stop everything is decided
	// convicting is how many epochs after the one in which f+1 honest witnesses
	// found a lie its checkpoint says so: two may have hostile leaders.
	convicting = hostile + 1
	lead       = 2 // epochs between an event and the newest checkpoint
	credit     = uint64(proto.OneCredit)
	grant      = 1000 * credit
	eventCost  = 7
	opening    = 1000
)

// Config is one run.
type Config struct {
	Seed  uint64
	Nodes int // 12 or more
	// Forge makes a quorum of the witnesses' keys certify a second event for
	// some places, as a broken agreement would: the referee must see it.
	Forge bool
}

// Outcome is what happened in a run; sums of it show that the runs are worth
// something.
type Outcome struct {
	Kinds                                                                           map[string]int
	Crashes, Lost, Sessions, Messages, Slashed, Voids, Closes, Finals, Paid, Claims int
	Checkpoints, Pruned, Joined, Refused, Rounds, Misconduct, Skips, Rotates        int
	// Of what is minted, of wrong results and of light clients. Lies are receipts
	// of right work that hostile submitters accuse.
	Bonuses, Uptimes, Referrals, Absent, Misreports, Lies, Slanders, Liars, Asked, Lights int
	Early, Endless                                                                        int           // proposals in later rounds of events and checkpoints of other times
	Minted                                                                                uint64        // by bonuses, microcredits
	Took                                                                                  time.Duration // virtual, from the end of the faults until all was decided
	Trace                                                                                 uint64
}

type person struct {
	key crypto.PrivKey
	id  peer.ID
}

// someone derives a key from a name.
func someone(name string) person {
	seed := proto.HashOf([]byte("edgenet simulation " + name))
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		panic(err)
	}
	return person{key, id}
}

// world is the network and the clock.
type world struct {
	cfg    Config
	rnd    *rand.Rand
	net    *proto.Network
	begin  time.Time
	now    time.Time
	queue  events
	seq    uint64
	nodes  []*node
	index  map[peer.ID]int
	people map[peer.ID]person
	bad    *hostiles
	ref    *referee
	trace  hash.Hash64
	out    Outcome
	err    error // first violation

	// Faults.
	loss, twice float64
	side        []bool    // of each node while the network is divided, else nil
	storms      bool      // crashes and long delays happen
	working     bool      // owners have something to do
	quiet       time.Time // end of the quiet hour
}

type event struct {
	at  time.Time
	seq uint64
	do  func()
}

type events []event

func (h events) Len() int { return len(h) }
func (h events) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].seq < h[j].seq
}
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(event)) }
func (h *events) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = event{}
	*h = old[:len(old)-1]
	return x
}

// Run runs one seed to its end. The error is the first law that was broken.
func Run(cfg Config) (Outcome, error) {
	w := newWorld(cfg)
	w.play()
	w.out.Trace = w.trace.Sum64()
	if w.err != nil {
		return w.out, fmt.Errorf("at %s: %w", w.now.Sub(w.begin), w.err)
	}
	return w.out, nil
}

func newWorld(cfg Config) *world {
	w := &world{
		cfg: cfg, rnd: rand.New(rand.NewPCG(cfg.Seed, uint64(cfg.Nodes))), begin: time.Unix(1_700_000_000, 0),
		index: map[peer.ID]int{}, people: map[peer.ID]person{}, trace: fnv.New64a(),
	}
	w.now = w.begin
	w.out.Kinds = map[string]int{}
	g := &proto.Genesis{
		Name: "simulation", Nonce: bytes.Repeat([]byte{1}, 16), EpochSeconds: uint64(epoch / time.Second),
		GraceSeconds: uint64(grace / time.Second), EventCost: eventCost, OpeningCost: opening,
	}
	for i := range cfg.Nodes {
		p := w.person(fmt.Sprintf("node %d", i))
		w.index[p.id] = i
		if i < witnesses {
			g.Witnesses = append(g.Witnesses, []byte(p.id))
		}
		if i%2 == 0 || i < witnesses { // the others are paid first
			g.Grants = append(g.Grants, &proto.Grant{Account: []byte(p.id), Amount: grant})
		}
	}
	w.economy(g)
	var err error
	if w.net, err = proto.ParseGenesis(w.marshal(g)); err != nil {
		panic(err)
	}
	w.ref = newReferee(w)
	w.loss, w.twice = 0.3*w.rnd.Float64(), 0.1*w.rnd.Float64()
	w.bad = newHostiles(w)
	for i := range cfg.Nodes {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	w.cast()
	return w
}

func (w *world) marshal(m goproto.Message) []byte {
	raw, err := goproto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return raw
}

func (w *world) person(name string) person {
	p := someone(name)
	w.people[p.id] = p
	return p
}

// cast gives some owners their parts.
func (w *world) cast() {
	owners := w.rnd.Perm(w.cfg.Nodes - witnesses)
	next := func() *owner {
		n := w.nodes[witnesses+owners[0]]
		owners = owners[1:]
		return n.own
	}
	w.nodes[w.index[w.bad.ids[0]]].own.part = employer
	w.nodes[w.index[w.bad.ids[1]]].own.part = vanisher
	next().part = doubler
	next().part = forgetful
	next().part = employer
	for range max(1, w.cfg.Nodes/20) {
		next().part = vanisher
	}
	next().n.late = true
	if i := slices.IndexFunc(owners, func(x int) bool { return (witnesses+x)%2 == 0 }); i >= 0 { // it has something
		owners[0], owners[i] = owners[i], owners[0]
		next().part = absentee
	}
	for k := range w.cfg.Nodes / 10 {
		if len(owners) < 3 {
			break
		}
		next().n.light = true
		next().liar = true
		if k%2 == 1 {
			next().part = employer
		}
	}
}

// play is the whole run: acts of work under faults with quiet hours between,
// then an end to the faults, then an hour without any.
func (w *world) play() {
	for _, n := range w.nodes {
		if !n.late {
			n.start()
		}
	}
	for a := range acts {
		w.working, w.storms = true, true
		for _, n := range w.nodes {
			if n.away {
				n.away = false
				n.start()
			}
		}
		w.crashes()
		w.partitions()
		if a == acts-1 {
			w.after(act/2, func() {
				for _, n := range w.nodes {
					if n.late {
						n.start() // joins with an empty disk
					}
				}
			})
		}
		if w.until(act); a == acts-1 {
			break
		}
		w.working, w.storms, w.side = false, false, nil
		for _, n := range w.nodes {
			if a == acts-2 && n.own.part == absentee {
				n.leave()
			}
		}
		w.rest(epoch + time.Minute)
	}
	if w.err != nil {
		return
	}
	w.working, w.storms, w.side, w.loss, w.twice = false, false, nil, 0, 0
	for _, n := range w.nodes {
		n.dying = false // a crash that waits for a write is a fault, too
		if n.down {
			n.start()
		}
	}
	if w.out.Took = w.agree("after the faults stopped"); w.err != nil {
		return
	}
	liars, since := w.ref.convicted(), w.ref.full().l.Epoch()
	// The hour ends an epoch: what it certified last is a second old, and in a
	// quiet hour nodes reconcile every few minutes only.
	for {
		w.rest(epoch)
		if w.agree("after a quiet hour"); w.err != nil {
			return
		}
		i, left := w.ref.acquitted(liars)
		if !left {
			break
		}
		if e := w.ref.full().l.Epoch(); e > since+convicting || w.now.Sub(w.begin) > 12*epoch {
			w.fail(fmt.Errorf("checkpoint %d does not know of the lies of node %d, %d witnesses did in epoch %d", e, i, hostile+1, since))
			return
		}
	}
	w.ref.final()
}

// agree lets time go by until nothing is open any more and all honest nodes
// have one state, and fails when that takes too long.
func (w *world) agree(when string) time.Duration {
	begun, due := w.now, w.ref.due()
	var left error
	for w.now.Sub(begun) < settled && w.err == nil {
		w.until(time.Second)
		if left = w.ref.unsettled(due); left == nil {
			break
		}
	}
	took := w.now.Sub(begun)
	if left != nil {
		w.fail(fmt.Errorf("%s %s: %w", took, when, left))
	}
	return took
}

// rest is a quiet hour.
func (w *world) rest(d time.Duration) {
	w.quiet = w.now.Add(d)
	w.until(d)
}

// until lets d of virtual time go by.
func (w *world) until(d time.Duration) {
	end := w.now.Add(d)
	for w.err == nil && len(w.queue) > 0 && !w.queue[0].at.After(end) {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
	w.now = end
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now.Add(d), w.seq, do})
}

func (w *world) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// between draws a time.
func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rnd.Int64N(int64(b-a)))
}

func (w *world) chance(p float64) bool { return w.rnd.Float64() < p }

// note adds to the trace.
func (w *world) note(what byte, a, b int) {
	var buf [21]byte
	binary.BigEndian.PutUint64(buf[:], uint64(w.now.UnixNano()))
	buf[8] = what
	binary.BigEndian.PutUint32(buf[9:], uint32(a))
	binary.BigEndian.PutUint64(buf[13:], uint64(b))
	w.trace.Write(buf[:])
}

// send brings something from one node to another, or loses it, or brings it
// twice, or late.
func (w *world) send(from, to int, what byte, loss float64, deliver func(n *node)) {
	copies := 1
	if w.chance(w.twice) {
		copies = 2
	}
	for range copies {
		if from != to && (w.chance(loss) || w.divided(from, to)) {
			w.out.Lost++
			continue
		}
		delay := w.between(5*time.Millisecond, 100*time.Millisecond)
		if w.storms && w.chance(0.1) {
			delay += w.between(0, 3*time.Second)
		}
		w.after(delay, func() {
			n := w.nodes[to]
			if n.down || w.divided(from, to) {
				w.out.Lost++
				return
			}
			w.out.Messages++
			w.note(what, from, to)
			deliver(n)
			n.settle()
		})
	}
}

func (w *world) divided(a, b int) bool { return w.side != nil && w.side[a] != w.side[b] }

// crashes plans this act's crashes, of any node, witnesses included.
func (w *world) crashes() {
	for range 2 + w.cfg.Nodes/6 {
		n := w.nodes[w.rnd.IntN(len(w.nodes))]
		w.after(w.between(0, act), func() {
			switch {
			case n.down || !w.storms:
			case w.chance(0.5):
				n.dying, n.survives = true, w.chance(0.5)
			default:
				n.crash()
			}
		})
	}
}

// partitions plans this act's: the nodes are in two groups for a while.
func (w *world) partitions() {
	for range w.rnd.IntN(3) {
		w.after(w.between(0, act), func() {
			side := make([]bool, len(w.nodes))
			for i := range side {
				side[i] = w.chance(0.5)
			}
			w.side = side
			w.after(w.between(3*time.Second, 15*time.Second), func() { w.side = nil })
		})
	}
}

// slotName is a slot as a key.
func slotName(s *proto.Slot) string {
	if a := s.GetAccount(); a != nil {
		return string(binary.BigEndian.AppendUint64([]byte(a.Account), a.Seq))
	}
	return string(binary.BigEndian.AppendUint64([]byte("checkpoint"), s.GetCheckpointEpoch()))
}

func (w *world) seal(by peer.ID, p *proto.Payload) []byte {
	raw, err := proto.Seal(w.people[by].key, w.net.ID, p)
	if err != nil {
		panic(err)
	}
	return raw
}

// add sums outcomes; of times and rounds it keeps the largest.
func (o *Outcome) add(x Outcome) {
	for k, v := range x.Kinds {
		o.Kinds[k] += v
	}
	for _, p := range []struct{ to, from *int }{
		{&o.Crashes, &x.Crashes},
		{&o.Lost, &x.Lost},
		{&o.Sessions, &x.Sessions},
		{&o.Messages, &x.Messages},
		{&o.Slashed, &x.Slashed},
		{&o.Voids, &x.Voids},
		{&o.Closes, &x.Closes},
		{&o.Finals, &x.Finals},
		{&o.Paid, &x.Paid},
		{&o.Claims, &x.Claims},
		{&o.Checkpoints, &x.Checkpoints},
		{&o.Pruned, &x.Pruned},
		{&o.Joined, &x.Joined},
		{&o.Refused, &x.Refused},
		{&o.Misconduct, &x.Misconduct},
		{&o.Skips, &x.Skips},
		{&o.Rotates, &x.Rotates},
		{&o.Bonuses, &x.Bonuses},
		{&o.Uptimes, &x.Uptimes},
		{&o.Referrals, &x.Referrals},
		{&o.Absent, &x.Absent},
		{&o.Misreports, &x.Misreports},
		{&o.Lies, &x.Lies},
		{&o.Slanders, &x.Slanders},
		{&o.Liars, &x.Liars},
		{&o.Asked, &x.Asked},
		{&o.Lights, &x.Lights},
		{&o.Early, &x.Early},
		{&o.Endless, &x.Endless},
	} {
		*p.to += *p.from
	}
	o.Minted += x.Minted
	o.Rounds, o.Took = max(o.Rounds, x.Rounds), max(o.Took, x.Took)
}
