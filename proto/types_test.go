package proto_test

import (
	"bytes"
	"math/big"
	"strings"
	"testing"
	"unicode"

	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"edgenet.dev/proto"
)

func TestCredits(t *testing.T) {
	for s, want := range map[string]proto.Credit{"0": 0, "12.5": 12_500_000, "0.000001": 1, "1000": 1000 * proto.OneCredit} {
		c, err := proto.ParseCredit(s)
		if err != nil || c != want || c.String() != s {
			t.Errorf("%s: %d %s, %v", s, c, c, err)
		}
	}
	for _, s := range []string{"", "-1", "1.0000001", ".5", "x", "99999999999999999999", "1e3", "9007199255"} {
		if c, err := proto.ParseCredit(s); err == nil {
			t.Errorf("%q was read as %s", s, c)
		}
	}
}

// Pay and fee against exact big-integer arithmetic.
func TestMoneyArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fuel := rapid.Uint64Range(0, uint64(proto.MaxFuel)).Draw(t, "fuel")
		price := rapid.Uint64Range(0, uint64(proto.MaxPriceCredits)).Draw(t, "price")
		x := new(big.Int).Mul(new(big.Int).SetUint64(fuel), new(big.Int).SetUint64(price))
		x.Div(x, big.NewInt(int64(proto.PriceUnit)))
		if x.Sign() == 0 {
			x.SetInt64(1)
		}
		if got := proto.PayFor(proto.Fuel(fuel), proto.Credit(price)); x.IsUint64() && x.BitLen() < 63 && uint64(got) != x.Uint64() {
			t.Fatalf("pay %d, want %s", got, x)
		}
		amount := rapid.Uint64Range(0, 1<<53).Draw(t, "amount")
		ppm := rapid.Uint64Range(0, 1_000_000).Draw(t, "ppm")
		y := new(big.Int).Mul(new(big.Int).SetUint64(amount), new(big.Int).SetUint64(ppm))
		y.Add(y, big.NewInt(999_999)).Div(y, big.NewInt(1_000_000))
		if got := proto.Fee(proto.Credit(amount), ppm); uint64(got) != y.Uint64() {
			t.Fatalf("fee %d, want %s", got, y)
		}
	})
}

func TestIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var id proto.JobID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		back, err := proto.ParseJobID(id.String())
		if err != nil || back != id {
			t.Fatalf("%s came back as %s, %v", id, back, err)
		}
	})
	c := proto.CIDOf([]byte("x"))
	if h, err := proto.CIDHash(c); err != nil || h != proto.HashOf([]byte("x")) {
		t.Errorf("hash of %s: %s, %v", c, h, err)
	}
	if back, err := proto.ParseCID(c.Bytes()); err != nil || !back.Equals(c) {
		t.Errorf("%s came back as %s, %v", c, back, err)
	}
	a := proto.TaskID{Job: proto.JobID{1}, Index: 1}
	if a.Seed() == (proto.TaskID{Job: proto.JobID{1}, Index: 2}).Seed() {
		t.Error("two tasks share a seed")
	}
}

func TestGenesis(t *testing.T) {
	if _, err := proto.ParseGenesis([]byte("no genesis")); err == nil {
		t.Error("garbage is a genesis")
	}
	if _, err := proto.ParseGenesis(nil); err == nil {
		t.Error("nothing is a genesis")
	}
	witness := []byte(idOf(t))
	read := func(name string, witness []byte) error {
		raw, err := goproto.Marshal(&proto.Genesis{Name: name, Nonce: make([]byte, 16), Witnesses: [][]byte{witness}})
		if err != nil {
			return err
		}
		_, err = proto.ParseGenesis(raw)
		return err
	}
	for _, name := range []string{"private", "New York", "Zürich", "東京"} {
		if err := read(name, witness); err != nil {
			t.Error(err)
		}
	}
	// Names are shown on terminals: none may steer one, or turn what stands
	// around it.
	for _, name := range []string{"", "a\x1b[2J", "a\nb", "a\tb", "\u202egnp.exe", "\u009bm", "zero\u200bwidth", strings.Repeat("x", 65)} {
		if err := read(name, witness); err == nil || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	// 38 bytes that libp2p takes for a peer id, of another kind of key.
	other := bytes.Clone(witness)
	other[3] = 2 // secp256k1
	if _, err := peer.IDFromBytes(other); err != nil {
		t.Fatal(err)
	}
	if err := read("private", other); err == nil {
		t.Error("a witness whose key is not Ed25519")
	}
}
