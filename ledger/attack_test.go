package ledger_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

// What a peer can send without a quorum's keys never gets into the set.
func TestForgeriesAreRefused(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 10 * credit})
	foreign := newWorld(t, 4, map[string]uint64{"alice": 11 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	good := w.draft(l, alice, transfer(bob, credit))
	ev, err := l.Draft(alice.id, 0, 0, transfer(carol, credit))
	if err != nil {
		t.Fatal(err)
	}
	other := w.event(alice, ev)
	flip := func(b []byte, at int) []byte {
		b = slices.Clone(b)
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
	cert := func(commits ...[]byte) *proto.Certificate { return &proto.Certificate{Commits: commits} }
	c := good.Certificate.Commits
	laterRound := w.commits(good.Event, 1)
	for name, x := range map[string]*proto.CertifiedEvent{
		"no certificate":                {Event: good.Event},
		"an empty certificate":          {Event: good.Event, Certificate: cert()},
		"two of four":                   {Event: good.Event, Certificate: cert(c[:2]...)},
		"one witness three times":       {Event: good.Event, Certificate: cert(c[0], c[0], c[0])},
		"commits of two rounds":         {Event: good.Event, Certificate: cert(c[0], c[1], laterRound[2])},
		"another event's certificate":   {Event: other, Certificate: good.Certificate},
		"another slot's certificate":    {Event: good.Event, Certificate: l.History(alice.id, 1)[0].Wire.Certificate},
		"a changed commit":              {Event: good.Event, Certificate: cert(c[0], c[1], flip(c[2], -1))},
		"a changed event":               {Event: flip(good.Event, 60), Certificate: good.Certificate},
		"a changed signature":           {Event: flip(good.Event, -1), Certificate: good.Certificate},
		"a certificate of strangers":    {Event: good.Event, Certificate: strangers(w, good.Event)},
		"the account's own quorum":      {Event: good.Event, Certificate: cert(c[0], c[1], c[2], c[0], c[1])},
		"another network's event":       foreign.certify(foreign.event(alice, ev)),
		"another network's certificate": {Event: good.Event, Certificate: foreign.certify(good.Event).Certificate},
		"another signer's event":        w.certify(w.event(bob, ev)),
		"prepares instead of commits":   {Event: good.Event, Certificate: prepares(w, good.Event)},
		"nothing":                       nil,
	} {
		if added, err := l.Add(x); err == nil || len(added) > 0 {
			t.Errorf("%s: accepted", name)
		}
	}
	if l.Len() != 1 || l.Pending() != 0 {
		t.Fatalf("%d events and %d pending after forgeries", l.Len(), l.Pending())
	}
	if _, err := l.Add(good); err != nil {
		t.Fatal(err)
	}
}

func strangers(w *world, raw []byte) *proto.Certificate {
	x := &world{tb: w.tb, net: w.net, witnesses: []person{alice, bob, carol, dave}}
	return x.certify(raw).Certificate
}

func prepares(w *world, raw []byte) *proto.Certificate {
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		w.tb.Fatal(err)
	}
	out := new(proto.Certificate)
	for _, p := range w.witnesses[:w.net.Quorum()] {
		out.Commits = append(out.Commits, w.seal(p, &proto.Payload{Body: &proto.Payload_Prepare{Prepare: &proto.Prepare{
			Slot: ledger.AccountSlot(alice.id, s.Payload.GetEvent().Seq), Id: s.ID.Bytes(),
		}}}))
	}
	return out
}

// Even certified, an event that breaks a rule has no effect: a witness quorum
// cannot mint, spend what is not there or take what is another's.
func TestRulesBindWitnesses(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit, "bob": credit},
		func(g *proto.Genesis) { g.MinTransfer = 5 })
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	w.do(l, bob, &proto.Open{})
	toBob := w.do(l, alice, transfer(bob, credit))
	hold := w.do(l, alice, &proto.Hold{Job: job(1), Budget: 2 * credit, DeadlineUnixMs: 5, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: credit}}})
	avail := uint64(l.Account(alice.id).Avail)
	held := uint64(l.Account(alice.id).Held)
	src := func(amount uint64, index uint32) *proto.Source {
		return &proto.Source{Event: toBob.ID.Bytes(), Index: index, Amount: amount}
	}
	lanes := func(n int) (out []*proto.Lane) {
		for i := range n {
			out = append(out, &proto.Lane{Worker: []byte(someone(fmt.Sprint(i)).id), Cap: 1})
		}
		return out
	}
	post := func(avail, held uint64) *proto.Post { return &proto.Post{Avail: avail, Held: held} }
	for _, tt := range []struct {
		name string
		by   person
		post *proto.Post
		body any
	}{
		{"spends more than there is", alice, post(0, held), transfer(bob, avail+1)},
		{"spends so much that it overflows", alice, post(avail+1, held), transfer(bob, ^uint64(0))},
		{"keeps what it spends", alice, post(avail, held), transfer(bob, 10)},
		{"mints", alice, post(avail, held), transfer(bob, 0)},
		{"below the least transfer", alice, post(avail-4, held), transfer(bob, 4)},
		{"to itself", alice, post(avail-10, held), transfer(alice, 10)},
		{"to nobody", alice, post(avail-10, held), &proto.Transfer{Amount: 10}},
		{"takes bob's money", alice, post(avail+credit, held), &proto.Receive{Sources: []*proto.Source{src(credit, 0)}}},
		{"claims twice at once", bob, post(3*credit, 0), &proto.Receive{Sources: []*proto.Source{src(credit, 0), src(credit, 0)}}},
		{"claims another amount", bob, post(3*credit, 0), &proto.Receive{Sources: []*proto.Source{src(2*credit, 0)}}},
		{"names another amount than it books", bob, post(2*credit, 0), &proto.Receive{Sources: []*proto.Source{src(2*credit, 0)}}},
		{"claims an index that is not", bob, post(2*credit, 0), &proto.Receive{Sources: []*proto.Source{src(credit, 1)}}},
		{"claims a bonus", bob, post(2*credit+1, 0), &proto.Receive{Sources: []*proto.Source{{Event: toBob.ID.Bytes(), Amount: credit, Bonus: 1}}}},
		{"claims nothing", bob, post(credit, 0), &proto.Receive{}},
		{"holds without covering its fee", alice, post(avail-100, held+100), &proto.Hold{Job: job(2), Budget: 100, DeadlineUnixMs: 1, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: 100}}}},
		{"holds two lanes for one worker", alice, post(avail-100, held+100), &proto.Hold{Job: job(2), Budget: 100, DeadlineUnixMs: 1, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: 9}, {Worker: []byte(bob.id), Cap: 9}}}},
		{"holds 65 lanes", alice, post(avail-100, held+100), &proto.Hold{Job: job(2), Budget: 100, DeadlineUnixMs: 1, Lanes: lanes(65)}},
		{"holds for no job", alice, post(avail-100, held+100), &proto.Hold{Budget: 100, DeadlineUnixMs: 1}},
		{"extends another's hold", bob, post(credit-10, 10), &proto.Extend{Hold: hold.ID.Bytes(), Budget: 10}},
		{"extends with an earlier deadline", alice, post(avail-10, held+10), &proto.Extend{Hold: hold.ID.Bytes(), Budget: 10, DeadlineUnixMs: 4}},
		{"extends a transfer", alice, post(avail-10, held+10), &proto.Extend{Hold: toBob.ID.Bytes(), Budget: 10}},
		{"changes a lane's payee", alice, post(avail-100, held+100), &proto.Extend{Hold: hold.ID.Bytes(), Budget: 100, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Payee: []byte(carol.id), Cap: 9}}}},
		{"raises caps over the budget", alice, post(avail, held), &proto.Extend{Hold: hold.ID.Bytes(), Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: credit}}}},
		{"settles another's hold", bob, post(credit, 0), &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Amount: 1}}}},
		{"settles a lane that is not", alice, post(avail, held), &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Lane: 1, Amount: 1}}}},
		{"settles a lane twice at once", alice, post(avail, held-2), &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Amount: 1}, {Amount: 1}}}},
		{"takes a hold back", alice, post(avail+held, 0), &proto.Settle{Hold: hold.ID.Bytes(), Final: true}},
		{"pays without the fee", alice, post(avail, held-100), &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Amount: 100}}}},
		{"opens again", alice, post(avail, held), &proto.Open{}},
		{"is of a kind to come", alice, post(avail-10, held), &proto.Amount{Amount: 10}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			head := l.Account(tt.by.id)
			ev := &proto.Event{Account: []byte(tt.by.id), Seq: head.Seq + 1, Prev: head.Head.Bytes(), Post: tt.post}
			switch b := tt.body.(type) {
			case *proto.Open:
				ev.Body = &proto.Event_Open{Open: b}
			case *proto.Transfer:
				ev.Body = &proto.Event_Transfer{Transfer: b}
			case *proto.Receive:
				ev.Body = &proto.Event_Receive{Receive: b}
			case *proto.Hold:
				ev.Body = &proto.Event_Hold{Hold: b}
			case *proto.Extend:
				ev.Body = &proto.Event_Extend{Extend: b}
			case *proto.Settle:
				ev.Body = &proto.Event_Settle{Settle: b}
			case *proto.Amount:
				ev.Body = &proto.Event_Stake{Stake: b}
			}
			before, events := l.StateHash(), l.Len()
			added, err := l.Add(w.certify(w.event(tt.by, ev)))
			if err == nil || len(added) != 0 || l.Len() != events || l.StateHash() != before || l.Pending() != 0 {
				t.Fatalf("accepted: %v", err)
			}
			// Draft refuses the same bodies, but for those where only post lies.
			d, err := l.Draft(tt.by.id, 0, 0, tt.body)
			if err == nil && goproto.Equal(d.Post, tt.post) {
				t.Fatal("drafted")
			}
		})
	}
}

