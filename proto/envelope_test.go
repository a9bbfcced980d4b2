package proto_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"edgenet.dev/proto"
)

func newKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var netA, netB = proto.NetworkOf([]byte("a")), proto.NetworkOf([]byte("b"))

func claim() *proto.Payload {
	return &proto.Payload{Body: &proto.Payload_Claim{Claim: &proto.Claim{Slots: 3, Price: 7}}}
}

func TestSealUnseal(t *testing.T) {
	key := newKey(t)
	raw, err := proto.Seal(key, netA, claim())
	if err != nil {
		t.Fatal(err)
	}
	s, err := proto.Unseal(netA, raw, proto.KindOffer, proto.KindClaim)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := peer.IDFromPrivateKey(key)
	if s.Signer != id || s.Kind != proto.KindClaim || s.Payload.GetClaim().Price != 7 {
		t.Errorf("unsealed %+v", s)
	}
	var env proto.Envelope
	if err := goproto.Unmarshal(raw, &env); err != nil {
		t.Fatal(err)
	}
	if !s.ID.Equals(proto.CIDOf(env.Payload)) {
		t.Errorf("id %s is not the CID of the payload", s.ID)
	}
}

// Whatever is changed, the envelope is refused with the right code.
func TestUnsealRefuses(t *testing.T) {
	key := newKey(t)
	raw, err := proto.Seal(key, netA, claim())
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func(*proto.Envelope)) []byte {
		var env proto.Envelope
		if err := goproto.Unmarshal(raw, &env); err != nil {
			t.Fatal(err)
		}
		f(&env)
		b, err := goproto.Marshal(&env)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	other, _ := peer.IDFromPrivateKey(newKey(t))
	rsaKey, _, err := crypto.GenerateRSAKeyPair(2048, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa, _ := peer.IDFromPrivateKey(rsaKey)
	// The same body under another kind: a Withdrawal field set cannot pass for a Claim.
	for _, c := range []struct {
		name string
		net  proto.NetworkID
		raw  []byte
		want []proto.Kind
		code proto.Code
	}{
		{"another network", netB, raw, []proto.Kind{proto.KindClaim}, proto.CodeBadSignature},
		{"another kind", netA, raw, []proto.Kind{proto.KindOffer}, proto.CodeUnknownKind},
		{"payload changed", netA, edit(func(e *proto.Envelope) { e.Payload[len(e.Payload)-1] ^= 1 }), []proto.Kind{proto.KindClaim}, proto.CodeBadSignature},
		{"signature changed", netA, edit(func(e *proto.Envelope) { e.Signature[0] ^= 1 }), []proto.Kind{proto.KindClaim}, proto.CodeBadSignature},
		{"signature short", netA, edit(func(e *proto.Envelope) { e.Signature = e.Signature[1:] }), []proto.Kind{proto.KindClaim}, proto.CodeBadSignature},
		{"another signer", netA, edit(func(e *proto.Envelope) { e.Signer = []byte(other) }), []proto.Kind{proto.KindClaim}, proto.CodeBadSignature},
		{"RSA signer", netA, edit(func(e *proto.Envelope) { e.Signer = []byte(rsa) }), []proto.Kind{proto.KindClaim}, proto.CodeMalformed},
		{"empty payload", netA, edit(func(e *proto.Envelope) { e.Payload = nil }), []proto.Kind{proto.KindClaim}, proto.CodeUnknownKind},
		{"garbage", netA, []byte("garbage"), []proto.Kind{proto.KindClaim}, proto.CodeMalformed},
		{"too large", netA, make([]byte, 1<<20), []proto.Kind{proto.KindClaim}, proto.CodeTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := proto.Unseal(c.net, c.raw, c.want...); proto.CodeOf(err) != c.code {
				t.Errorf("got %v (%v), want %v", proto.CodeOf(err), err, c.code)
			}
		})
	}
}

func TestSealCaps(t *testing.T) {
	key := newKey(t)
	big := &proto.Payload{Body: &proto.Payload_Claim{Claim: &proto.Claim{Operator: strings.Repeat("x", proto.KindClaim.Cap())}}}
	if _, err := proto.Seal(key, netA, big); proto.CodeOf(err) != proto.CodeTooLarge {
		t.Errorf("sealed a claim above its cap: %v", err)
	}
	if _, err := proto.Seal(key, netA, &proto.Payload{}); proto.CodeOf(err) != proto.CodeUnknownKind {
		t.Errorf("sealed an empty payload: %v", err)
	}
}

// Every kind has a name and a cap of its own; names are signature domains, so
// two kinds with one name would let one pass for the other.
func TestKinds(t *testing.T) {
	seen := map[string]bool{}
	for k := proto.KindOffer; k <= proto.KindInstance; k++ {
		if k > proto.KindWrongReport && k < proto.KindInstance { // reserved
			continue
		}
		if k.Cap() == 0 || strings.HasPrefix(k.String(), "kind-") || seen[k.String()] {
			t.Errorf("kind %d: name %q, cap %d", k, k, k.Cap())
		}
		seen[k.String()] = true
	}
	if n := len((&proto.Payload{}).ProtoReflect().Descriptor().Oneofs().Get(0).Fields().ByNumber(17).FullName()); n == 0 {
		t.Error("Payload.body lost its last kind")
	}
	if got := (&proto.Payload{}).ProtoReflect().Descriptor().Oneofs().Get(0).Fields().Len(); got != int(proto.KindWrongReport) { // all but 1, and one more
		t.Errorf("Payload.body has %d kinds, the table %d", got, proto.KindWrongReport)
	}
}

