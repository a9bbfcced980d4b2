package ledger_test

import (
	"slices"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"pgregory.net/rapid"
)

// The part of a random history that is about stake, keys and what witnesses
// make.

// weekly makes an epoch as long as the lock, so that three epochs, which need
// no checkpoint, see timers end. κ is large for its length.
func weekly(g *proto.Genesis) { g.EpochSeconds, g.KappaPpm = 7*24*3600, 500_000 }

func recovery(p person) person { return someone("recovery of " + string(p.id)) }

func spare(p person) person { return someone("spare of " + string(p.id)) }

type stake struct {
	staked, unbonding uint64
	offences          int
}

func (h *history) stake(r *rapid.T, p person, epoch, amount uint64) (any, func(*ledger.Certified)) {
	s := h.stakes[p.id]
	kind := rapid.IntRange(0, 3).Draw(r, "stake")
	if s.unbonding > 0 && rapid.Bool().Draw(r, "withdraw") {
		kind = 1
	}
	switch kind {
	case 0:
		amount = min(amount, s.staked+1)
		return ledger.Unstake(amount), func(*ledger.Certified) {
			s.staked -= amount
			s.unbonding += amount
		}
	case 1:
		amount = min(amount, s.unbonding+1)
		until := h.l.Account(p.id).Unbonded
		return ledger.Withdraw(amount), func(*ledger.Certified) {
			if epoch < until {
				r.Fatalf("withdrawn in epoch %d, locked until %d", epoch, until)
			}
			s.unbonding -= amount
			h.owned[p.id] += amount
		}
	}
	return ledger.Stake(amount), func(*ledger.Certified) {
		h.owned[p.id] -= amount
		s.staked += amount
	}
}

func (h *history) rotate(r *rapid.T, p, signer person) (any, person) {
	m := &proto.Rotate{Recovery: rapid.Bool().Draw(r, "by recovery key")}
	if m.Recovery {
		signer = recovery(p)
	}
	switch rapid.IntRange(0, 2).Draw(r, "to") {
	case 0:
		m.Key = []byte(p.id)
	case 1:
		m.Key = []byte(spare(p).id)
	}
	return m, signer
}

// cost is what an author's event burns. Only a Rotate by the recovery key may
// take it from stake.
func (h *history) cost(p person, ev *proto.Event) {
	left := h.net.Genesis.EventCost
	if ev.GetRotate().GetRecovery() {
		s, post := h.stakes[p.id], h.l.Account(p.id)
		left -= s.unbonding - uint64(post.Unbonding) + s.staked - uint64(post.Staked)
		h.burned += s.unbonding - uint64(post.Unbonding) + s.staked - uint64(post.Staked)
		s.unbonding, s.staked = uint64(post.Unbonding), uint64(post.Staked)
		left = min(left, h.owned[p.id]-uint64(post.Avail+post.Held+post.Receivable))
	}
	h.burn(p, left)
}

// witnessed draws a Void, Slash or Close in the account's next place.
func (h *history) witnessed(r *rapid.T, p, signer person) {
	next := h.l.Account(p.id).Seq + 1
	var ev *proto.Event
	var err error
	var then func()
	switch kind := rapid.IntRange(0, 5).Draw(r, "made by witnesses"); kind {
	case 0:
		ev, err = h.l.DraftVoid(p.id, h.skip(signer, p, next))
	case 1:
		ev, err = h.l.DraftVoid(p.id, nil)
	case 2:
		proof := h.forked(r, p, signer, next+uint64(rapid.IntRange(0, 1).Draw(r, "ahead")))
		if proof == nil {
			return
		}
		ev, err = h.l.DraftSlash(proof)
		then = func() {
			s := h.stakes[p.id]
			burn := s.staked + s.unbonding
			if s.offences == 0 {
				burn = burn * 5 / 100
			}
			fromStake := min(burn, s.staked)
			s.staked -= fromStake
			s.unbonding -= burn - fromStake
			s.offences++
			h.burned += burn
		}
	default:
		holds := h.l.Holds(p.id)
		if len(holds) == 0 {
			return
		}
		id := rapid.SampledFrom(holds).Draw(r, "hold").ID
		var lists [][]byte
		lists, then = h.lists(r, p, id)
		ev, err = h.l.DraftClose(id, lists)
		if err != nil {
			r.Fatalf("close: %v", err)
		}
	}
	if err != nil {
		return
	}
	by := rapid.SampledFrom(h.witnesses).Draw(r, "witness")
	added, err := h.l.Add(h.certify(h.event(by, ev)))
	if err != nil || len(added) != 1 {
		r.Fatalf("a drafted event is refused: %d added, %v", len(added), err)
	}
	h.kinds[ledger.KindName(ev)]++
	if then != nil {
		then()
	}
}