// A chain is a line: an event builds on the one before it in its own account,
// its epoch never goes back, and it says nothing that this version cannot read.
func TestChainRules(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit, "bob": 10 * credit})
	l := w.ledger()
	first := w.do(l, alice, &proto.Open{})
	bobs := w.do(l, bob, &proto.Open{})
	w.do(l, alice, transfer(bob, 1))
	ev, err := l.Draft(alice.id, 2, 0, transfer(bob, 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Add(w.certify(w.event(alice, ev))); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*proto.Event){
		"prev is another account's":    func(e *proto.Event) { e.Prev = bobs.ID.Bytes() },
		"prev is an older event":       func(e *proto.Event) { e.Prev = first.ID.Bytes() },
		"prev is no id":                func(e *proto.Event) { e.Prev = []byte("prev") },
		"seq skips one":                func(e *proto.Event) { e.Seq++ },
		"seq goes back":                func(e *proto.Event) { e.Seq-- },
		"seq starts again":             func(e *proto.Event) { e.Seq, e.Prev = 0, nil },
		"the epoch goes back":          func(e *proto.Event) { e.Epoch = 1 },
		"no post":                      func(e *proto.Event) { e.Post = nil },
		"no body":                      func(e *proto.Event) { e.Body = nil },
		"an unknown field":             func(e *proto.Event) { e.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 1}) },
		"an unknown field in its body": func(e *proto.Event) { e.GetTransfer().ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 1}) },
	} {
		ev, err := l.Draft(alice.id, 2, 0, transfer(bob, 1))
		if err != nil {
			t.Fatal(err)
		}
		change(ev)
		before := l.StateHash()
		if added, err := l.Add(w.certify(w.event(alice, ev))); err == nil || len(added) != 0 || l.StateHash() != before || l.Pending() != 0 {
			t.Errorf("%s: accepted, %v", name, err)
		}
	}
	_, err = l.Draft(alice.id, 1, 0, transfer(bob, 1))
	wantCode(t, err, proto.CodeInvalidEvent)
}

