package main

import (
	"os"
	"strconv"
	"testing"
	"time"

	"edgenet.dev/test/daemon"
	"edgenet.dev/test/hostile/attack"
)

// Each attack alone on a network of its own, with what it costs honest jobs, as
// make mutants plays it: with its countermeasure on nothing is broken and
// nothing grows, with it off the attack succeeds. It compares times, so it runs
// only when TEST_ATTACK_SECONDS says how long each part takes.
func TestAttackAlone(t *testing.T) {
	seconds, _ := strconv.Atoi(os.Getenv("TEST_ATTACK_SECONDS"))
	if seconds == 0 {
		t.Skip("it measures: TEST_ATTACK_SECONDS=8 runs it")
	}
	bin, err := daemon.Build(t.Context(), t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	long := time.Duration(seconds) * time.Second
	for _, a := range attack.All() {
		t.Run(a.Name(), func(t *testing.T) {
			net, err := attack.Start(t.Context(), bin, 3)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := net.Net.Close(); err != nil {
					t.Error(err)
				}
			})
			r, err := attack.Play(t.Context(), net, a, long, long)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(r)
			for _, s := range append(r.Broken(), r.Excess()...) {
				t.Error(s)
			}
		})
	}
}
