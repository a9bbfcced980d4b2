package ledger

import "edgenet.dev/proto"

// errPruned is an event at or below the base checkpoint's frontier: its
// effects are in the state already.
var errPruned = proto.CodeConflict.Errorf("the event is covered by a checkpoint")

// disabled switches countermeasures off, one at a time, in tests that show
// what happens without them.
var disabled struct {
	fingerprints bool // salted SHA-256 over heads; without: XOR of ids
}
