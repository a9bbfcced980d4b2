package node

import (
	"encoding/json"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/proto/fieldtest"
)

// What the ledger says of a hold reaches the market, or stands here with the
// reason. A payee that was lost on this way cost its worker all that it earned.
func TestNoFieldOfAHoldIsLost(t *testing.T) {
	fieldtest.Carried(t, holdRecord, map[string]string{
		"Payer":     "the market is told of holds of this node only",
		"Remaining": "follows from budget and lanes",
		"Forgotten": "only of others' holds",
	}, map[string]string{
		"Lanes.Upto": "counts receipts, which no event names",
	})
	fieldtest.Carried(t, func(st ledger.HoldState) market.Lane { return laneOf(st, 0) }, map[string]string{
		"Job": "a worker serves a lane whatever its job", "Budget": "covers other lanes, too", "Remaining": "as Budget",
		"Closed": "such a lane is refused", "Forgotten": "as Closed", "Lanes.Done": "as Closed",
		"Lanes.Paid": "the own ledger tells", "Lanes.Fuel": "the voucher tells",
	}, map[string]string{"Paid": "the own ledger tells", "Index": "is 0 here", "Earned": "the receipts that this worker keeps tell", "Promised": "the voucher that it keeps tells"})
	notYet := map[string]string{
		"Req": "the market's own number", "Lanes.Amount": "nothing is promised yet", "Lanes.Fuel": "as Amount",
		"Lanes.Upto": "as Amount", "Lanes.Settled": "as Amount", "Lanes.Done": "as Amount",
	}
	fieldtest.Carried(t, newHold, with(notYet, "Hold", "is made by this event"), nil)
	fieldtest.Carried(t, newExtend, with(notYet, "Job", "the hold names it"), nil)
}

func with(m map[string]string, key, why string) map[string]string {
	out := map[string]string{key: why}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// What is saved is what is read back.
func TestNoFieldOfARecordIsLost(t *testing.T) {
	fieldtest.Carried(t, saved[market.JobRecord], nil, nil)
	fieldtest.Carried(t, saved[market.TaskRecord], nil, nil)
	fieldtest.Carried(t, saved[market.HoldRecord], nil, nil)
}

func saved[T any](v T) T {
	w, err := record("key", v)
	if err != nil {
		panic(err)
	}
	var out T
	if err := json.Unmarshal(w.value, &out); err != nil {
		panic(err)
	}
	return out
}

func TestNoFieldOfAResultIsLost(t *testing.T) {
	fieldtest.Carried(t, resultOf, map[string]string{
		"Output": "names the blob that is read into Output", "Size": "as Output", "Log": "names the blob that is read into Log",
		"Replicas.Attempt": "of Job, not of Result", "Replicas.Trial": "of Job", "Replicas.Partial": "of Job", "Replicas.State": "of Job", "Replicas.Status": "of Job", "Replicas.Output": "of Job",
		"Replicas.Fuel": "of Job", "Replicas.Paid": "of Job", "Replicas.Code": "of Job", "Replicas.Hold": "of the wallet",
		"Replicas.Lane": "of the wallet", "Replicas.LaneAmount": "of the wallet", "Replicas.LaneFuel": "of the wallet", "Replicas.LaneUpto": "of the wallet",
	}, map[string]string{"Output": "a blob", "Log": "a blob", "Receipts": "stored by themselves"})
}

// Every limit of an assignment holds in the sandbox.
func TestNoLimitOfAnAssignmentIsLost(t *testing.T) {
	type limits struct{ FuelLimit, MemoryLimit, OutputLimit, WallMs uint64 }
	fieldtest.Carried(t, func(l limits) proto.Limits {
		return limitsOf(&proto.Assignment{FuelLimit: l.FuelLimit, MemoryLimit: l.MemoryLimit, OutputLimit: l.OutputLimit, WallMs: l.WallMs})
	}, nil, nil)
}
