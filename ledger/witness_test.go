package ledger_test

import (
	"testing"

	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

func TestWitnessCertifies(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	wit := w.witness(mem.New())
	l := w.ledger() // the author's
	for _, body := range []any{&proto.Open{}, transfer(bob, credit), transfer(carol, credit)} {
		ev, err := l.Draft(alice.id, 0, 0, body)
		if err != nil {
			t.Fatal(err)
		}
		raw := w.event(alice, ev)
		if err := l.SaveIntent(raw); err != nil {
			t.Fatal(err)
		}
		p := w.propose(alice, raw, l.Attachments(ev)...)
		got := wit.handle(p).GetCertified()
		if got == nil {
			t.Fatal("not certified")
		}
		if again := wit.handle(p).GetCertified(); !goproto.Equal(again, got) {
			t.Fatal("the same body gets another certificate")
		}
		if added, err := l.Add(got); err != nil || len(added) != 1 {
			t.Fatalf("added %d, %v", len(added), err)
		}
		if _, ok := l.Intent(alice.id); ok {
			t.Fatal("the intent outlives its event")
		}
	}
	if l.StateHash() != wit.l.StateHash() {
		t.Fatal("author and witness differ")
	}
}
