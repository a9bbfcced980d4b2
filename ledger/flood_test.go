//go:build !js

package ledger_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/pebble"
	"edgenet.dev/proto"
)

// Rows of the table of threats that need a flood of something.

// Spammers who pay for every event fill epoch after epoch. With checkpoints
// and pruning what a node keeps on a real disk stays the same; without, it grows
// with every event.
func TestThreatBloatPlateaus(t *testing.T) {
	const accounts, epochs, each = 20, 12, 250
	w := newWorld(t, 1, grants(accounts), func(g *proto.Genesis) { g.EventCost = 1 })
	memo := string(make([]byte, ledger.MaxMemo))
	run := func(prune bool, epochs int) (live []int, disk int64) {
		dir := t.TempDir()
		s, err := pebble.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		l := w.open(s)
		for i := range accounts {
			w.do(l, someone(fmt.Sprintf("account %d", i)), &proto.Open{})
		}
		for e := range epochs {
			for i := range each {
				from, to := someone(fmt.Sprintf("account %d", i%accounts)), someone(fmt.Sprintf("account %d", (i+1)%accounts))
				var body any = &proto.Transfer{To: []byte(to.id), Amount: 1, Memo: memo}
				if i >= each-accounts { // dust is collected, so that it is not the state that grows
					var sources []*proto.Source
					for _, r := range l.Receivables(from.id) {
						if len(sources) < ledger.MaxSources {
							sources = append(sources, r.Source)
						}
					}
					body = &proto.Receive{Sources: sources}
				}
				if _, err := l.AddVerified(nil, w.checked(w.draftIn(l, uint64(e), from, body))); err != nil {
					t.Fatal(err)
				}
			}
			w.checkpoint(l)
			if prune {
				w.prune(l, 0)
			}
			size := 0
			if err := s.Scan(nil, func(k, v []byte) error { size += len(k) + len(v); return nil }); err != nil {
				t.Fatal(err)
			}
			live = append(live, size)
		}
		hash := l.StateHash()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = pebble.Open(dir); err != nil { // an hour later, restarted
			t.Fatal(err)
		}
		if w.open(s).StateHash() != hash {
			t.Error("the store replays to another state")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			disk += info.Size()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return live, disk
	}
	// What stays beside the state are the headers of the last nine checkpoints.
	pruned, disk := run(true, epochs)
	all, _ := run(false, 4)
	t.Logf("records after each epoch %d, with pruning %d; on disk %d", all, pruned, disk)
	if before, last := pruned[epochs-3], pruned[epochs-1]; last > before+before/50 || last > all[0] {
		t.Errorf("records grow from %d to %d bytes, the spam of one epoch is %d", before, last, all[0])
	}
	if disk > int64(2*all[0]) {
		t.Errorf("%d bytes on disk, the spam of one epoch is %d", disk, all[0])
	}
	if all[3] < 7*all[0]/2 {
		t.Errorf("without pruning records grow from %d to %d bytes only: this test shows nothing", all[0], all[3])
	}
}

// draftIn signs and certifies an event of an epoch.
func (w *world) draftIn(l *ledger.Ledger, epoch uint64, by person, body any) *proto.CertifiedEvent {
	w.tb.Helper()
	ev, err := l.Draft(by.id, epoch, 1_700_000_000_000, body)
	if err != nil {
		w.tb.Fatal(err)
	}
	return w.certify(w.event(by, ev))
}

func (w *world) checked(wire *proto.CertifiedEvent) *ledger.Certified {
	w.tb.Helper()
	c, err := ledger.Unsigned(w.net, wire)
	if err != nil {
		w.tb.Fatal(err)
	}
	return c
}

// Ten thousand bad messages per second of every sort, from a stranger and from
// a witness: honest events are certified at once all the same, and what the
// witnesses keep of the flood is bounded.
func TestThreatFlood(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 100 * credit, "bob": credit})
	c := w.crowd()
	author := w.ledger()
	stranger, liar := someone("stranger"), w.witnesses[3]
	propose := func(by person, ev *proto.Event) *proto.VoteFrame {
		return &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: w.propose(by, w.event(by, ev))}}
	}
	vote := func(n uint64) *proto.VoteFrame { // each opens a slot of its own
		return &proto.VoteFrame{Body: &proto.VoteFrame_Prepare{Prepare: w.seal(liar, &proto.Payload{Body: &proto.Payload_Prepare{
			Prepare: &proto.Prepare{Slot: ledger.AccountSlot(bob.id, n), Id: proto.CIDOf([]byte("none")).Bytes()},
		}})}}
	}
	open := func(seed int) *proto.VoteFrame { // an account that has nothing
		p := someone(fmt.Sprintf("pauper %d", seed))
		return propose(p, &proto.Event{Account: []byte(p.id), Post: &proto.Post{}, Body: &proto.Event_Transfer{Transfer: &proto.Transfer{To: []byte(bob.id), Amount: 1}}})
	}
	good := vote(0).GetPrepare()
	bad := []*proto.VoteFrame{
		{},
		{Body: &proto.VoteFrame_Propose{Propose: []byte("nonsense")}},
		{Body: &proto.VoteFrame_Propose{Propose: make([]byte, 1<<20)}},
		{Body: &proto.VoteFrame_Commit{Commit: append([]byte{1}, good...)}},
		{Body: &proto.VoteFrame_Report{Report: make([]byte, 64<<10)}},
		{Body: &proto.VoteFrame_Evidence{Evidence: good}},
		{Body: &proto.VoteFrame_Certified{Certified: &proto.CertifiedEvent{Event: good}}},
		{Body: &proto.VoteFrame_HeadRequest{HeadRequest: &proto.HeadRequest{Account: []byte("nobody"), Nonce: make([]byte, 1000)}}},
		{Body: &proto.VoteFrame_Skip{Skip: good}},
	}
	for i := range 8 {
		bad = append(bad, open(i))
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const seconds, perSecond = 2, 10_000
	var sizes []uint64
	slots := uint64(1)
	for s := range seconds {
		for i := range perSecond {
			c.now = clock.Add(time.Duration(s)*time.Second + time.Duration(i)*time.Second/perSecond)
			to := i % len(c.machines)
			switch {
			case i%8 == 0 && to != 3: // the witness spends signatures
				c.hand(to, liar.id, vote(slots))
				slots++
			default:
				c.hand(to, stranger.id, bad[i%len(bad)])
			}
			if i%2000 != 1000 {
				continue
			}
			// Honest traffic in the middle of it.
			body := any(transfer(carol, 1))
			if !author.Account(alice.id).Opened {
				body = &proto.Open{}
			}
			ev, err := author.Draft(alice.id, 0, 0, body)
			if err != nil {
				t.Fatal(err)
			}
			f := propose(alice, ev)
			for k := range c.machines {
				c.hand(k, alice.id, f)
			}
			for k, l := range c.ledgers {
				x, ok := l.At(alice.id, ev.Seq)
				if !ok {
					t.Fatalf("second %d, message %d: witness %d has not certified an honest event", s, i, k)
				}
				if k == 0 {
					fill(t, author, x)
				}
			}
		}
		clear(c.told)
		sizes = append(sizes, heap())
	}
	for k, m := range c.machines {
		if m.Live() > 2048 {
			t.Errorf("witness %d keeps %d slots of the flood", k, m.Live())
		}
		if n := c.ledgers[k].Pending(); n > 0 {
			t.Errorf("witness %d keeps %d events of the flood", k, n)
		}
	}
	t.Logf("heap after each second: %d, live %d", sizes, c.machines[0].Live())
	if last := sizes[len(sizes)-1]; last > sizes[0]+8<<20 {
		t.Errorf("the heap grows from %d to %d bytes", sizes[0], last)
	}
}

