package node

import (
	"testing"

	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// A memory limit is within what a sandbox can have, whoever asks and whatever
// workers say.
func TestMemoryLimitHasARange(t *testing.T) {
	n := alone(t)
	for memory, want := range map[uint64]proto.Code{
		64<<10 - 1:            proto.CodeMalformed,
		sandbox.MaxMemory:     proto.CodeOK,
		sandbox.MaxMemory + 1: proto.CodeLimits,
	} {
		_, err := n.Quote(JobSpec{Type: "text", Inputs: [][]byte{[]byte("a")}, Options: market.Options{Memory: memory}})
		if proto.CodeOf(err) != want {
			t.Errorf("memory limit %d: %v, want %s", memory, err, want)
		}
	}
}
