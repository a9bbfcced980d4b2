package ledger_test

import (
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// crowd is all witnesses of a world, with one clock and messages that arrive at
// once.
type crowd struct {
	*world
	ledgers  []*ledger.Ledger
	machines []*ledger.Witness
	away     map[int]bool // hear and say nothing
	now      time.Time
	told     map[peer.ID][]*proto.VoteFrame // what others are told
}

func (w *world) crowd() *crowd {
	c := &crowd{world: w, away: map[int]bool{}, now: clock, told: map[peer.ID][]*proto.VoteFrame{}}
	for _, p := range w.witnesses {
		store := mem.New()
		l := w.open(store)
		m, err := ledger.NewWitness(w.net, p.id, l, store, ledger.WitnessConfig{
			Sign: func(b *proto.Payload) ([]byte, error) { return proto.Seal(p.key, w.net.ID, b) },
		})
		if err != nil {
			w.tb.Fatal(err)
		}
		c.ledgers, c.machines = append(c.ledgers, l), append(c.machines, m)
	}
	return c
}

// mailed is a frame on its way to a witness.
type mailed struct {
	to   int
	from peer.ID
	f    *proto.VoteFrame
}

// hand gives a frame to one witness and passes on all that follows from it.
func (c *crowd) hand(to int, from peer.ID, f *proto.VoteFrame) { c.pass([]mailed{{to, from, f}}) }

func (c *crowd) pass(mail []mailed) {
	for len(mail) > 0 {
		x := mail[0]
		mail = mail[1:]
		if c.away[x.to] {
			continue
		}
		outs, err := c.machines[x.to].Handle(c.now, x.from, x.f)
		if err != nil {
			c.tb.Fatal(err)
		}
		mail = append(mail, c.letters(x.to, outs)...)
	}
}

// letters are what a witness sends to others; what it tells strangers is kept.
func (c *crowd) letters(by int, outs []ledger.Output) (mail []mailed) {
	for _, o := range outs {
		s, ok := o.(ledger.Send)
		if !ok {
			continue
		}
		for _, id := range s.To {
			known := false
			for i, p := range c.witnesses {
				if p.id == id {
					known = true
					mail = append(mail, mailed{i, c.witnesses[by].id, s.Frame})
				}
			}
			if !known {
				c.told[id] = append(c.told[id], s.Frame)
			}
		}
	}
	return mail
}

// later lets time go by.
func (c *crowd) later(d time.Duration) {
	c.now = c.now.Add(d)
	for i, m := range c.machines {
		if c.away[i] {
			continue
		}
		outs, err := m.Tick(c.now)
		if err != nil {
			c.tb.Fatal(err)
		}
		c.pass(c.letters(i, outs))
	}
}

// present is a witness that is there.
func (c *crowd) present() int {
	for i := range c.machines {
		if !c.away[i] {
			return i
		}
	}
	panic("all witnesses are away")
}
