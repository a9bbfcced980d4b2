package proto

import (
	"crypto/rand"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// Remembered signatures change nothing but the time: every other signer,
// network, payload and signature is refused as before, and memory is bounded.
func TestRememberSignatures(t *testing.T) {
	RememberSignatures(100)
	defer RememberSignatures(0)
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	net, other := NetworkOf([]byte("one")), NetworkOf([]byte("other"))
	var raw []byte
	for i := range 500 {
		if raw, err = Seal(key, net, &Payload{Body: &Payload_Skip{Skip: &Skip{Seq: uint64(i)}}}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := Unseal(net, raw, KindSkip); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Unseal(other, raw, KindSkip); CodeOf(err) != CodeBadSignature {
			t.Fatalf("another network: %v", err)
		}
	}
	if m := checked.Load(); len(m.young)+len(m.old) > 200 || len(m.old) != 100 {
		t.Errorf("%d and %d remembered", len(m.young), len(m.old))
	}
	for i := range raw {
		bad := append([]byte{}, raw...)
		bad[i] ^= 1
		if _, err := Unseal(net, bad, KindSkip); err == nil {
			t.Fatalf("byte %d changed, and it passes", i)
		}
	}
}
