package ledger_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// The files in testdata are the rules of the ledger as a page to read. A line
// is a step; amounts are microcredits. After each step the supply equation is
// checked, light ledgers that hear reports must know the same of their
// accounts, and at the end a second ledger that gets the events backwards, one
// by one, must have the same state.
//
//	grant NAME N               before anything else
//	fee PPM | cost N | opening N
//	witnesses N                from here on they agree on every step's event; there is one otherwise
//	away I | back I            witness I hears and says nothing; is back and reconciles
//	open NAME [RECOVERY]
//	send NAME TO N
//	receive NAME               everything that waits
//	hold NAME AS H BUDGET [WORKER:CAP ...]
//	extend H BUDGET [WORKER:CAP ...]
//	settle H [WORKER:CUMULATIVE[:done] ...] [final]
//	stake NAME N | unstake NAME N | withdraw NAME N
//	rotate NAME KEY [RECOVERY] by the account's key, or by its recovery key
//	twice NAME TO:N TO:N       two events for one place, half of the witnesses see each first
//	skip NAME                  gives up the account's next place
//	claim H WORKER:N           the worker claims what a voucher of the payer promises
//	over H                     deadline and grace are over
//	checkpoint                 everything so far is below it, and pruned
//	restart                    from the store
//	refused CODE STEP...       the step is refused with this code
//	see NAME avail N | held N | pending N | staked N | unbonding N | seq N | last KIND | frozen yes ...
//	see H remaining N | closed
//	burned N
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &scenario{tb: t, grants: map[string]uint64{}, holds: map[string]cid.Cid{}, of: map[string]string{}, count: 1, names: map[peer.ID]person{}}
			for i, line := range strings.Split(string(text), "\n") {
				line, _, _ = strings.Cut(line, "#")
				if words := strings.Fields(line); len(words) > 0 {
					err := s.step(words)
					if err == nil {
						err = s.follow()
					}
					if err != nil {
						t.Fatalf("%s:%d: %s: %v", file, i+1, strings.TrimSpace(line), err)
					}
				}
			}
			s.backwards()
		})
	}
}

type scenario struct {
	tb     testing.TB
	grants map[string]uint64
	change []func(*proto.Genesis)
	w      *world
	store  *mem.Store
	l      *ledger.Ledger
	holds  map[string]cid.Cid
	of     map[string]string // hold to payer
	count  int               // of witnesses
	crowd  *crowd            // nil: one witness, which certifies everything
	names  map[peer.ID]person
	lights map[peer.ID]*follower
}

func (s *scenario) start() {
	if s.l == nil {
		s.w = newWorld(s.tb, s.count, s.grants, s.change...)
		s.store = mem.New()
		s.l = s.w.open(s.store)
		if s.count > 1 {
			s.crowd = s.w.crowd()
		}
	}
}

func number(word string) uint64 {
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%q is no number", word))
	}
	return n
}

func (s *scenario) step(words []string) error {
	switch words[0] {
	case "grant":
		s.grants[words[1]] = number(words[2])
		return nil
	case "witnesses":
		s.count = int(number(words[1]))
		return nil
	case "fee", "cost", "opening":
		n := number(words[1])
		s.change = append(s.change, func(g *proto.Genesis) {
			*map[string]*uint64{"fee": &g.FeePpm, "cost": &g.EventCost, "opening": &g.OpeningCost}[words[0]] = n
		})
		return nil
	}
	s.start()
	switch words[0] {
	case "refused":
		before := s.l.StateHash()
		err := s.step(words[2:])
		if got := proto.CodeOf(err).String(); got != words[1] {
			return fmt.Errorf("%s (%v), want %s", got, err, words[1])
		}
		if s.l.StateHash() != before {
			return fmt.Errorf("a refused step changed the state")
		}
		return nil
	case "restart":
		s.store = s.store.Clone()
		s.l = s.w.open(s.store)
		return nil
	case "see":
		return s.see(words[1], words[2:])
	case "burned":
		if got := uint64(s.l.Audit().Burned); got != number(words[1]) {
			return fmt.Errorf("%d is burned", got)
		}
		return nil
	}
	if done, err := s.act(words); done || err != nil {
		return err
	}
	by, body := s.body(words)
	raw, err := s.sign(by, body)
	if err != nil {
		return err
	}
	c, err := s.certify(raw)
	if err != nil {
		return err
	}
	if !s.l.Audit().Conserved() {
		return fmt.Errorf("audit %+v", s.l.Audit())
	}
	if words[0] == "hold" {
		s.holds[words[3]], s.of[words[3]] = c.ID, by
	}
	return nil
}

