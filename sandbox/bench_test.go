//go:build !js

package sandbox_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
	"edgenet.dev/sandbox/modules"
)

// BenchmarkPoolTask is a tiny task through a warm child, fresh instance and
// all.
func BenchmarkPoolTask(b *testing.B) {
	benchmark(b, newPool(b, sandbox.PoolConfig{}), enginetest.Echo(), []byte("x"))
}

func BenchmarkInProcessTask(b *testing.B) {
	benchmark(b, inProcess(b), enginetest.Echo(), []byte("x"))
}

func BenchmarkTextPool(b *testing.B) {
	m, _ := modules.Lookup("text")
	benchmark(b, newPool(b, sandbox.PoolConfig{}), m.Raw, book(b))
}

func BenchmarkTextInProcess(b *testing.B) {
	m, _ := modules.Lookup("text")
	benchmark(b, inProcess(b), m.Raw, book(b))
}

func inProcess(b *testing.B) sandbox.Executor {
	ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ex.Close() })
	return ex
}

func book(b *testing.B) []byte {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	t, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src", "testdata", "Isaac.Newton-Opticks.txt"))
	if err != nil {
		b.Fatal(err)
	}
	return t
}

func benchmark(b *testing.B, ex sandbox.Executor, raw, input []byte) {
	m := prepare(b, raw)
	b.SetBytes(int64(len(input)))
	var fuel proto.Fuel
	one := func() {
		res, err := ex.Run(context.Background(), m, input, sandbox.Task{})
		if err != nil || res.Status != proto.StatusOK {
			b.Fatal(err, res.Status)
		}
		fuel = res.Fuel
	}
	one() // compiles
	for b.Loop() {
		one()
	}
	b.ReportMetric(float64(fuel)/(float64(b.Elapsed().Nanoseconds())/float64(b.N)), "fuel/ns")
}
