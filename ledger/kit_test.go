package ledger_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// person is a key with its account.
type person struct {
	key crypto.PrivKey
	id  peer.ID
}

// someone derives a person from a name, so that ids and hashes are the same
// in every run.
func someone(name string) person {
	seed := proto.HashOf([]byte("ledger test " + name))
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

// world is a network with its witnesses' keys.
type world struct {
	tb        testing.TB
	net       *proto.Network
	witnesses []person
}

// newWorld makes a network of n witnesses and grants in microcredits.
func newWorld(tb testing.TB, n int, grants map[string]uint64, change ...func(*proto.Genesis)) *world {
	tb.Helper()
	g := &proto.Genesis{Name: "test", Nonce: bytes.Repeat([]byte{7}, 16)}
	w := &world{tb: tb}
	for i := range n {
		p := someone(fmt.Sprintf("witness %d", i))
		w.witnesses = append(w.witnesses, p)
		g.Witnesses = append(g.Witnesses, []byte(p.id))
	}
	for _, name := range sortedKeys(grants) {
		g.Grants = append(g.Grants, &proto.Grant{Account: []byte(someone(name).id), Amount: grants[name]})
	}
	for _, f := range change {
		f(g)
	}
	raw, err := goproto.MarshalOptions{Deterministic: true}.Marshal(g)
	if err != nil {
		tb.Fatal(err)
	}
	if w.net, err = proto.ParseGenesis(raw); err != nil {
		tb.Fatal(err)
	}
	return w
}

func sortedKeys(m map[string]uint64) []string {
	var out []string
	for k := range m {
		i := 0
		for i < len(out) && out[i] < k {
			i++
		}
		out = append(out[:i], append([]string{k}, out[i:]...)...)
	}
	return out
}

// at is the same world, reporting to another test.
func (w *world) at(tb testing.TB) *world {
	c := *w
	c.tb = tb
	return &c
}

func (w *world) ledger() *ledger.Ledger { return w.open(mem.New()) }

func (w *world) open(s ledger.Store) *ledger.Ledger {
	w.tb.Helper()
	l, err := ledger.Open(w.net, s)
	if err != nil {
		w.tb.Fatal(err)
	}
	return l
}

func (w *world) seal(by person, p *proto.Payload) []byte {
	w.tb.Helper()
	raw, err := proto.Seal(by.key, w.net.ID, p)
	if err != nil {
		w.tb.Fatal(err)
	}
	return raw
}

func (w *world) event(by person, ev *proto.Event) []byte {
	w.tb.Helper()
	return w.seal(by, &proto.Payload{Body: &proto.Payload_Event{Event: ev}})
}

// commits are those of the first q witnesses, whatever the event says: what a
// quorum of bad witnesses could sign, too.
func (w *world) commits(raw []byte, round uint32) [][]byte {
	w.tb.Helper()
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		w.tb.Fatal(err)
	}
	ev := s.Payload.GetEvent()
	var out [][]byte
	for _, p := range w.witnesses[:w.net.Quorum()] {
		out = append(out, w.seal(p, &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{
			Slot: ledger.AccountSlot(peer.ID(ev.Account), ev.Seq), Round: round, Id: s.ID.Bytes(),
		}}}))
	}
	return out
}

func (w *world) certify(raw []byte) *proto.CertifiedEvent {
	w.tb.Helper()
	return &proto.CertifiedEvent{Event: raw, Certificate: &proto.Certificate{Commits: w.commits(raw, 0)}}
}

// draft signs and certifies the next event of an account, without adding it.
func (w *world) draft(l *ledger.Ledger, by person, body any) *proto.CertifiedEvent {
	w.tb.Helper()
	ev, err := l.Draft(by.id, l.Epoch(), 1_700_000_000_000, body)
	if err != nil {
		w.tb.Fatal(err)
	}
	return w.certify(w.event(by, ev))
}