// Two certificates for one slot need more bad witnesses than the network
// allows. Even then nothing is counted twice: the first one seen stays.
func TestSecondCertificateForASlot(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	a, b := w.draft(l, alice, transfer(bob, 10*credit)), w.draft(l, alice, transfer(carol, 10*credit))
	if _, err := l.Add(a); err != nil {
		t.Fatal(err)
	}
	added, err := l.Add(b)
	wantCode(t, err, proto.CodeConflict)
	if len(added) != 0 || l.Account(carol.id).Receivable != 0 || !l.Audit().Conserved() {
		t.Fatal("both transfers count")
	}
}

// What a peer hangs onto a certified event is neither stored nor passed on.
func TestBallastIsDropped(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	l := w.ledger()
	wire := w.draft(l, alice, &proto.Open{})
	size := goproto.Size(wire)
	ballast := append([]byte{0xfa, 0x07, 0xd0, 0x0f}, make([]byte, 2000)...) // field 127, 2000 bytes
	wire.ProtoReflect().SetUnknown(ballast)
	wire.Certificate.ProtoReflect().SetUnknown(ballast)
	added, err := l.Add(wire)
	if err != nil || len(added) != 1 {
		t.Fatal(len(added), err)
	}
	if n := goproto.Size(added[0].Wire); n != size {
		t.Fatalf("the event takes %d bytes, %d of them are its own", n, size)
	}
}

