package ledger_test

import (
	"math/big"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"pgregory.net/rapid"
)

const microhours = 1_000_000

// exp is e^(-num/den) to about 90 digits.
func exp(num, den uint64) *big.Float {
	f := func(v uint64) *big.Float { return new(big.Float).SetPrec(300).SetUint64(v) }
	x := f(0).Quo(f(num), f(den))
	sum, term := f(1), f(1)
	for i := uint64(1); i < 400; i++ {
		term.Quo(term.Mul(term, x), f(i))
		sum.Add(sum, term)
	}
	return f(0).Quo(f(1), sum)
}

func TestCurveTable(t *testing.T) {
	whole, fine, finest := ledger.ExpTables()
	for _, table := range []struct {
		values []uint64
		den    uint64
	}{{whole, 1}, {fine, 256}, {finest, 65536}} {
		for i, got := range table.values {
			want, _ := new(big.Float).SetMantExp(exp(uint64(i), table.den), 62).Int(nil)
			if want.Uint64() != got {
				t.Fatalf("entry %d/%d is %d, want %d", i, table.den, got, want)
			}
		}
	}
}

func TestCurveGolden(t *testing.T) {
	w := newWorld(t, 1, nil)
	d := w.net.Genesis.CurveDCpuHours * microhours
	for _, g := range []struct{ x, want uint64 }{
		{0, 10_000_000},
		{d / 2, 6_458_775},
		{d, 4_310_914},
		{2 * d, 2_218_017},
		{8 * d, 1_003_019},
		{17 * d, 1_000_000},
		{1 << 62, 1_000_000},
		{^uint64(0), 1_000_000},
	} {
		if got := ledger.CurveRate(w.net, g.x); got != g.want {
			t.Errorf("R(%d) = %d ppm, want %d", g.x, got, g.want)
		}
	}
	if c := ledger.MintCap(w.net); c != 540_000_000*proto.OneCredit {
		t.Errorf("lifetime cap is %d, want 5.4e14", uint64(c))
	}
	flat := newWorld(t, 1, nil, func(g *proto.Genesis) { g.CurveM = 1 })
	if r := ledger.CurveRate(flat.net, 0); r != 1_000_000 || ledger.MintCap(flat.net) != 0 {
		t.Errorf("M = 1: R(0) = %d, cap %s", r, ledger.MintCap(flat.net))
	}
}

// Between two nodes the curve is a straight line, so it can only rise where
// a node is above the one before it: all of them are looked at.
func TestCurveNeverRises(t *testing.T) {
	last := ledger.ExpNeg(0)
	for cell := uint64(1); cell <= 25<<16; cell++ {
		end, start := ledger.ExpNeg(cell<<16-1), ledger.ExpNeg(cell<<16)
		if end > last || start > end {
			t.Fatalf("at cell %d: %d, %d, %d", cell, last, end, start)
		}
		last = start
	}
}

func TestCurveIsTheExponential(t *testing.T) {
	w := newWorld(t, 1, nil)
	for _, m := range []uint64{2, 10, 1000} {
		for _, dHours := range []uint64{1, 77, 1_000_000} {
			net := newWorld(w.tb, 1, nil, func(g *proto.Genesis) { g.CurveM, g.CurveDCpuHours = m, dHours }).net
			d := dHours * microhours
			rapid.Check(t, func(r *rapid.T) {
				x := rapid.Uint64Range(0, 20*d).Draw(r, "x")
				got := ledger.CurveRate(net, x)
				exact := new(big.Float).Mul(exp(x, d), new(big.Float).SetUint64((m-1)*1_000_000))
				want, _ := exact.Int(nil)
				if diff := int64(got) - int64(1_000_000+want.Uint64()); diff < -1 || diff > 1 {
					r.Fatalf("R(%d/%d) = %d, want %d", x, d, got, 1_000_000+want.Uint64())
				}
				if y := rapid.Uint64Range(x, 30*d).Draw(r, "y"); ledger.CurveRate(net, y) > got {
					r.Fatalf("R(%d) > R(%d)", y, x)
				}
			})
		}
	}
}