// do drafts, certifies and adds an event, and returns it.
func (w *world) do(l *ledger.Ledger, by person, body any) *ledger.Certified {
	w.tb.Helper()
	added, err := l.Add(w.draft(l, by, body))
	if err != nil {
		w.tb.Fatal(err)
	}
	if len(added) != 1 {
		w.tb.Fatalf("%d events became effective, want 1", len(added))
	}
	if a := l.Audit(); !a.Conserved() {
		w.tb.Fatalf("not conserved: %+v", a)
	}
	return added[0]
}

// receive claims everything that waits for an account, opening it if need be.
func (w *world) receive(l *ledger.Ledger, by person) *ledger.Certified {
	w.tb.Helper()
	var sources []*proto.Source
	for _, r := range l.Receivables(by.id) {
		if len(sources) < ledger.MaxSources {
			sources = append(sources, r.Source)
		}
	}
	if !l.Account(by.id).Opened {
		return w.do(l, by, &proto.Open{Sources: sources})
	}
	return w.do(l, by, &proto.Receive{Sources: sources})
}

func (w *world) done(by person, hold cid.Cid, lane uint32, amount uint64) []byte {
	return w.seal(by, &proto.Payload{Body: &proto.Payload_Done{Done: &proto.Done{Hold: hold.Bytes(), Lane: lane, Amount: amount}}})
}

func transfer(to person, amount uint64) *proto.Transfer {
	return &proto.Transfer{To: []byte(to.id), Amount: amount}
}

// all lists the whole set, account by account.
func all(l *ledger.Ledger) []*ledger.Certified {
	var out []*ledger.Certified
	for _, id := range l.Accounts() {
		for seq := uint64(0); ; seq++ {
			c, ok := l.At(id, seq)
			if !ok {
				break
			}
			out = append(out, c)
		}
	}
	return out
}

// witnessed runs an account's next event through a single witness.
type witnessed struct {
	*world
	l     *ledger.Ledger
	w     *ledger.Witness
	store ledger.Store
	key   func(*proto.Payload) ([]byte, error) // signs for the witness
}

var clock = time.Unix(1_700_000_000, 0)

func witnessStore(w *witnessed) *failing { return w.store.(*failing) }

func (w *world) witness(store ledger.Store) *witnessed {
	w.tb.Helper()
	l := w.open(store)
	x := &witnessed{world: w, l: l, store: store}
	x.key = func(p *proto.Payload) ([]byte, error) { return proto.Seal(w.witnesses[0].key, w.net.ID, p) }
	var err error
	x.w, err = ledger.NewWitness(w.net, w.witnesses[0].id, l, store, ledger.WitnessConfig{
		Sign: func(p *proto.Payload) ([]byte, error) { return x.key(p) },
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	return x
}

func (w *world) propose(by person, raw []byte, attachments ...*proto.CertifiedEvent) []byte {
	w.tb.Helper()
	p, err := ledger.NewPropose(raw, attachments)
	if err != nil {
		w.tb.Fatal(err)
	}
	return w.seal(by, p)
}

// handle gives a proposal to the witness, as if a stranger brought it, and
// returns what the stranger is told.
func (w *witnessed) handle(raw []byte) *proto.VoteFrame {
	w.tb.Helper()
	f, err := w.try(raw)
	if err != nil {
		w.tb.Fatal(err)
	}
	return f
}

func (w *witnessed) try(raw []byte) (*proto.VoteFrame, error) {
	from := someone("stranger").id
	outs, err := w.w.Handle(clock, from, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: raw}})
	var told *proto.VoteFrame
	for _, o := range outs {
		if s, ok := o.(ledger.Send); ok && slices.Contains(s.To, from) {
			told = s.Frame
		}
	}
	return told, err
}

func wantCode(tb testing.TB, err error, code proto.Code) {
	tb.Helper()
	if got := proto.CodeOf(err); got != code {
		tb.Fatalf("got %s (%v), want %s", got, err, code)
	}
}

func wantRefusal(tb testing.TB, f *proto.VoteFrame, code proto.Code) *proto.VoteError {
	tb.Helper()
	e := f.GetError()
	if e == nil || proto.Code(e.Code) != code {
		tb.Fatalf("answer %v, want a refusal with %s", f, code)
	}
	return e
}