func TestReplayHasNoEffect(t *testing.T) {
	w := newWorld(t, 1, grants(5))
	set := chains(w, 5, 200)
	l := w.ledger()
	fill(t, l, set...)
	want := l.StateHash()
	for i := range 1_000_000 {
		c := set[(i*7919)%len(set)]
		if added, err := l.Add(c.Wire); err != nil || len(added) != 0 {
			t.Fatalf("replay %d: %d added, %v", i, len(added), err)
		}
	}
	if l.StateHash() != want || l.Len() != len(set) {
		t.Fatal("replays changed the state")
	}
}

// More events wait than the bound allows: the oldest are forgotten, memory
// stays bounded, and once everything comes again nothing is lost.
func TestPendingIsBounded(t *testing.T) {
	const n = ledger.MaxPending + 500
	w := newWorld(t, 1, map[string]uint64{"account 0": credit, "account 1": credit})
	set := chains(w, 2, n+2)
	l := w.ledger()
	for i := len(set) - 1; i > 0; i-- {
		if set[i].Seq > 0 {
			fill(t, l, set[i])
		}
	}
	if l.Len() != 0 || l.Pending() != ledger.MaxPending {
		t.Fatalf("%d events, %d pending, want 0 and %d", l.Len(), l.Pending(), ledger.MaxPending)
	}
	fill(t, l, set...)
	if l.Len() != len(set) || l.Pending() != 0 {
		t.Fatalf("%d events, %d pending, want %d and 0", l.Len(), l.Pending(), len(set))
	}
}

// failing is a store whose disk is full while full is set.
type failing struct {
	ledger.Store
	full bool
}

func (f *failing) Append(batch ...ledger.Record) error {
	if f.full {
		return errors.New("no space left on device")
	}
	return f.Store.Append(batch...)
}

