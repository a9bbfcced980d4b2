package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
)

// A worker whose sandbox does not start or whose disk is full would claim work
// only to lose it. After a local failure it tests itself, takes nothing while it
// fails that, and says so where the state of the worker is shown.

// selfTestAgain is how long after a failed test the next one is; tests have
// another one.
var selfTestAgain = 15 * time.Second

const (
	selfTestWall = 20 * time.Second // without an answer it is busy, not broken
	selfTestDisk = 1 << 20          // bytes that must still fit the data directory
)

// unwell has the worker test itself.
func (n *Node) unwell() { wake(n.failing) }

// watchHealth tests the worker at the start and whenever something fails here
// that is nobody else's fault, and has it take work or not.
func (n *Node) watchHealth(ctx context.Context) {
	for {
		was, now := *n.fault.Load(), ""
		if err := n.selfTest(ctx); err != nil && ctx.Err() == nil {
			now = fmt.Sprintf("it failed its self-test: %v; it is tested again every %s, see 'edgenetd doctor'", err, selfTestAgain)
		}
		if now != was {
			n.fault.Store(&now)
			if now != "" {
				n.log.Warn("worker takes no work", zap.String("why", now))
			} else {
				n.log.Info("worker passed its self-test")
			}
			if err := n.applyWorker(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("stop or start to take work", zap.Error(err))
			}
		}
		var again <-chan time.Time
		if now != "" {
			again = time.After(selfTestAgain)
		}
		select {
		case <-n.failing:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

// selfTest runs a built-in module and writes to the data directory.
func (n *Node) selfTest(ctx context.Context) error {
	if err := writable(n.cfg.Dir); err != nil {
		return fmt.Errorf("its data directory takes no more: %w", err)
	}
	b, ok := modules.Lookup(proto.TypeText)
	if !ok {
		return errors.New("the built-in modules are missing")
	}
	m, err := sandbox.Prepare(b.Raw, sandbox.Policy{})
	if err != nil {
		return fmt.Errorf("its sandbox prepares no module: %w", err)
	}
	input, err := modules.Input(proto.TypeText, []byte("a self-test"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, selfTestWall)
	defer cancel()
	res, err := n.cfg.Executor.Run(ctx, m, input, sandbox.Task{Limits: proto.Limits{Fuel: 100_000_000}.WithDefaults()})
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("its sandbox does not run: %w", err)
	case res.Status != proto.StatusOK:
		return fmt.Errorf("a built-in module ended with %s in its sandbox", res.Status)
	}
	return nil
}
