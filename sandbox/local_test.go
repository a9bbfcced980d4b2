//go:build !js

package sandbox_test

import (
	"context"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
)

func inBoth(t *testing.T, f func(t *testing.T, ex sandbox.Executor)) {
	for name, interpreter := range map[string]bool{"compiler": false, "interpreter": true} {
		t.Run(name, func(t *testing.T) {
			ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{Interpreter: interpreter})
			if err != nil {
				t.Fatal(err)
			}
			defer ex.Close()
			f(t, ex)
		})
	}
}

func vector(t *testing.T, name string) enginetest.Vector {
	for _, v := range enginetest.Vectors() {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no vector %q", name)
	panic("unreachable")
}

// A host that cannot give the memory a task is entitled to has no vote, and
// one that can is not disturbed.
func TestGrowBeyondTheHost(t *testing.T) {
	inBoth(t, func(t *testing.T, ex sandbox.Executor) {
		v := vector(t, "grow to the limit")
		m := prepare(t, v.Module)
		task := sandbox.Task{Limits: proto.Limits{Fuel: 1_000_000, Memory: v.Limits.Memory}}
		for _, c := range []struct {
			pages uint64
			want  proto.Status
		}{{15, proto.StatusHostOOM}, {16, proto.StatusOK}, {1, proto.StatusHostOOM}} {
			sandbox.SetHostMemory(ex, c.pages<<16)
			res := run(t, ex, context.Background(), m, "", task)
			if res.Status != c.want {
				t.Errorf("a host of %d pages: %s, want %s", c.pages, res.Status, c.want)
			}
			if !res.Status.Votable() && (res.Fuel != 0 || res.Output != nil) {
				t.Errorf("a host of %d pages: fuel %d, output %q", c.pages, res.Fuel, res.Output)
			}
		}
		// What the task may not have is -1 for everybody.
		sandbox.SetHostMemory(ex, 1<<16)
		for _, name := range []string{"grow past the limit", "grow past the maximum"} {
			v := vector(t, name)
			task.Limits.Memory = v.Limits.Memory
			if res := run(t, ex, context.Background(), prepare(t, v.Module), "", task); res.Status != proto.StatusOK || string(res.Output) != v.Output {
				t.Errorf("%s: %s, output %q", name, res.Status, res.Output)
			}
		}
	})
}

// Metering ends recursion long before an engine's own stack does. Should one be
// smaller than thought, its end says nothing about the guest.
func TestEngineStackOverflowIsLocal(t *testing.T) {
	inBoth(t, func(t *testing.T, ex sandbox.Executor) {
		v := vector(t, "endless recursion")
		task := sandbox.Task{Limits: proto.Limits{Fuel: 1 << 40}}
		m := prepare(t, v.Module)
		if res := run(t, ex, context.Background(), m, "", task); res.Status != proto.StatusStackLimit {
			t.Errorf("metered: %s", res.Status)
		}
		sandbox.Bottomless(t, m)
		if res := run(t, ex, context.Background(), m, "", task); res.Status != proto.StatusHostOOM || res.Fuel != 0 {
			t.Errorf("unmetered: %s, fuel %d; want %s", res.Status, res.Fuel, proto.StatusHostOOM)
		}
	})
}

// A guest finds zeros whatever the one before it left, within the memory that
// is kept for the next and above.
func TestMemoryStartsClear(t *testing.T) {
	inBoth(t, func(t *testing.T, ex sandbox.Executor) {
		for _, pages := range []int32{1, 3, 4, 5, 40} {
			dirty, sum := prepare(t, enginetest.Fill(pages, 0xa5)), prepare(t, enginetest.Fill(pages, 0))
			task := sandbox.Task{Limits: proto.Limits{Memory: 64 << 16}}
			for range 3 {
				if res := run(t, ex, context.Background(), dirty, "", task); res.Status != proto.StatusOK || string(res.Output) == "\x00\x00\x00\x00" {
					t.Fatalf("%d pages: %s, output %x", pages, res.Status, res.Output)
				}
				if res := run(t, ex, context.Background(), sum, "", task); res.Status != proto.StatusOK || string(res.Output) != "\x00\x00\x00\x00" {
					t.Fatalf("%d pages: %s, and the next guest finds %x", pages, res.Status, res.Output)
				}
			}
		}
	})
}
