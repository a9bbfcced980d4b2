package ledger

import (
	"bytes"
	"cmp"
	"slices"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Account is an account's state in the effective set.
type Account struct {
	Seq         uint64  // of the head; 0 also when not opened
	Head        cid.Cid // undefined when not opened
	Opened      bool
	Avail       proto.Credit // can be spent; a grant counts before Open
	Held        proto.Credit // in open holds
	Staked      proto.Credit
	Unbonding   proto.Credit
	Receivable  proto.Credit // paid to the account, to be claimed by Receive
	Epoch       uint64       // of the head
	Unbonded    uint64       // first epoch that can withdraw what is unbonding; 0 when nothing is
	Frozen      bool         // slashed; only a Rotate by the recovery key helps
	Key         peer.ID      // signs the account's events
	PendingKey  peer.ID      // signs them from PendingFrom on; empty when none waits
	PendingFrom uint64
	Recovery    peer.ID // empty when there is none
	Offences    int     // that were slashed
}

// Receivable is a payment that its owner has not claimed.
type Receivable struct {
	Source *proto.Source // for a Receive or Open
	From   peer.ID
	Amount proto.Credit
}

// Account reads an account; one that was never seen is empty.
func (l *Ledger) Account(id peer.ID) Account {
	a := l.s.accounts[id]
	if a == nil {
		return Account{}
	}
	out := Account{
		Avail: proto.Credit(a.post.avail), Held: proto.Credit(a.post.held), Staked: proto.Credit(a.post.staked),
		Unbonding: proto.Credit(a.post.unbonding), Receivable: proto.Credit(a.receivable), Epoch: a.epoch, Unbonded: l.unbonded(a),
		Frozen: a.post.frozen(), Key: l.Signer(id, a.epoch), PendingKey: peer.ID(a.post.pendingKey), PendingFrom: a.post.pendingEpoch,
		Recovery: peer.ID(a.post.recoveryKey), Offences: len(a.post.slashed) / 8,
	}
	if h := a.head(); h != nil {
		out.Seq, out.Head, out.Opened = h.Seq, h.ID, a.post.flags&flagUnopened == 0
	}
	return out
}

// Accounts lists every account that has events, in the order of their keys.
func (l *Ledger) Accounts() []peer.ID { return slices.Clone(l.s.order) }

// Receivables lists what an account can claim, by source id and index. A
// Receive takes at most MaxSources of them.
func (l *Ledger) Receivables(id peer.ID) []Receivable {
	points := make([]point, 0, len(l.s.inbox[id]))
	for p := range l.s.inbox[id] {
		points = append(points, p)
	}
	slices.SortFunc(points, comparePoints)
	out := make([]Receivable, len(points))
	for i, p := range points {
		r := l.s.points[p]
		out[i] = Receivable{
			Source: &proto.Source{Event: p.source.CID().Bytes(), Index: p.index, Amount: r.amount},
			From:   r.from, Amount: proto.Credit(r.amount),
		}
	}
	return out
}

func comparePoints(a, b point) int {
	return cmp.Or(bytes.Compare(a.source[:], b.source[:]), cmp.Compare(a.index, b.index))
}

// Get finds an event of the set.
func (l *Ledger) Get(id cid.Cid) (*Certified, bool) {
	h, err := proto.CIDHash(id)
	if err != nil {
		return nil, false
	}
	c := l.s.events[h]
	return c, c != nil
}

// Has reports whether the set holds an event.
func (l *Ledger) Has(id cid.Cid) bool {
	_, ok := l.Get(id)
	return ok
}

// Len is the number of events in the set.
func (l *Ledger) Len() int { return len(l.s.events) }

// Pending is the number of certified events that wait for their prev or
// sources. They are not in the set and not in the store.
func (l *Ledger) Pending() int { return len(l.pending) }

// At finds the event at a place of an account's chain.
func (l *Ledger) At(account peer.ID, seq uint64) (*Certified, bool) {
	a := l.s.accounts[account]
	if a == nil {
		return nil, false
	}
	c := a.at(seq)
	return c, c != nil
}

// Hold reads a hold, open or closed.
func (l *Ledger) Hold(id cid.Cid) (HoldState, bool) {
	h := l.hold(id)
	if h == nil {
		return HoldState{}, false
	}
	return l.lightState(h), true
}

func (l *Ledger) hold(id cid.Cid) *hold {
	key, err := proto.CIDHash(id)
	if err != nil {
		return nil
	}
	return l.s.holds[key]
}

// Holds lists a payer's open holds in the order they were made.
func (l *Ledger) Holds(payer peer.ID) []HoldState {
	var open []*hold
	for id := range l.s.open[payer] {
		open = append(open, l.s.holds[id])
	}
	slices.SortFunc(open, func(a, b *hold) int { return cmp.Compare(a.events[0].Seq, b.events[0].Seq) })
	out := make([]HoldState, len(open))
	for i, h := range open {
		out[i] = h.state(l.net)
	}
	return out
}

// HoldEvents lists a Hold and its Extends in order: what VerifyLane needs at
// a worker that has none of the payer's chain.
func (l *Ledger) HoldEvents(id cid.Cid) []*Certified {
	h := l.hold(id)
	if h == nil {
		return nil
	}
	return slices.Clone(h.events)
}

// History lists an account's own events, newest first, at most limit. Events
// below the base checkpoint are there for the accounts that Prune keeps.
func (l *Ledger) History(id peer.ID, limit int) []*Certified {
	a := l.s.accounts[id]
	if a == nil || limit <= 0 {
		return nil
	}
	chain := a.chain
	if len(chain) > 0 && chain[0].Seq > 0 {
		chain = chain[1:] // what it changed is not known without the event before
	}
	out := slices.Clone(chain[max(0, len(chain)-limit):])
	slices.Reverse(out)
	return out
}

// kindName is the wire name of an event's kind.
func kindName(ev *proto.Event) string {
	switch ev.GetBody().(type) {
	case *proto.Event_Open:
		return "open"
	case *proto.Event_Transfer:
		return "transfer"
	case *proto.Event_Receive:
		return "receive"
	case *proto.Event_Hold:
		return "hold"
	case *proto.Event_Extend:
		return "extend"
	case *proto.Event_Settle:
		return "settle"
	case *proto.Event_Stake:
		return "stake"
	case *proto.Event_Unstake:
		return "unstake"
	case *proto.Event_Withdraw:
		return "withdraw"
	case *proto.Event_Rotate:
		return "rotate"
	case *proto.Event_Close:
		return "close"
	case *proto.Event_Slash:
		return "slash"
	case *proto.Event_Void:
		return "void"
	}
	return "unknown"
}

// Describe explains an event of the set for a wallet's history: its kind
// ("open", "transfer", "receive", "hold", "extend", "settle", "stake",
// "unstake", "withdraw", "rotate", "close", "slash", "void"), the other party
// when there is exactly one, and the change of what the account can spend, in
// microcredits. Changes of one account's events add up to Avail minus its
// grant.
func (l *Ledger) Describe(c *Certified) (kind string, counterparty peer.ID, change int64) {
	before := l.postBefore(c)
	return kindName(c.Event), l.counterparty(c), int64(c.post.avail) - int64(before.avail)
}

// HeldChange is the change of what the account holds, in microcredits.
func (l *Ledger) HeldChange(c *Certified) int64 {
	return int64(c.post.held) - int64(l.postBefore(c).held)
}

// StakeChange is the change of what the account has staked and unbonding, in
// microcredits.
func (l *Ledger) StakeChange(c *Certified) (staked, unbonding int64) {
	before := l.postBefore(c)
	return int64(c.post.staked) - int64(before.staked), int64(c.post.unbonding) - int64(before.unbonding)
}

// Bonus is what an event minted for its account.
func (c *Certified) Bonus() proto.Credit {
	var total proto.Credit
	for _, s := range slices.Concat(c.Event.GetOpen().GetSources(), c.Event.GetReceive().GetSources()) {
		total += proto.Credit(s.GetBonus())
	}
	return total
}

func (l *Ledger) postBefore(c *Certified) post {
	if c.Seq == 0 {
		return post{avail: uint64(l.net.Grants[c.Account])}
	}
	if prev, ok := l.At(c.Account, c.Seq-1); ok {
		return prev.post
	}
	return post{}
}

func (l *Ledger) counterparty(c *Certified) peer.ID {
	parties := map[peer.ID]bool{}
	sources := func(list []*proto.Source) {
		for _, s := range list {
			if p, err := pointOf(s); err == nil {
				if e := l.s.events[p.source]; e != nil {
					parties[e.Account] = true
				}
			}
		}
	}
	payees := func(hold []byte, pays []*proto.LanePay) {
		id, err := proto.ParseCID(hold)
		if err != nil {
			return
		}
		if h := l.hold(id); h != nil {
			for _, p := range pays {
				if int(p.Lane) < len(h.lanes) {
					parties[h.lanes[p.Lane].Payee] = true
				}
			}
		}
	}
	switch b := c.Event.Body.(type) {
	case *proto.Event_Transfer:
		return peer.ID(b.Transfer.To)
	case *proto.Event_Open:
		sources(b.Open.Sources)
	case *proto.Event_Receive:
		sources(b.Receive.Sources)
	case *proto.Event_Hold:
		for _, x := range b.Hold.Lanes {
			parties[peer.ID(x.Worker)] = true
		}
	case *proto.Event_Extend:
		for _, x := range b.Extend.Lanes {
			parties[peer.ID(x.Worker)] = true
		}
	case *proto.Event_Settle:
		payees(b.Settle.Hold, b.Settle.Pays)
	case *proto.Event_Close:
		payees(b.Close.Hold, b.Close.Payouts)
	}
	if len(parties) != 1 {
		return ""
	}
	for id := range parties {
		return id
	}
	return ""
}