func TestFailedWriteChangesNothing(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	m := mem.New()
	store := &failing{Store: m}
	l := w.open(store)
	w.do(l, alice, &proto.Open{})
	other := w.ledger()
	fill(t, other, all(l)...)
	a := w.do(other, alice, transfer(bob, credit))
	hold := w.do(other, alice, &proto.Hold{Job: job(1), Budget: 3 * credit, DeadlineUnixMs: 5, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: credit}}})
	c := w.do(other, alice, &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Amount: credit}}})
	d := w.receive(other, bob)
	fill(t, l, hold) // waits for a
	before, audit := l.StateHash(), l.Audit()

	store.full = true
	for range 2 {
		if added, err := l.AddVerified(nil, d, c, a); err == nil || len(added) != 0 {
			t.Fatal("a full disk is no error")
		}
		if l.StateHash() != before || l.Len() != 1 || l.Pending() != 1 || l.Audit() != audit || len(l.Receivables(bob.id)) != 0 || len(l.Holds(alice.id)) != 0 {
			t.Fatal("a failed write left something behind")
		}
	}
	if err := l.SaveIntent(a.Wire.Event); err == nil {
		t.Fatal("a full disk is no error")
	}
	if _, ok := l.Intent(alice.id); ok {
		t.Fatal("an intent that is not durable")
	}
	store.full = false
	added, err := l.AddVerified(nil, d, c, a)
	if err != nil || len(added) != 4 || l.StateHash() != other.StateHash() {
		t.Fatalf("%d added, %v", len(added), err)
	}
	if x := w.open(m.Clone()); x.StateHash() != other.StateHash() {
		t.Fatal("the store replays to another state")
	}

	// A witness with a full disk answers nothing and signs nothing.
	wit := w.witness(&failing{Store: mem.New()})
	fill(t, wit.l, all(other)...)
	ev, err := other.Draft(alice.id, 0, 0, transfer(bob, credit))
	if err != nil {
		t.Fatal(err)
	}
	p := w.propose(alice, w.event(alice, ev))
	disk := witnessStore(wit)
	disk.full = true
	sign := wit.key
	wit.key = func(*proto.Payload) ([]byte, error) { t.Error("signed"); return nil, errors.New("no") }
	f, err := wit.try(p)
	if err == nil || f != nil {
		t.Fatal("a vote that is not durable")
	}
	disk.full, wit.key = false, sign
	if wit.handle(p).GetCertified() == nil {
		t.Fatal("not certified with space again")
	}
}

func TestStoreBelongsToOneNetwork(t *testing.T) {
	a, b := newWorld(t, 1, map[string]uint64{"alice": 1}), newWorld(t, 1, map[string]uint64{"alice": 2})
	store := mem.New()
	a.open(store)
	_, err := ledger.Open(b.net, store)
	wantCode(t, err, proto.CodeWrongNetwork)
	damaged := mem.New()
	l := a.open(damaged)
	a.do(l, alice, &proto.Open{})
	if err := damaged.Append(ledger.Record{Key: []byte("e zzz"), Value: []byte{1, 2, 3}}); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Open(a.net, damaged); err == nil {
		t.Fatal("a damaged store opens")
	}
}

// A Settle with more Done envelopes than fit one event is split, and the parts
// together do what the whole would.
func TestSplitSettle(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 1000 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	const n = ledger.MaxLanes
	var lanes []*proto.Lane
	for i := range n {
		lanes = append(lanes, &proto.Lane{Worker: []byte(someone(fmt.Sprint(i)).id), Cap: credit})
	}
	hold := w.do(l, alice, &proto.Hold{Job: job(1), Budget: 70 * credit, DeadlineUnixMs: 5, Lanes: lanes})
	whole := &proto.Settle{Hold: hold.ID.Bytes(), Final: true}
	for i := range n {
		whole.Pays = append(whole.Pays, &proto.LanePay{Lane: uint32(i), Amount: credit / 2, Fuel: 1 << 40, Done: w.done(someone(fmt.Sprint(i)), hold.ID, uint32(i), credit/2)})
	}
	_, err := l.Draft(alice.id, 0, 0, whole)
	wantCode(t, err, proto.CodeTooLarge)
	parts := ledger.SplitSettle(whole)
	if len(parts) < 2 {
		t.Fatal("not split")
	}
	for i, p := range parts {
		if p.Final != (i == len(parts)-1) {
			t.Fatal("final is not with the last part")
		}
		w.do(l, alice, p)
	}
	a := l.Account(alice.id)
	if a.Held != 0 || a.Avail != proto.Credit(1000*credit-n*credit/2-n*credit/200) {
		t.Fatalf("after all parts: %+v", a)
	}
}
