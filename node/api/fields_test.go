//go:build !js

package api

import (
	"testing"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/proto/fieldtest"
)

// Everything that a submission says reaches the node. A type and a module
// exclude each other, so both are asked for.
func TestNoFieldOfASubmissionIsLost(t *testing.T) {
	type both struct{ typed, custom node.JobSpec }
	fieldtest.Carried(t, func(m *api.SubmitRequest) both {
		m.Redundancy = m.Redundancy%proto.MaxRedundancy + 1
		m.Priority = map[bool]string{true: "high", false: "low"}[m.Priority[len(m.Priority)-1]%2 == 0]
		typed := &api.SubmitRequest{
			Type: m.Type, Inputs: m.Inputs, Redundancy: m.Redundancy, MaxCredits: m.MaxCredits, Priority: m.Priority,
			TimeoutMs: m.TimeoutMs, RunTimeoutMs: m.RunTimeoutMs, QueueTimeoutMs: m.QueueTimeoutMs,
			FuelLimit: m.FuelLimit, MemoryLimit: m.MemoryLimit, Label: m.Label,
		}
		custom := &api.SubmitRequest{Module: m.Module, Inputs: m.Inputs, Priority: m.Priority}
		var out both
		var err error
		if out.typed, err = jobSpec(typed); err != nil {
			t.Fatal(err)
		}
		if out.custom, err = jobSpec(custom); err != nil {
			t.Fatal(err)
		}
		return out
	}, map[string]string{"DryRun": "says what is done with the rest"}, nil)
}

// Everything that the node tells of a job and of a result reaches its reader.
func TestNoFieldOfAJobIsLost(t *testing.T) {
	fieldtest.Carried(t, func(v market.JobView) *api.Job { return jobMessage(v, nil) }, map[string]string{
		"Record.Round": "the market's own number", "Record.Job.ModuleSize": "whoever asks has the module",
		"Record.Job.Inputs.Hash": "whoever asks has the inputs", "Record.Job.Inputs.Size": "as Hash",
		"Record.Begun": "the market's own", "Record.Job.StartFuel": "of the module", "Record.Job.Options.Fuel": "not shown", "Record.Job.Options.Memory": "not shown",
	}, map[string]string{"TaskInfo": "given apart", "Waiting": "of the node's own peers"})
	fieldtest.Carried(t, taskMessage, map[string]string{
		"ID.Job": "of the job's message", "Reason": "of the result", "Status": "of the result", "ExitCode": "of the result", "Size": "of the result", "Log": "of the result",
		"Replicas.Status": "State says it", "Replicas.State": "a trial is shown as that", "Replicas.Partial": "State says it of what is no trial", "Replicas.Hold": "of the wallet", "Replicas.Lane": "of the wallet",
		"Replicas.LaneAmount": "of the wallet", "Replicas.LaneFuel": "of the wallet", "Replicas.LaneUpto": "of the wallet",
	}, map[string]string{"LostLog": "stored by itself"})
	fieldtest.Carried(t, func(r market.Result) *api.TaskResult {
		m, err := resultMessage(&r)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}, map[string]string{"Task.Job": "whoever asks named it"}, nil)
}
