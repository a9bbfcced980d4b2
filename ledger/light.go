package ledger

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// The light ledger of a tab: genesis, the newest checkpoints' headers, its own
// chain, and the lanes that others opened for it. What others' events do to the
// account (payments to it, the end of a hold that it works for) it learns from
// the witnesses: what f+1 of them say alike, an honest one says. An own event is
// judged by the rules when it is drafted; once it is certified, a quorum has
// judged it, and its post state counts, whatever this ledger lacks to see why.
//
// Memory and disk stay bounded: of the own chain the newest events stay.

const (
	lightKept        = 256 // own events, and those since the oldest open own hold
	lightCheckpoints = 4
	// MaxWatched bounds the lanes that a light ledger keeps. A request has room
	// for all of them.
	MaxWatched = maxLaneRefs
)

// light is what a light ledger has beside the state.
type light struct {
	reports map[peer.ID]*said      // newest of each witness
	ahead   map[peer.ID]*Certified // where the events that a witness has begin, above the chain
	watched map[proto.Hash]watched
	heard   map[point]note  // of payments that can be claimed
	notes   map[point]noted // of payments that own events claim
}

// watched is another account's hold with a lane for this one.
type watched struct {
	lane   uint32
	events int  // the Hold and its Extends
	gone   bool // f+1 witnesses do not know it
}

// OpenLight is Open for a ledger of one account. A store that a full ledger
// used loses what a light one does not need.
func OpenLight(net *proto.Network, store Store, account peer.ID) (*Ledger, error) {
	l := newLedger(net, store)
	l.s.light = account
	l.light = &light{reports: map[peer.ID]*said{}, ahead: map[peer.ID]*Certified{}, watched: map[proto.Hash]watched{}, notes: map[point]noted{}}
	if err := l.claimStore(); err != nil {
		return nil, err
	}
	chain, batch, err := l.lightChain()
	if err != nil {
		return nil, fmt.Errorf("ledger: replay: %w", err)
	}
	if len(batch) > 0 {
		if err := store.Append(batch...); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
	}
	if err := l.loadCheckpoints(); err != nil {
		return nil, fmt.Errorf("ledger: replay: %w", err)
	}
	if len(chain) > 0 && chain[0].Seq > 0 {
		l.begin(chain[0])
		chain = chain[1:]
	}
	t := newTx(net, &l.s)
	t.trusted = true
	f := l.fold(t, chain)
	if len(t.added) != len(chain) {
		return nil, fmt.Errorf("ledger: replay: the store is damaged: %d of %d events do not follow: %w", len(chain)-len(t.added), len(chain), f.refused)
	}
	t.commit()
	if err := l.loadWatched(); err != nil {
		return nil, fmt.Errorf("ledger: replay: %w", err)
	}
	if err := l.loadNotes(); err != nil {
		return nil, fmt.Errorf("ledger: replay: %w", err)
	}
	if err := l.loadIntents(); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return l, nil
}

// Light reports whether this ledger knows one account only.
func (l *Ledger) Light() bool { return l.s.light != "" }

