package instrument

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"edgenet.dev/proto"
)

// frozen are the digests of every weight, by meter version. A version that was
// released never changes here: another table is another version.
var frozen = map[uint32]string{
	1: "a2b0b71013e844b39e8f9b27e1d5a5556fccbb570f9376c3e75a83be328f0dae",
	2: "a2b0b71013e844b39e8f9b27e1d5a5556fccbb570f9376c3e75a83be328f0dae", // the same weights; other code is written
}

// TestWeightsAreFrozen: replicas that name one meter version must agree on
// fuel, whatever release they run.
func TestWeightsAreFrozen(t *testing.T) {
	var table strings.Builder
	fmt.Fprintln(&table, weightPage, weightHost, weightElement, bulkShift, weightFunc, frameUnits, DepthLimit)
	for op := range 0x100 {
		fmt.Fprintln(&table, op, weight(op))
	}
	for _, prefix := range []int{opMisc, opSIMD} {
		for op := range 0x100 {
			fmt.Fprintln(&table, prefix, op, weight(prefix<<8|op))
		}
	}
	sum := sha256.Sum256([]byte(table.String()))
	if got := fmt.Sprintf("%x", sum); got != frozen[proto.MeterVersion] {
		t.Errorf("the weights have digest %s; meter version %d is frozen as %q: a change of weights needs a new version", got, proto.MeterVersion, frozen[proto.MeterVersion])
	}
}
