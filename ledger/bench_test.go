package ledger_test

import (
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// One event's checks: the author's signature and the certificate of one
// witness. BenchmarkSignature is the bare cost of one signature.
func BenchmarkVerify(b *testing.B) {
	w := newWorld(b, 1, grants(2))
	set := chains(w, 2, 50)
	for i := 0; b.Loop(); i++ {
		if _, err := ledger.Verify(w.net, set[i%len(set)].Wire); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignature(b *testing.B) {
	msg := make([]byte, 300)
	sig, err := alice.key.Sign(msg)
	if err != nil {
		b.Fatal(err)
	}
	pub := alice.key.GetPublic()
	for b.Loop() {
		if ok, err := pub.Verify(msg, sig); !ok || err != nil {
			b.Fatal(err)
		}
	}
}

// Rules, state and a store in memory, without signatures.
func BenchmarkApply(b *testing.B) {
	w := newWorld(b, 1, grants(20))
	set := chains(w, 20, 2000)
	b.ResetTimer()
	for n := 0; n < b.N; {
		l := w.ledger()
		for _, c := range set {
			if n++; n > b.N {
				break
			}
			fill(b, l, c)
		}
	}
}

func BenchmarkStateHash(b *testing.B) {
	w := newWorld(b, 1, grants(20))
	l := w.ledger()
	fill(b, l, chains(w, 20, 2000)...)
	p := someone("account 0")
	other := transfer(someone("account 1"), 1)
	for b.Loop() {
		b.StopTimer()
		if _, err := l.Add(w.draft(l, p, other)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if l.StateHash() == (proto.Hash{}) {
			b.Fatal("no hash")
		}
	}
}
