package main

import (
	"strings"
	"testing"
	"time"

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

// Trials are told from runs, and clocks behind from clocks ahead.
func TestTablesSayWhatIsMeant(t *testing.T) {
	got := whoRan([]*api.ReplicaInfo{{Worker: "a", State: "trial"}, {Worker: "b", Agreed: true}, {Worker: "c", Code: "MINORITY"}})
	if got != "a (trial) b c (MINORITY)" {
		t.Error(got)
	}
	for us, want := range map[int64]string{-1000: "1ms behind this one", 2000: "2ms ahead of this one"} {
		e := new(exam)
		examineClock(e, &api.HealthReply{ClockOffsetsUs: []int64{us}}, time.Hour)
		if !strings.Contains(e.list[0].Found, want) {
			t.Errorf("%d µs: %s", us, e.list[0].Found)
		}
	}
}
