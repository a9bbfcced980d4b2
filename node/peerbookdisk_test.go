//go:build !js

package node

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// commits counts what a store wrote to the disk at once.
type commits struct {
	kv
	n int
}

func (c *commits) commit(writes []write) error {
	c.n++
	return c.kv.commit(writes)
}

// Strangers decide how often the peerbook changes, so none of its changes waits
// for the disk; and what a crash leaves of them is put right at the next start.
func TestPeerbookWritesLazily(t *testing.T) {
	disk, err := openKV(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer disk.close()
	counting := &commits{kv: disk}
	stored := func() (n int) {
		_ = disk.scan("peer/", func(string, []byte) error { n++; return nil })
		return n
	}
	some := func(b *peerbook, i int) (peer.ID, *knownPeer) {
		_, key, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return id, &knownPeer{addrs: []ma.Multiaddr{ma.StringCast(fmt.Sprintf("/ip4/192.0.2.%d/tcp/1", i%250))}, since: time.Now(), seen: time.Now()}
	}
	n := &Node{kv: counting}
	if n.blocks, err = newBlocks(n); err != nil {
		t.Fatal(err)
	}
	b := newPeerbook(n)
	for i := range 3 * maxMet {
		if err := b.add(some(b, i)); err != nil {
			t.Fatal(err)
		}
	}
	if counting.n != 0 {
		t.Errorf("%d strangers made the node write to the disk %d times", 3*maxMet, counting.n)
	}
	if n := stored(); n != maxMet {
		t.Errorf("%d peers are stored, want %d", n, maxMet)
	}
	// As after a crash that lost removals and kept what they made room for.
	for i := range 10 {
		id, p := some(b, i)
		if err := b.save(id, p); err != nil {
			t.Fatal(err)
		}
	}
	again := newPeerbook(n)
	if err := again.load(); err != nil {
		t.Fatal(err)
	}
	if n := stored(); len(again.peers) != maxMet || n != maxMet {
		t.Errorf("after a crash %d peers are known and %d stored, want %d", len(again.peers), n, maxMet)
	}
}