// All peers of a victim are one attacker's. It shows an old part of the set,
// events that a minority of witnesses certified, old answers about the head, and
// a checkpoint of its own. The victim stalls and accepts nothing that is false;
// with one honest peer it catches up.
func TestThreatEclipse(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 100 * credit, "mallory": 100 * credit})
	mallory := someone("mallory")
	honest := w.ledger()
	w.do(honest, alice, &proto.Open{})
	w.do(honest, mallory, &proto.Open{})
	past := all(honest)
	w.do(honest, mallory, transfer(carol, 90*credit)) // what the attacker wants forgotten
	spent := all(honest)

	victim, attacker := w.ledger(), w.ledger()
	fill(t, attacker, past...)
	session(t, victim, attacker)
	before := victim.StateHash()
	if before != attacker.StateHash() || victim.Account(mallory.id).Avail != 100*proto.OneCredit {
		t.Fatal("the victim does not see what it is shown")
	}
	// A second spending of the same credits, with the certificate of f witnesses
	// and a friend.
	ev := mustDraft(attacker.Draft(mallory.id, 0, 0, transfer(bob, 95*credit)))
	raw := w.event(mallory, ev)
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		t.Fatal(err)
	}
	commit := func(by person) []byte {
		return w.seal(by, &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{Slot: ledger.AccountSlot(mallory.id, ev.Seq), Id: s.ID.Bytes()}}})
	}
	for name, commits := range map[string][][]byte{
		"nobody":       nil,
		"one":          {commit(w.witnesses[0])},
		"one, often":   {commit(w.witnesses[0]), commit(w.witnesses[0]), commit(w.witnesses[0])},
		"with friends": {commit(w.witnesses[0]), commit(mallory), commit(someone("friend"))},
	} {
		if added, err := victim.Add(&proto.CertifiedEvent{Event: raw, Certificate: &proto.Certificate{Commits: commits}}); err == nil || len(added) > 0 {
			t.Errorf("certified by %s: accepted", name)
		}
	}
	// A checkpoint that only the attacker signed.
	body, changes, err := attacker.DraftCheckpoint(1)
	if err != nil {
		t.Fatal(err)
	}
	fake := w.certifyCheckpoint(body, changes)
	fake.Certificate.Commits = fake.Certificate.Commits[:1]
	if _, err := victim.AddCheckpoint(fake); err == nil {
		t.Error("a checkpoint of one witness is accepted")
	}
	// The head of the attacker's own account, as it was: one bad witness says so,
	// and answers to an older question are shown again.
	nonce, older := []byte("nonce of sixteen"), []byte("an older question")
	r, err := ledger.NewRecovery(victim, mallory.id, nonce, ledger.AuthorConfig{})
	if err != nil {
		t.Fatal(err)
	}
	report := func(by person, nonce []byte) *proto.VoteFrame {
		return &proto.VoteFrame{Body: &proto.VoteFrame_HeadReport{HeadReport: w.seal(by, &proto.Payload{Body: &proto.Payload_HeadReport{
			HeadReport: &proto.HeadReport{Account: []byte(mallory.id), Nonce: nonce},
		}})}}
	}
	_ = r.Handle(clock, mallory.id, report(w.witnesses[0], nonce))
	for _, x := range w.witnesses {
		if err := r.Handle(clock, mallory.id, report(x, older)); err == nil {
			t.Error("an old answer counts")
		}
	}
	_ = r.Handle(clock, mallory.id, report(mallory, nonce))
	if _, ok := r.Result(false); ok {
		t.Error("fewer than a quorum tell the head")
	}
	if victim.StateHash() != before || victim.Pending() > 0 {
		t.Error("the victim's state changed")
	}
	w.do(victim, alice, transfer(bob, credit)) // witnesses reached through a pinned relay
	session(t, victim, honest)
	if victim.Len() != len(spent)+1 || victim.StateHash() != honest.StateHash() {
		t.Error("with an honest peer the victim does not catch up")
	}
}
