//go:build !js

package ledger_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/pebble"
	"edgenet.dev/proto"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// No signature leaves the process before its lock is durable: a witness on a
// real store crashes at every write of the file system, losing a random part
// of what was not synced. For every slot that it had signed for until then,
// the restarted witness refuses another body and finishes the first.
func TestNoSignatureBeforeItsLock(t *testing.T) {
	const transfers = 8
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit})
	author := w.ledger()
	w.do(author, alice, &proto.Open{})
	var first, second, bodies [][]byte // per slot two proposals, and the first's body
	for i := range transfers {
		prev := author.Attachments(&proto.Event{Prev: author.Account(alice.id).Head.Bytes()})
		other := w.draft(author, alice, transfer(carol, credit)).Event
		mine := w.do(author, alice, transfer(bob, uint64(i)+1))
		bodies = append(bodies, mine.Wire.Event)
		first = append(first, w.propose(alice, mine.Wire.Event, prev...))
		second = append(second, w.propose(alice, other, prev...))
	}
	open := author.History(alice.id, transfers+1)[transfers]

	type crash struct {
		disk   *vfs.MemFS
		signed int // slots with a signature
		acked  int // slots answered with a certificate
	}
	disk := vfs.NewCrashableMem()
	var mu sync.Mutex
	var crashes []crash
	signed, acked, ops := 0, 0, uint64(0)
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		ops++
		crashes = append(crashes, crash{disk.CrashClone(vfs.CrashCloneCfg{
			UnsyncedDataPercent: int(ops*53) % 101, RNG: rand.New(rand.NewPCG(ops, 3)),
		}), signed, acked})
		return nil
	}))
	restart := func(fs vfs.FS) (*witnessed, ledger.Store) {
		s, err := pebble.OpenFS("db", fs)
		if err != nil {
			t.Fatal(err)
		}
		return w.witness(s), s
	}
	wit, store := restart(fs)
	fill(t, wit.l, open)
	for i := range transfers {
		sign := w.witnesses[0]
		wit.key = func(p *proto.Payload) ([]byte, error) {
			mu.Lock()
			signed = i + 1
			mu.Unlock()
			return proto.Seal(sign.key, w.net.ID, p)
		}
		f, err := wit.try(first[i])
		if err != nil || f.GetCertified() == nil {
			t.Fatal(f, err)
		}
		mu.Lock()
		acked = i + 1
		mu.Unlock()
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for n, c := range crashes {
		if c.signed == 0 {
			continue
		}
		wit, store := restart(c.disk)
		if int(wit.l.Account(alice.id).Seq) < c.acked {
			t.Fatalf("crash %d: seq %d, certified up to %d", n, wit.l.Account(alice.id).Seq, c.acked)
		}
		for i := range c.signed {
			what := fmt.Sprintf("crash %d, slot %d of %d signed", n, i+1, c.signed)
			if got := wit.handle(second[i]).GetCertified(); got == nil || string(got.Event) != string(bodies[i]) {
				t.Fatalf("%s: another body has the place", what)
			}
			if wit.handle(first[i]).GetCertified() == nil {
				t.Fatalf("%s: the body is not finished", what)
			}
			checked++
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if checked < 2*transfers {
		t.Fatalf("%d checks at %d crash points", checked, len(crashes))
	}
}