// lightChain reads the account's newest events without a gap, and what has to
// go from the store.
func (l *Ledger) lightChain() (chain []*Certified, batch []Record, err error) {
	drop := func(key []byte) { batch = append(batch, Record{bytes.Clone(key), nil}) }
	err = l.store.Scan([]byte{spaceEvent}, func(key, value []byte) error {
		wire := new(proto.CertifiedEvent)
		if err := goproto.Unmarshal(value, wire); err != nil {
			return err
		}
		c, err := decode(l.net, wire.Event, false)
		if err != nil {
			return err
		}
		c.Wire = wire
		switch {
		case c.Account != l.s.light:
			drop(key)
		default: // by seq: so the keys are ordered
			if n := len(chain); n > 0 && chain[n-1].Seq+1 != c.Seq {
				for _, old := range chain {
					drop(eventKey(old.Account, old.Seq, old.hash))
				}
				chain = nil
			}
			chain = append(chain, c)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	err = l.store.Scan([]byte{spaceState}, func(key, _ []byte) error {
		drop(key)
		return nil
	})
	drop(metaBase)
	return chain, append(batch, Record{metaLight, []byte{1}}), err
}

// begin makes a certified event the first one that is known of the account:
// its post state says all that a light ledger needs of those before it.
func (l *Ledger) begin(c *Certified) {
	a := &account{id: c.Account, epoch: c.Event.Epoch, post: c.post, chain: []*Certified{c}}
	if old := l.s.accounts[c.Account]; old != nil {
		a.receivable = old.receivable
		for _, x := range old.chain {
			delete(l.s.events, x.hash)
		}
	}
	for id := range l.s.open[c.Account] {
		delete(l.s.holds, id)
	}
	delete(l.s.open, c.Account)
	l.s.accounts[c.Account] = a
	l.s.events[c.hash] = c
	if len(l.s.order) == 0 {
		l.s.order = []peer.ID{c.Account}
	}
	l.hash = proto.Hash{}
}

// vouched is the effect of a certified own event. e and err are what the rules
// make of it here.
func (t *tx) vouched(c *Certified, e effect, err error) effect {
	if err != nil || e.post != c.post {
		e = effect{}
		for _, s := range slices.Concat(c.Event.GetOpen().GetSources(), c.Event.GetReceive().GetSources()) {
			if p, err := pointOf(s); err == nil {
				if r, ok := t.receivable(p); ok && r.to == c.Account {
					e.claims = append(e.claims, p)
				}
			}
		}
	}
	return effect{post: c.post, claims: e.claims, hold: e.hold}
}

// claimed keeps what own events took from being counted again: the reports that
// are here were made before.
func (l *Ledger) claimed(added []*Certified) {
	for _, c := range added {
		for _, s := range slices.Concat(c.Event.GetOpen().GetSources(), c.Event.GetReceive().GetSources()) {
			if p, err := pointOf(s); err == nil {
				for _, r := range l.light.reports {
					delete(r.payables, p)
				}
			}
		}
	}
}

// thin drops what a light ledger needs no more: old own events, closed holds,
// old checkpoints. What it cannot drop now it drops next time.
func (l *Ledger) thin() {
	l.s.deeds = nil
	var batch []Record
	for e := range l.checkpoints {
		if e+lightCheckpoints <= l.s.newest {
			batch = append(batch, Record{checkpointKey(e), nil})
		}
	}
	a := l.s.accounts[l.s.light]
	cut := 0
	if a != nil && len(a.chain) >= 2*lightKept {
		cut = len(a.chain) - lightKept
		for id := range l.s.open[a.id] {
			// The event before it stays, too: the first one only tells the state.
			cut = min(cut, int(l.s.holds[id].events[0].Seq-a.chain[0].Seq)-1)
		}
	}
	if cut = max(cut, 0); cut > 0 {
		for _, c := range a.chain[:cut] {
			batch = append(batch, Record{eventKey(c.Account, c.Seq, c.hash), nil})
		}
		for at, n := range l.light.notes {
			if n.seq < a.chain[cut].Seq {
				batch = append(batch, Record{noteKey(n.seq, at), nil})
			}
		}
	}
	if len(batch) == 0 || l.store.Append(batch...) != nil {
		return
	}
	for e := range l.checkpoints {
		if e+lightCheckpoints <= l.s.newest {
			delete(l.checkpoints, e)
			delete(l.s.figures, e)
		}
	}
	if cut == 0 {
		return
	}
	for _, c := range a.chain[:cut] {
		delete(l.s.events, c.hash)
	}
	a.chain = slices.Clone(a.chain[cut:])
	maps.DeleteFunc(l.light.notes, func(_ point, n noted) bool { return n.seq < a.chain[0].Seq })
	for id, h := range l.s.holds {
		if h.payer == a.id && h.closed && h.events[0].Seq < a.chain[0].Seq {
			delete(l.s.holds, id)
		}
	}
}

// Ask is the next live request for the witnesses, nil for a full ledger. It is
// to be sent as it is, and given to Heard with each answer.
func (l *Ledger) Ask() *proto.ProofRequest {
	if l.s.light == "" {
		return nil
	}
	q := &proto.ProofRequest{Account: []byte(l.s.light), Live: true, Next: l.next(l.s.light), Epoch: l.s.newest}
	ids := slices.SortedFunc(maps.Keys(l.light.watched), compareHashes)
	// Nothing follows what is closed.
	ids = slices.DeleteFunc(ids, func(id proto.Hash) bool { return l.s.holds[id].closed })
	for _, id := range ids {
		q.Lanes = append(q.Lanes, &proto.LaneRef{Hold: id.CID().Bytes(), Lane: l.light.watched[id].lane})
	}
	return q
}

// Heard takes a witness's answer to the request q (see Ask), which came on a
// connection of that witness's own. Certified events and the checkpoint in it
// count by themselves; what it merely says counts as soon as f+1 witnesses say
// it. It returns own events that are new here. An error with a code is the
// witness's fault.
func (l *Ledger) Heard(witness peer.ID, q *proto.ProofRequest, reply *proto.ProofReply) (added []*Certified, err error) {
	if l.s.light == "" || !l.net.IsWitness(witness) {
		return nil, proto.CodeNotWitness.Errorf("report by %s, who is no witness", witness)
	}
	if reply.GetReport() == nil {
		return nil, proto.CodeMalformed.Errorf("a live reply without a report")
	}
	var asked []laneRef
	for _, x := range q.Lanes {
		at, err := pointOf(&proto.Source{Event: x.Hold, Index: x.Lane})
		if err != nil {
			return nil, err
		}
		asked = append(asked, laneRef{at.source, at.index})
	}
	said, err := readReport(reply.Report, l.s.light, asked)
	if err != nil {
		return nil, err
	}
	if c := reply.Checkpoint; c != nil {
		if _, err := l.AddCheckpoint(c); err != nil {
			return nil, err
		}
	}
	if added, err = l.heardEvents(witness, reply.Events); err != nil {
		return added, err
	}
	l.thin()
	if reply.Report.Next == l.next(l.s.light) { // else it does not know what this account claimed, or knows more
		l.light.reports[witness] = said
		l.agree()
	}
	return added, nil
}

// heardEvents adds own events. When f+1 witnesses have those before them no
// more, the chain begins anew: one alone could only withhold them.
func (l *Ledger) heardEvents(witness peer.ID, list []*proto.CertifiedEvent) ([]*Certified, error) {
	var cs []*Certified
	for _, w := range list {
		if s, err := proto.Inspect(w.GetEvent(), proto.KindEvent); err == nil && l.Has(s.ID) {
			continue // one that merely waits may be where the chain begins anew
		}
		c, err := Verify(l.net, w)
		if err != nil {
			return nil, err
		}
		if c.Account != l.s.light {
			return nil, proto.CodeMalformed.Errorf("report: event %s is another account's", c.ID)
		}
		cs = append(cs, c)
	}
	if len(cs) == 0 {
		return nil, nil
	}
	begun, err := l.leap(witness, cs[0])
	if err != nil || cs[0].Seq > l.next(l.s.light) {
		return begun, err
	}
	added, err := l.AddVerified(nil, cs...)
	return slices.Concat(begun, added), err
}

// leap notes that the events of a witness begin above the chain. Once those of
// f+1 do, the chain begins anew at the earliest.
func (l *Ledger) leap(witness peer.ID, first *Certified) ([]*Certified, error) {
	next := l.next(l.s.light)
	l.light.ahead[witness] = first
	var from *Certified
	for _, w := range l.net.Witnesses {
		c := l.light.ahead[w]
		if c != nil && c.Seq <= next {
			delete(l.light.ahead, w)
		} else if c != nil && (from == nil || c.Seq < from.Seq) {
			from = c
		}
	}
	if len(l.light.ahead) <= l.net.F() {
		return nil, nil
	}
	clear(l.light.ahead)
	if err := l.Resume(from); err != nil {
		return nil, err
	}
	return []*Certified{from}, nil
}

// Resume begins the chain of a light ledger anew with a certified event of its
// account that is above all others here, in one durable batch. One that follows
// them is added: then nothing is forgotten.
func (l *Ledger) Resume(c *Certified) error {
	if l.s.light == "" || c.Account != l.s.light || c.Seq < l.next(c.Account) {
		return proto.CodeConflict.Errorf("resume: event %s is not ahead of a light ledger", c.ID)
	}
	if c.Seq == l.next(c.Account) {
		_, err := l.AddVerified(nil, c)
		return err
	}
	value, err := goproto.Marshal(c.Wire)
	if err != nil {
		return fmt.Errorf("ledger: event %s: %w", c.ID, err)
	}
	batch := []Record{{eventKey(c.Account, c.Seq, c.hash), value}}
	if a := l.s.accounts[c.Account]; a != nil {
		for _, x := range a.chain {
			batch = append(batch, Record{eventKey(x.Account, x.Seq, x.hash), nil})
		}
	}
	in := l.intents[c.Account]
	if in != nil && in.seq <= c.Seq {
		batch = append(batch, Record{intentKey(c.Account), nil})
	}
	if err := l.store.Append(batch...); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if in != nil && in.seq <= c.Seq {
		delete(l.intents, c.Account)
	}
	l.begin(c)
	l.forget(c.hash)
	clear(l.light.reports) // what they say can be claimed the events in between may have taken
	l.agree()
	_, err = l.retry(c.hash)
	return err
}

// agree makes state of what f+1 reports say alike.
func (l *Ledger) agree() {
	need := l.net.F() + 1
	type vote struct {
		at point
		v  receivable
	}
	type word struct {
		at point
		n  note
	}
	// What a payment was for is counted by itself: a witness may have pruned it.
	words := map[word]int{}
	l.light.heard = map[point]note{}
	votes, lanes := map[vote]int{}, map[laneRef]map[laneReport]int{}
	for _, r := range l.light.reports {
		for at, n := range r.notes {
			words[word{at, n}]++
			if n != (note{}) && words[word{at, n}] >= need {
				l.light.heard[at] = n
			}
		}
		for at, v := range r.payables {
			votes[vote{at, v}]++
		}
		for at, v := range r.lanes {
			if lanes[at] == nil {
				lanes[at] = map[laneReport]int{}
			}
			lanes[at][v]++
		}
	}
	a := l.s.accounts[l.s.light]
	if a == nil {
		a = &account{id: l.s.light}
		l.s.accounts[a.id] = a
	}
	l.s.points, l.s.inbox, a.receivable = map[point]receivable{}, map[peer.ID]map[point]bool{}, 0
	// Two quorums of f+1 for one point want a bad witness in each: the larger one
	// counts, of equal ones the smaller payment. The order of the reports does not.
	order := slices.SortedFunc(maps.Keys(votes), func(a, b vote) int {
		return cmp.Or(
			comparePoints(a.at, b.at), cmp.Compare(votes[b], votes[a]), cmp.Compare(a.v.amount, b.v.amount),
			cmp.Compare(a.v.eligible, b.v.eligible), cmp.Compare(a.v.from, b.v.from), cmp.Compare(a.v.to, b.v.to),
		)
	})
	for _, x := range order {
		if votes[x] < need || l.s.points[x.at].amount > 0 {
			continue
		}
		if total, err := sum(a.receivable, x.v.amount); err == nil {
			a.receivable = total
			l.s.points[x.at] = x.v
			if l.s.inbox[a.id] == nil {
				l.s.inbox[a.id] = map[point]bool{}
			}
			l.s.inbox[a.id][x.at] = true
		}
	}
	for at, said := range lanes { // each lane by itself
		heard, known := false, false
		last := func(a, b laneReport) int { // what most say has the last word
			return cmp.Or(cmp.Compare(said[a], said[b]), cmp.Compare(a.worker, b.worker))
		}
		for _, v := range slices.SortedFunc(maps.Keys(said), last) {
			if said[v] < need {
				continue
			}
			heard, known = true, known || v.known
			if v.known {
				l.laneSaid(at, v)
			}
		}
		// Some may have forgotten a hold, or not heard of it, that others know.
		if w, ok := l.light.watched[at.hold]; ok && heard && w.lane == at.lane {
			w.gone = !known
			l.light.watched[at.hold] = w
		}
	}
	l.hash = proto.Hash{}
}
