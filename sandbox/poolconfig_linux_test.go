package sandbox_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
)

// A pool takes no task that may have more memory than its children have room
// for, and says what confines them.
func TestPoolMemoryAndLog(t *testing.T) {
	var mu sync.Mutex
	var said strings.Builder
	p, err := sandbox.NewPool(sandbox.PoolConfig{Memory: 32 << 20, Log: func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&said, format+"\n", args...)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	m := prepare(t, enginetest.Echo())
	task := sandbox.Task{Limits: proto.Limits{Memory: 32 << 20}}
	if res := run(t, p, context.Background(), m, "hello", task); string(res.Output) != "hello" {
		t.Errorf("%s %q", res.Status, res.Output)
	}
	task.Limits.Memory++
	if _, err := p.Run(context.Background(), m, nil, task); err == nil || !strings.Contains(err.Error(), "above the pool's") {
		t.Errorf("a task of more memory than the pool's: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(said.String(), "children are confined by") {
		t.Errorf("it said %q", said.String())
	}
}
