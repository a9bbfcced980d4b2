package ledger

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// standing is what checkpoints say about an account beside its balance: its
// reputation, which receipts were held against it, and who referred it.
type standing struct {
	rep      Reputation
	referrer peer.ID   // empty: nobody, or nothing is due any more
	opened   uint64    // epoch of the checkpoint that first saw the account
	fees     uint64    // burned by its payments since
	counted  []counted // in the order in which they were, until they are too old to come again
}

// deed is what one event above the base adds to standings. It counts in the
// epoch of the first checkpoint whose frontier covers the event.
type deed struct {
	account  peer.ID
	seq      uint64
	worker   peer.ID // that was paid for work, or empty
	eligible uint64  // microcredits paid for work at the base price
	staked   bool    // the payer has stake
	fee      uint64  // burned by a settlement
	referrer peer.ID // of an Open
}

// deeds lists what an event adds.
func deeds(c *Certified, e effect) (out []deed) {
	for _, g := range e.gives {
		if g.worker != "" && g.worker != c.Account && e.post.staked > 0 && g.eligible > 0 {
			out = append(out, deed{account: c.Account, seq: c.Seq, worker: g.worker, eligible: g.eligible, staked: true})
		}
	}
	if e.fee > 0 {
		out = append(out, deed{account: c.Account, seq: c.Seq, fee: e.fee})
	}
	if o := c.Event.GetOpen(); len(o.GetReferrer()) > 0 {
		out = append(out, deed{account: c.Account, seq: c.Seq, referrer: peer.ID(o.Referrer)})
	}
	return out
}

func (st standing) leaf(id peer.ID) leaf {
	e := new(encoder)
	e.num(st.rep.Version, st.rep.Valid, st.rep.Invalid)
	e.str(string(st.referrer))
	e.num(st.opened, st.fees)
	if len(st.counted) > 0 { // nothing at all without, as it was before there was evidence
		e.num(uint64(len(st.counted)))
	}
	for _, c := range st.counted {
		e.num(c.epoch)
		e.hash(c.id)
	}
	return leaf{treeReputation, slices.Clone(accountKey(id)), e.b}
}

func (l leaf) standing() (id peer.ID, st standing, err error) {
	if id, err = accountOfKey(l.key); err != nil {
		return id, st, err
	}
	d := &decoder{b: l.value}
	st.rep = Reputation{Version: d.num(), Valid: d.num(), Invalid: d.num()}
	st.referrer, st.opened, st.fees = peer.ID(d.str()), d.num(), d.num()
	if len(d.b) > 0 {
		n := d.list(8 + uint64(len(proto.Hash{})))
		d.bad = d.bad || n == 0
		for range n {
			st.counted = append(st.counted, counted{d.num(), d.hash()})
		}
	}
	return id, st, d.end("a reputation")
}

// segments says in which epoch's checkpoint an event is first covered: an
// account's frontiers since the base, by epoch.
type segments map[peer.ID][]segment

type segment struct{ epoch, next uint64 }

func (s segments) epoch(account peer.ID, seq uint64) (uint64, bool) {
	for _, x := range s[account] {
		if seq < x.next {
			return x.epoch, true
		}
	}
	return 0, false
}

// segments reads the certified checkpoints above the base, up to epoch.
func (l *Ledger) segments(epoch uint64) (segments, error) {
	out := segments{}
	for e := l.base + 1; e <= epoch; e++ {
		h := l.checkpoints[e]
		if h == nil || h.changes == nil {
			return nil, proto.CodeMissing.Errorf("checkpoint %d: its changes are not known here", e)
		}
		for _, c := range h.changes {
			out[c.account] = append(out[c.account], segment{e, c.seq + 1})
		}
	}
	return out, nil
}

// stood is standings at a checkpoint, and what the epoch's referrals earn.
type stood struct {
	all      map[peer.ID]standing
	referral []reward
}

