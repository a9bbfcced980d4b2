package main

import (
	"testing"

	"edgenet.dev/proto/api"
)

// TestJudgeOfMoney: a job that ended for want of money has the code of one that
// is refused for it.
func TestJudgeOfMoney(t *testing.T) {
	for code, want := range map[string]int{"BUDGET": exitInsufficient, "INSUFFICIENT_BALANCE": exitInsufficient, "NO_QUORUM": exitTask} {
		if got := exitCode(judge(&api.Job{Id: "j", State: "failed", Code: code, Tasks: 1})); got != want {
			t.Errorf("%s: exit code %d, want %d", code, got, want)
		}
	}
}