// forked is evidence of two events for one place, which need not build on
// anything.
func (h *history) forked(r *rapid.T, p, signer person, seq uint64) []byte {
	post := h.l.History(p.id, 1)[0].Event.Post
	var raw [2][]byte
	for i := range raw {
		raw[i] = h.event(signer, &proto.Event{
			Account: []byte(p.id), Seq: seq, Prev: proto.CIDOf([]byte("prev")).Bytes(), Post: post, AuthorTimeUnixMs: uint64(i),
			Body: &proto.Event_Transfer{Transfer: transfer(frank, 1)},
		})
	}
	proof, err := ledger.NewEvidence(h.net, raw[0], raw[1])
	if err != nil {
		return nil // the key in post is not the one that signs in this epoch
	}
	return proof
}

// lists draws claim lists of a quorum and computes by itself what is due.
func (h *history) lists(r *rapid.T, p person, id cid.Cid) (lists [][]byte, then func()) {
	st, _ := h.l.Hold(id)
	after := append([]lane{}, h.caps[id]...)
	amounts := make([][]uint64, len(after))
	for _, w := range rapid.Permutation(h.witnesses).Draw(r, "lists")[:h.net.Quorum()] {
		m := &proto.ClaimList{Hold: id.Bytes(), DeadlineUnixMs: st.DeadlineUnixMs}
		for i, x := range after {
			if rapid.Bool().Draw(r, "listed") {
				v := rapid.Uint64Range(0, x.cap+2).Draw(r, "claimed")
				m.Entries = append(m.Entries, &proto.ClaimEntry{Lane: uint32(i), Amount: v, Fuel: 60_000 * v})
				amounts[i] = append(amounts[i], v)
			}
		}
		lists = append(lists, h.seal(w, &proto.Payload{Body: &proto.Payload_ClaimList{ClaimList: m}}))
	}
	var before, total uint64
	for i := range after {
		x := &after[i]
		before += x.paid
		for _, v := range amounts[i] {
			votes := 0
			for _, other := range amounts[i] {
				if other >= v {
					votes++
				}
			}
			if votes > h.net.F() && !x.done {
				x.paid = max(x.paid, min(v, x.cap))
			}
		}
		total += x.paid
	}
	return lists, func() {
		ppm := h.net.Genesis.FeePpm
		h.burn(p, uint64(proto.Fee(proto.Credit(total), ppm)-proto.Fee(proto.Credit(before), ppm)))
		for i, x := range after {
			was := h.caps[id][i].paid
			h.owned[p.id] -= x.paid - was
			h.owned[x.worker.id] += x.paid - was
		}
		h.caps[id] = after
		if h, _ := h.l.Hold(id); !h.Closed || slices.ContainsFunc(h.Lanes, func(l ledger.Lane) bool { return l.Paid > l.Cap }) {
			r.Fatalf("after a close: %+v", h)
		}
	}
}

// Laws about random histories say nothing about a kind that is never drawn.
func TestHistoriesHaveEveryKind(t *testing.T) {
	worlds := lawWorlds(t)
	kinds := map[string]int{}
	bonus := false
	for seed := range 150 {
		h := rapid.Custom(func(r *rapid.T) *history {
			return drawHistory(rapid.SampledFrom(worlds).Draw(r, "world"), r, 80)
		}).Example(seed)
		for k, n := range h.kinds {
			kinds[k] += n
		}
		bonus = bonus || h.minted > 0
	}
	t.Log(kinds)
	if !bonus {
		t.Error("no bonus")
	}
	for _, k := range []string{"open", "transfer", "receive", "hold", "extend", "settle", "stake", "unstake", "withdraw", "rotate", "close", "slash", "void"} {
		if kinds[k] < 3 {
			t.Errorf("%d %s", kinds[k], k)
		}
	}
}
