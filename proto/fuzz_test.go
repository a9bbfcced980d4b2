package proto_test

import (
	"bytes"
	"testing"

	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

// Decoders take anything without a panic, and what they accept is signed.
func FuzzUnseal(f *testing.F) {
	key := newKey(f)
	raw, err := proto.Seal(key, netA, claim())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := proto.Unseal(netA, b, proto.KindClaim, proto.KindEvent, proto.KindOffer, proto.KindAssignments)
		if err == nil && (s.Signer == "" || !s.ID.Defined()) {
			t.Fatalf("accepted without signer or id: %x", b)
		}
	})
}

func FuzzGenesis(f *testing.F) {
	f.Add([]byte("x"))
	good, _ := goproto.Marshal(&proto.Genesis{Name: "n", Nonce: make([]byte, 16)})
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := proto.ParseGenesis(b)
		if err == nil && (len(n.Witnesses)%3 != 1 || n.Quorum() > len(n.Witnesses)) {
			t.Fatalf("accepted %d witnesses", len(n.Witnesses))
		}
	})
}

func FuzzFrame(f *testing.F) {
	var buf bytes.Buffer
	if err := proto.WriteFrame(&buf, &proto.TaskFrame{Body: &proto.TaskFrame_Pay{Pay: &proto.Pay{Finish: true}}}, 1024); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r := proto.NewFrameReader(bytes.NewReader(b), 4096)
		for {
			var frame proto.TaskFrame
			if r.Read(&frame) != nil {
				return
			}
		}
	})
}

func FuzzReceipt(f *testing.F) {
	key := newKey(f)
	leaf, _ := goproto.Marshal(&proto.Receipt{Task: 1})
	batch, err := proto.SignReceipts(key, netA, [][]byte{leaf}, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(leaf, uint32(0), batch, []byte{})
	f.Fuzz(func(t *testing.T, leaf []byte, index uint32, batch, sib []byte) {
		sr := &proto.SignedReceipt{Receipt: leaf, Index: index, Batch: batch}
		if len(sib) > 0 {
			sr.Path = [][]byte{sib}
		}
		_, _ = proto.VerifyReceipt(netA, sr)
	})
}

func FuzzIDs(f *testing.F) {
	f.Add(proto.CIDOf([]byte("x")).Bytes(), "abc")
	f.Fuzz(func(t *testing.T, b []byte, s string) {
		if c, err := proto.ParseCID(b); err == nil && !bytes.Equal(c.Bytes(), b) {
			t.Fatalf("one CID, two spellings: %x", b)
		}
		_, _ = proto.ParsePeer(b)
		if id, err := proto.ParseJobID(s); err == nil && len(id.String()) != 26 {
			t.Fatalf("job id %q", s)
		}
		_, _ = proto.ParseCredit(s)
	})
}