// Code numbers and names are on the wire: changing one breaks peers.
func TestCodesAreAppendOnly(t *testing.T) {
	golden := "OK MALFORMED BAD_SIGNATURE WRONG_NETWORK TOO_LARGE UNKNOWN_KIND NOT_FOUND BUSY PAUSED EXPIRED NO_LANE PRICE MODULE FETCH INPUT_HASH LIMITS TYPE CANCELLED TIMEOUT WORKER_GONE NO_QUORUM NO_WORKERS BUDGET LOCAL_FAILURE NO_COMMIT BAD_RECEIPT MINORITY INSUFFICIENT_BALANCE NOT_WITNESS CONFLICT MISSING INVALID_EVENT NOT_FINAL TASK_FAILED RATE_LIMITED DUPLICATE SHUTDOWN INTERNAL QUEUE_TIMEOUT RUN_TIMEOUT BLOCKED"
	for i, name := range strings.Fields(golden) {
		if got := proto.Code(i).String(); got != name {
			t.Errorf("code %d is %s, was %s", i, got, name)
		}
	}
	if got := proto.CodeInternal.String(); got != "INTERNAL" {
		t.Errorf("the last constant is named %s", got)
	}
}

func TestReceiptBatches(t *testing.T) {
	key := newKey(t)
	id, _ := peer.IDFromPrivateKey(key)
	for _, n := range []int{1, 2, 3, 5, 8, 13, proto.MaxReceipts} {
		leaves := make([][]byte, n)
		for i := range leaves {
			var err error
			if leaves[i], err = goproto.Marshal(&proto.Receipt{Worker: []byte(id), Task: uint32(i), Fuel: uint64(i)}); err != nil {
				t.Fatal(err)
			}
		}
		batch, err := proto.SignReceipts(key, netA, leaves, 1)
		if err != nil {
			t.Fatal(err)
		}
		_, signed, err := proto.OpenReceipts(netA, batch, leaves)
		if err != nil {
			t.Fatal(err)
		}
		for i, sr := range signed {
			r, err := proto.VerifyReceipt(netA, sr)
			if err != nil || r.Task != uint32(i) {
				t.Fatalf("%d receipts, number %d: %v %v", n, i, r, err)
			}
			if _, err := proto.VerifyReceipt(netB, sr); err == nil {
				t.Fatalf("receipt verifies in another network")
			}
			forged := goproto.Clone(sr).(*proto.SignedReceipt)
			forged.Receipt, _ = goproto.Marshal(&proto.Receipt{Worker: []byte(id), Task: uint32(i), Fuel: 1 << 40})
			if _, err := proto.VerifyReceipt(netA, forged); err == nil {
				t.Fatalf("%d receipts: a forged number %d verifies", n, i)
			}
			if n > 1 {
				moved := goproto.Clone(sr).(*proto.SignedReceipt)
				moved.Index = (moved.Index + 1) % uint32(n)
				if _, err := proto.VerifyReceipt(netA, moved); err == nil {
					t.Fatalf("%d receipts: number %d verifies at another place", n, i)
				}
			}
		}
		if _, _, err := proto.OpenReceipts(netA, batch, leaves[:n-1]); err == nil {
			t.Fatalf("a batch of %d opened with one leaf less", n)
		}
	}
	// A receipt in another worker's name is refused although its batch is signed.
	other, _ := peer.IDFromPrivateKey(newKey(t))
	leaf, _ := goproto.Marshal(&proto.Receipt{Worker: []byte(other)})
	batch, err := proto.SignReceipts(key, netA, [][]byte{leaf}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proto.VerifyReceipt(netA, &proto.SignedReceipt{Receipt: leaf, Batch: batch}); proto.CodeOf(err) != proto.CodeBadReceipt {
		t.Errorf("a receipt in another's name: %v", err)
	}
}

func TestFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var buf bytes.Buffer
		var want []string
		for range rapid.IntRange(1, 5).Draw(t, "frames") {
			s := rapid.StringN(0, 200, 400).Draw(t, "reason")
			if err := proto.WriteFrame(&buf, &proto.VoteError{Reason: strings.ToValidUTF8(s, "?")}, 4096); err != nil {
				t.Fatal(err)
			}
			want = append(want, strings.ToValidUTF8(s, "?"))
		}
		r := proto.NewFrameReader(&buf, 4096)
		for _, w := range want {
			var got proto.VoteError
			if err := r.Read(&got); err != nil || got.Reason != w {
				t.Fatalf("read %q, %v; want %q", got.Reason, err, w)
			}
		}
	})
}

func TestFrameCaps(t *testing.T) {
	var buf bytes.Buffer
	if err := proto.WriteFrame(&buf, &proto.VoteError{Reason: strings.Repeat("x", 100)}, 50); proto.CodeOf(err) != proto.CodeTooLarge || buf.Len() > 0 {
		t.Errorf("wrote %d bytes: %v", buf.Len(), err)
	}
	// A length of 2^60 is refused before anything is allocated for it.
	r := proto.NewFrameReader(bytes.NewReader([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10}), 1<<20)
	if err := r.Read(&proto.VoteError{}); proto.CodeOf(err) != proto.CodeTooLarge {
		t.Errorf("read a huge frame: %v", err)
	}
	cut := proto.NewFrameReader(bytes.NewReader([]byte{10, 1, 2}), 1<<20)
	if err := cut.Read(&proto.VoteError{}); err == nil || err.Error() != "unexpected EOF" {
		t.Errorf("read a cut frame: %v", err)
	}
}
