package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// Waiting is a signed event of an account that is on this node's disk and not
// certified yet. The node proposes it until it is, or another event has its
// place.
type Waiting struct {
	ID           cid.Cid
	Seq          uint64
	Kind         string
	Counterparty peer.ID // "" unless there is exactly one
	Change       int64   // of what can be spent once it is certified, microcredits
	Event        *proto.Event
}

// Waiting reads the account's event that waits for the witnesses, if there is
// one.
func (n *Node) Waiting(account peer.ID) (Waiting, bool) {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	raw, ok := n.wallet.l.Intent(account)
	if !ok {
		return Waiting{}, false
	}
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		return Waiting{}, false
	}
	ev := s.Payload.GetEvent()
	w := Waiting{ID: s.ID, Seq: ev.Seq, Event: ev, Change: int64(ev.GetPost().GetAvail()) - int64(n.wallet.l.Account(account).Avail)}
	w.Kind, w.Counterparty, _ = n.wallet.l.Describe(&ledger.Certified{Event: ev, Account: account, Seq: ev.Seq})
	return w, true
}

// StakeChange is the change of what an event's account has staked and
// unbonding, in microcredits.
func (n *Node) StakeChange(c *ledger.Certified) (staked, unbonding int64) {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	return n.wallet.l.StakeChange(c)
}

// Books are a ledger at one moment: the terms of the supply equation, each
// summed on its own, and what they were summed over.
type Books struct {
	ledger.Audit
	StateHash proto.Hash        // equal on nodes that hold equal sets
	Events    int               // certified events in the set
	Accounts  int               // that have events
	Kinds     map[string]uint64 // events above the base checkpoint and of chains that are kept whole, by kind
	Pending   int               // certified events that wait for others and are in no sum
	Epoch     uint64            // of the newest checkpoint
	Base      uint64            // epoch of the checkpoint below which events are pruned
}

// BooksOf reads a ledger that nobody else uses meanwhile.
func BooksOf(l *ledger.Ledger) Books {
	b := Books{
		Audit: l.Audit(), StateHash: l.StateHash(), Events: l.Len(), Kinds: map[string]uint64{},
		Pending: l.Pending(), Epoch: l.Epoch(), Base: l.Base(),
	}
	accounts := l.Accounts()
	b.Accounts = len(accounts)
	for _, id := range accounts {
		for _, c := range l.History(id, b.Events) {
			kind, _, _ := l.Describe(c)
			b.Kinds[kind]++
		}
	}
	return b
}

// Books reads this node's ledger.
func (n *Node) Books() Books {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	return BooksOf(n.wallet.l)
}

// Backup writes a copy of the ledger's store into the new directory dir while
// the node runs: the store as it was at one moment during the call. It fails
// when the store cannot be copied, as one in memory.
func (n *Node) Backup(dir string) error {
	b, ok := n.store.(interface{ Backup(dir string) error })
	if !ok {
		return proto.CodeNotFound.Errorf("backup: this node's ledger is not on disk")
	}
	if err := b.Backup(dir); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// HistoryEntry is one event of an account as its owner reads it.
type HistoryEntry struct {
	*ledger.Certified
	Kind         string
	Counterparty peer.ID          // "" unless there is exactly one
	Change       int64            // of what can be spent, microcredits
	Held         int64            // change of what is held, microcredits
	Payments     []ledger.Payment // that an open or receive claims
}

// Memo is what a transfer says, or what those say that the event claims.
func (e HistoryEntry) Memo() string {
	if t := e.Event.GetTransfer(); t != nil {
		return t.Memo
	}
	var said []string
	for _, p := range e.Payments {
		if p.Memo != "" && !slices.Contains(said, p.Memo) {
			said = append(said, p.Memo)
		}
	}
	return strings.Join(said, "; ")
}

// Income sums what this account's events from seq on claimed, by kind of payment
// ("work", "reward", "transfer"), bonuses with the payment that they belong to,
// and tells from which seq to go on. Holds and what comes back of them are none.
func (n *Node) Income(seq uint64) (by map[string]proto.Credit, next uint64) {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	l := n.wallet.l
	by, next = map[string]proto.Credit{}, seq
	if a := l.Account(n.self); a.Head.Defined() {
		next = a.Seq + 1
	}
	for at := seq; at < next; at++ {
		c, ok := l.At(n.self, at)
		if !ok {
			continue
		}
		for _, p := range l.Payments(c) {
			kind := p.Kind
			if kind == "" { // not known any more; most payments are for work
				kind = ledger.Worked
			}
			by[kind] += p.Amount + p.Bonus
		}
	}
	return by, next
}

// Witnesses are those whose commits certify the event.
func (e HistoryEntry) Witnesses() []peer.ID {
	var out []peer.ID
	for _, raw := range e.Wire.GetCertificate().GetCommits() {
		if s, err := proto.Inspect(raw, proto.KindCommit); err == nil {
			out = append(out, s.Signer)
		}
	}
	return out
}

// History lists an account's events, newest first.
func (n *Node) History(id peer.ID, limit int) []HistoryEntry {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	var out []HistoryEntry
	for _, c := range n.wallet.l.History(id, limit) {
		e := HistoryEntry{Certified: c, Held: n.wallet.l.HeldChange(c), Payments: n.wallet.l.Payments(c)}
		e.Kind, e.Counterparty, e.Change = n.wallet.l.Describe(c)
		if e.Counterparty == "" && len(e.Payments) > 0 { // a light ledger has no event of others
			from := e.Payments[0].From
			if !slices.ContainsFunc(e.Payments, func(p ledger.Payment) bool { return p.From != from }) {
				e.Counterparty = from
			}
		}
		out = append(out, e)
	}
	return out
}

// Audit sums every term of the conservation law on its own.
func (n *Node) Audit() ledger.Audit {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	return n.wallet.l.Audit()
}

// Accounts is the number of accounts that have events.
func (n *Node) Accounts() int {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	return len(n.wallet.l.Accounts())
}

// StateHash is equal on nodes whose ledgers hold equal sets.
func (n *Node) StateHash() proto.Hash {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	return n.wallet.l.StateHash()
}

// Events is the number of certified events this node holds.
func (n *Node) Events() int {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	return n.wallet.l.Len()
}