// standings folds deeds into the base's standings, up to the checkpoint of an
// epoch that has the given cut and brings n. Deeds above the cut do not count.
func (l *Ledger) standings(epoch uint64, s *state, cut map[peer.ID]uint64, n news) (stood, error) {
	seg, err := l.segments(min(epoch-1, l.s.newest))
	if err != nil {
		return stood{}, err
	}
	type in struct {
		id    peer.ID
		epoch uint64
	}
	done, fees := map[in][]work{}, map[in]uint64{}
	opens := map[in]peer.ID{}
	for _, d := range s.deeds {
		e, ok := seg.epoch(d.account, d.seq)
		if !ok {
			if d.seq >= cut[d.account] {
				continue
			}
			e = epoch
		}
		switch {
		case d.worker != "":
			k := in{d.worker, e}
			done[k] = append(done[k], work{d.account, d.worker, d.eligible, d.staked})
		case d.referrer != "":
			opens[in{d.account, e}] = d.referrer
		default:
			fees[in{d.account, e}] += d.fee
		}
	}
	wrong := map[in][]wrongWork{}
	for e := l.base + 1; e <= epoch; e++ {
		of := n
		if h := l.checkpoints[e]; e < epoch {
			of = h.news
		}
		list, err := l.wrongs(e, of, false)
		if err != nil {
			return stood{}, err
		}
		for _, w := range list {
			k := in{w.worker, e}
			wrong[k] = append(wrong[k], w)
			if _, ok := done[k]; !ok {
				done[k] = nil
			}
		}
	}
	out := stood{all: maps.Clone(s.standing)}
	if out.all == nil {
		out.all = map[peer.ID]standing{}
	}
	sorted := func(keys []in) []in {
		slices.SortFunc(keys, func(a, b in) int { return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.id, b.id)) })
		return keys
	}
	for k, referrer := range opens {
		x := out.all[k.id]
		x.referrer, x.opened, x.fees = referrer, k.epoch, 0
		out.all[k.id] = x
	}
	for _, k := range sorted(slices.Collect(maps.Keys(done))) {
		x := out.all[k.id]
		invalid := x.count(k.epoch, wrong[k], s.off)
		if len(done[k]) == 0 && invalid == 0 {
			continue
		}
		x.rep = x.rep.next(l.net, k.id, k.epoch, done[k], invalid)
		out.all[k.id] = x
	}
	for id, x := range out.all {
		if len(x.counted) > 0 {
			x.forget(epoch)
			out.all[id] = x
		}
	}
	for _, k := range sorted(slices.Collect(maps.Keys(fees))) {
		x, ok := out.all[k.id]
		if !ok || x.referrer == "" || k.epoch-x.opened >= referralEpochs {
			continue
		}
		before := x.fees
		x.fees = satAdd(x.fees, fees[k])
		out.all[k.id] = x
		if v := referralReward(x.opened, k.epoch, before, x.fees); v > 0 && k.epoch == epoch {
			out.referral = append(out.referral, reward{to: x.referrer, amount: v, referee: k.id})
		}
	}
	slices.SortFunc(out.referral, func(a, b reward) int {
		return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.referee, b.referee))
	})
	return out, nil
}

// leaves lists standings, sorted.
func (s stood) leaves() []leaf {
	out := make([]leaf, 0, len(s.all))
	for id, st := range s.all {
		out = append(out, st.leaf(id))
	}
	slices.SortFunc(out, func(a, b leaf) int { return bytes.Compare(a.key, b.key) })
	return out
}

// newestStandings are those of the newest checkpoint, made once per checkpoint.
func (l *Ledger) newestStandings() map[peer.ID]standing {
	if l.stood == nil {
		n := l.s.newest
		if n == 0 {
			return nil
		}
		cut, err := l.frontier(n)
		if err != nil {
			return l.s.standing // of the base; the rest comes with the changes
		}
		st, err := l.standings(n, &l.s, cut, l.checkpoints[n].news)
		if err != nil {
			return l.s.standing
		}
		l.stood = st.all
	}
	return l.stood
}

// Reputation is an account's register in the newest checkpoint that is known
// with its changes; the zero register for an account without work.
func (l *Ledger) Reputation(id peer.ID) Reputation {
	return l.newestStandings()[id].rep.At(l.net, l.s.newest)
}

// Stakes are what accounts have staked, of those that have.
func (l *Ledger) Stakes() map[peer.ID]proto.Credit {
	stakes := map[peer.ID]proto.Credit{}
	for id, a := range l.s.accounts {
		if a.post.staked > 0 && !a.post.frozen() {
			stakes[id] = proto.Credit(a.post.staked)
		}
	}
	return stakes
}

// Scores are those of all accounts that have one above 0, in ppm, and the
// epoch of the checkpoint that they are from.
func (l *Ledger) Scores() (epoch uint64, scores map[peer.ID]uint64) {
	scores = map[peer.ID]uint64{}
	for id, st := range l.newestStandings() {
		if s := st.rep.At(l.net, l.s.newest).Score(); s > 0 {
			scores[id] = s
		}
	}
	return l.s.newest, scores
}