func (s *scenario) body(words []string) (by string, body any) {
	lanes := func(list []string) (out []*proto.Lane) {
		for _, x := range list {
			worker, limit, _ := strings.Cut(x, ":")
			out = append(out, &proto.Lane{Worker: []byte(someone(worker).id), Cap: number(limit)})
		}
		return out
	}
	sources := func(name string) (out []*proto.Source) {
		for _, r := range s.l.Receivables(someone(name).id) {
			out = append(out, r.Source)
		}
		return out
	}
	key := func(i int) []byte {
		if i >= len(words) {
			return nil
		}
		return []byte(s.person(words[i]).id)
	}
	switch words[0] {
	case "open":
		return words[1], &proto.Open{Sources: sources(words[1]), RecoveryKey: key(2)}
	case "stake":
		return words[1], ledger.Stake(number(words[2]))
	case "unstake":
		return words[1], ledger.Unstake(number(words[2]))
	case "withdraw":
		return words[1], ledger.Withdraw(number(words[2]))
	case "rotate":
		return words[1], &proto.Rotate{Key: key(2), Recovery: len(words) > 3}
	case "send":
		return words[1], transfer(someone(words[2]), number(words[3]))
	case "receive":
		return words[1], &proto.Receive{Sources: sources(words[1])}
	case "hold":
		return words[1], &proto.Hold{Job: job(1), DeadlineUnixMs: s.deadline(), Budget: number(words[4]), Lanes: lanes(words[5:])}
	case "extend":
		return s.of[words[1]], &proto.Extend{Hold: s.holds[words[1]].Bytes(), Budget: number(words[2]), Lanes: lanes(words[3:])}
	case "settle":
		m := &proto.Settle{Hold: s.holds[words[1]].Bytes()}
		h, _ := s.l.Hold(s.holds[words[1]])
		for _, x := range words[2:] {
			if x == "final" {
				m.Final = true
				continue
			}
			part := strings.Split(x, ":")
			worker := someone(part[0])
			n, lane, ok := h.Lane(worker.id)
			if !ok {
				panic("no lane for " + part[0])
			}
			pay := &proto.LanePay{Lane: n, Amount: number(part[1])}
			if len(part) == 3 {
				pay.Done = s.w.done(worker, h.ID, n, max(pay.Amount, uint64(lane.Paid)))
			}
			m.Pays = append(m.Pays, pay)
		}
		return s.of[words[1]], m
	}
	panic("no step " + words[0])
}

func (s *scenario) see(name string, want []string) error {
	if id, ok := s.holds[name]; ok {
		h, _ := s.l.Hold(id)
		if want[0] == "closed" {
			if !h.Closed {
				return fmt.Errorf("it is open")
			}
			return nil
		}
		if uint64(h.Remaining) != number(want[1]) {
			return fmt.Errorf("remaining is %d", uint64(h.Remaining))
		}
		return nil
	}
	a := s.l.Account(someone(name).id)
	for i := 0; i < len(want); i += 2 {
		switch want[i] {
		case "last":
			h := s.l.History(someone(name).id, 1)
			kind := "nothing"
			if len(h) > 0 {
				kind, _, _ = s.l.Describe(h[0])
			}
			if kind != want[i+1] {
				return fmt.Errorf("the newest event is %s", kind)
			}
			continue
		case "frozen":
			if a.Frozen != (want[i+1] == "yes") {
				return fmt.Errorf("frozen is %v", a.Frozen)
			}
			continue
		}
		got, ok := map[string]proto.Credit{"avail": a.Avail, "held": a.Held, "pending": a.Receivable, "staked": a.Staked, "unbonding": a.Unbonding, "seq": proto.Credit(a.Seq)}[want[i]]
		if !ok {
			return fmt.Errorf("no %q to see", want[i])
		}
		if uint64(got) != number(want[i+1]) {
			return fmt.Errorf("%s is %d", want[i], uint64(got))
		}
	}
	return nil
}

// backwards also lets a new node join, when the past is pruned here.
func (s *scenario) backwards() {
	if s.l.Base() > 0 {
		l := s.w.ledger()
		session(s.tb, l, s.l)
		if l.StateHash() != s.l.StateHash() {
			s.tb.Fatal("a node that joins has another state")
		}
		return
	}
	l := s.w.ledger()
	set := all(s.l)
	for i := range set {
		fill(s.tb, l, set[len(set)-1-i])
	}
	if l.StateHash() != s.l.StateHash() {
		s.tb.Fatal("the events backwards give another state")
	}
}
