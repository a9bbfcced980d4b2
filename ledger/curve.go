package ledger

import (
	"math/bits"

	"edgenet.dev/proto"
)

// The contribution curve: for work at the base price that earns a bonus,
// R(x) = 1 + (M−1)·e^(−x/D), where x is all the work that earned one so far.
// It is computed in integers, so that every machine gets the same value:
// e^(−u) is the product of three table entries, for the whole part of u, its
// next 8 bits and the 8 bits after them, and between two such products it is a
// straight line. The result is within one ppm of the exact value and never
// rises with x.

// microhours in one hour of reference CPU.
const microhours = 1_000_000

// expBits is the scale of the tables.
const expBits = 62

// expNeg is e^(−u) in units of 2^-62, u in units of 2^-32.
func expNeg(u uint64) uint64 {
	a, b := expNode(u>>16), expNode(u>>16+1)
	return a - (a-b)*(u&0xffff)>>16 // a−b < 2^47
}

// expNode is e^(−n/65536). It never rises with n: all n are tested.
func expNode(n uint64) uint64 {
	whole := n >> 16
	if whole >= uint64(len(expWhole)) {
		return 0
	}
	return mulShift(mulShift(expWhole[whole], expFine[n>>8&0xff]), expFinest[n&0xff])
}

// mulShift multiplies two values in units of 2^-62, rounding down.
func mulShift(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi<<(64-expBits) | lo>>expBits
}

// mintRate is R(x) − 1 in ppm: ⌊(M−1)·10^6·e^(−x/D)⌋. x is in CPU-microhours.
func mintRate(net *proto.Network, x uint64) uint64 {
	g := net.Genesis
	if g.CurveM < 2 {
		return 0
	}
	u := mulDiv(x, 1<<32, satMul(g.CurveDCpuHours, microhours))
	return mulDiv(expNeg(u), satMul(g.CurveM-1, 1_000_000), 1<<expBits)
}

// CurveRate is R(x) in ppm for x CPU-microhours of work that earned a bonus.
func CurveRate(net *proto.Network, x uint64) uint64 { return 1_000_000 + mintRate(net, x) }

// MintCap is the most that bonuses can ever mint, in microcredits: the area
// under the curve, (M−1)·D at the base price, and never so much that all
// credits could pass 2^53.
func MintCap(net *proto.Network) proto.Credit {
	g := net.Genesis
	area := satMul(satMul(satMul(g.CurveM-min(1, g.CurveM), g.CurveDCpuHours), 60), g.BasePrice)
	room := uint64(maxAmount)
	for _, v := range net.Grants {
		room -= min(room, uint64(v))
	}
	return proto.Credit(min(area, room))
}

func satMul(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi != 0 {
		return 1<<64 - 1
	}
	return lo
}

func satAdd(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return 1<<64 - 1
	}
	return s
}
