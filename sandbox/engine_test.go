//go:build !js

package sandbox_test

import (
	"testing"

	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
)

func TestConformanceInProcess(t *testing.T) {
	ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer ex.Close()
	enginetest.Run(t, ex)
}

func TestConformanceInterpreter(t *testing.T) {
	ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{Interpreter: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ex.Close()
	enginetest.Run(t, ex)
}

func TestConformancePool(t *testing.T) {
	enginetest.Run(t, newPool(t, sandbox.PoolConfig{Slots: 2, CacheDir: t.TempDir()}))
}
