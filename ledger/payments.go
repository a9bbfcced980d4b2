package ledger

import (
	"encoding/binary"
	"slices"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// What an Open or Receive claims, as its payee reads it. A full ledger finds it in
// the events that paid. A light one has no events of others: what the witnesses
// say alike of a payment it keeps with its own event that claims it.

// Kinds of payments.
const (
	Sent     = "transfer"
	Worked   = "work"
	Rewarded = "reward"
)

// Payment is one that an account claimed.
type Payment struct {
	Source cid.Cid // of an event, or of the checkpoint that paid a reward
	Index  uint32
	From   peer.ID // "" for a reward, and when it is not known any more
	Kind   string  // "" when it is not known any more
	Amount proto.Credit
	Bonus  proto.Credit // minted beside it
	Memo   string
}

// note is what a light ledger knows of another's payment.
type note struct {
	kind uint32 // as in proto.Payable
	memo string
}

// noted is a note of a payment that an own event claims.
type noted struct {
	note
	from peer.ID
	seq  uint64 // of the event
}

// maxNotes bounds what a light ledger keeps of payments: others make them for next
// to nothing. The oldest go first.
const maxNotes = 1024

var paymentKinds = []string{"", Sent, Worked, Rewarded}

// noteOf is what this ledger can tell of a payment that was not claimed.
func (l *Ledger) noteOf(at point) note {
	if l.s.points[at].from == "" {
		return note{kind: 3}
	}
	c := l.s.events[at.source]
	switch {
	case c == nil:
		return note{}
	case c.Event.GetTransfer() != nil:
		return note{1, c.Event.GetTransfer().Memo}
	}
	return note{kind: 2}
}

// Payments lists what an Open or Receive claims, in its order.
func (l *Ledger) Payments(c *Certified) []Payment {
	var out []Payment
	for _, s := range slices.Concat(c.Event.GetOpen().GetSources(), c.Event.GetReceive().GetSources()) {
		at, err := pointOf(s)
		if err != nil {
			continue
		}
		p := Payment{Source: at.source.CID(), Index: at.index, Amount: proto.Credit(s.Amount), Bonus: proto.Credit(s.Bonus)}
		if e := l.s.events[at.source]; e != nil {
			p.From, p.Kind = e.Account, Worked
			if t := e.Event.GetTransfer(); t != nil {
				p.Kind, p.Memo = Sent, t.Memo
			}
			if h, err := proto.ParseCID(e.Event.GetClose().GetHold()); err == nil && l.hold(h) != nil {
				p.From = l.hold(h).payer
			}
		} else if l.light != nil {
			if n, ok := l.light.notes[at]; ok {
				p.From, p.Memo = n.from, n.memo
				p.Kind = paymentKinds[min(int(n.kind), len(paymentKinds)-1)]
			}
		} else if l.isCheckpoint(at.source) {
			p.Kind = Rewarded
		}
		out = append(out, p)
	}
	return out
}

func (l *Ledger) isCheckpoint(h proto.Hash) bool {
	for _, c := range l.checkpoints {
		if id, err := proto.CIDHash(c.ID); err == nil && id == h {
			return true
		}
	}
	return false
}

func noteKey(seq uint64, at point) []byte {
	b := binary.BigEndian.AppendUint64([]byte{spaceNote}, seq)
	return binary.BigEndian.AppendUint32(append(b, at.source[:]...), at.index)
}

// keepNotes is what to store of the payments that an own event claims, before it
// is proposed: afterwards the witnesses tell no more of them. done makes it known.
func (l *Ledger) keepNotes(c *Certified) (batch []Record, done func(), err error) {
	if l.light == nil {
		return nil, func() {}, nil
	}
	fresh := map[point]noted{}
	for _, s := range slices.Concat(c.Event.GetOpen().GetSources(), c.Event.GetReceive().GetSources()) {
		at, err := pointOf(s)
		if err != nil {
			return nil, nil, err
		}
		heard, ok := l.light.heard[at]
		if !ok {
			continue
		}
		n := noted{heard, l.s.points[at].from, c.Seq}
		value, err := goproto.Marshal(&proto.Payable{From: []byte(n.from), Memo: n.memo, Kind: n.kind})
		if err != nil {
			return nil, nil, err
		}
		fresh[at] = n
		batch = append(batch, Record{noteKey(c.Seq, at), value})
	}
	gone := l.oldestNotes(len(l.light.notes) + len(fresh) - maxNotes)
	for _, at := range gone {
		batch = append(batch, Record{noteKey(l.light.notes[at].seq, at), nil})
	}
	return batch, func() {
		for _, at := range gone {
			delete(l.light.notes, at)
		}
		for at, n := range fresh {
			l.light.notes[at] = n
		}
	}, nil
}

// oldestNotes are n of the notes whose events are the oldest.
func (l *Ledger) oldestNotes(n int) []point {
	if n <= 0 {
		return nil
	}
	list := make([]point, 0, len(l.light.notes))
	for at := range l.light.notes {
		list = append(list, at)
	}
	slices.SortFunc(list, func(a, b point) int {
		if x, y := l.light.notes[a].seq, l.light.notes[b].seq; x != y {
			if x < y {
				return -1
			}
			return 1
		}
		return comparePoints(a, b)
	})
	return list[:min(n, len(list))]
}

func (l *Ledger) loadNotes() error {
	return l.store.Scan([]byte{spaceNote}, func(key, value []byte) error {
		p := new(proto.Payable)
		if err := goproto.Unmarshal(value, p); err != nil || len(key) != 1+8+32+4 {
			return proto.CodeMalformed.Errorf("a note of a payment: %v", err)
		}
		at := point{index: binary.BigEndian.Uint32(key[41:])}
		copy(at.source[:], key[9:41])
		l.light.notes[at] = noted{note{p.Kind, p.Memo}, peer.ID(p.From), binary.BigEndian.Uint64(key[1:9])}
		return nil
	})
}
