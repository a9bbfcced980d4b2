package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"edgenet.dev/proto"
)

// Executor runs prepared modules. Implementations are safe for concurrent use.
type Executor interface {
	// Run executes m once, in a fresh instance. How the guest ended is the
	// Result's Status; the end of ctx is StatusCancelled, a passed Limits.Wall
	// StatusTimeout. An executor that throttles its guests counts only the time
	// that it lets them run, and gives up at proto.Stretch of Limits.Wall and
	// once Limits.Wall more at the latest. An error means misuse or a broken executor.
	Run(ctx context.Context, m *Module, input []byte, task Task) (Result, error)
	// Close cancels what runs and waits for it. It is idempotent.
	Close() error
}

// Task is what a run gets besides module and input.
type Task struct {
	Limits   proto.Limits // zero fields take proto's defaults
	Seed     proto.Hash   // of the guest's random numbers; proto.TaskID.Seed
	Progress func(permille uint32)
	// Halt stops the guest (true) and lets it go on (false) in executors that can,
	// see Spare. What it stands does not count as running, up to MaxHalt.
	Halt <-chan bool

	onLog func(b []byte) // hears the log as it grows, in the guest's own thread
	onOut func(b []byte) // hears the start of what it writes to stdout likewise, see guest.tellOutput
	// onRun is told how to ask what the guest has used, from any thread until what
	// it returns is called, which is before the run ends.
	onRun func(used func() proto.Fuel) (ended func())
}

// Result is how a run ended.
type Result struct {
	Status   proto.Status
	ExitCode int32 // of a command that ended by proc_exit
	// Output is what a reactor returned, or what a command wrote to stdout
	// until it ended, however it did. With a status that does not vote it is the
	// start of that, proto.MaxLostOutput at most, and may lack what came last; in
	// a tab it is empty then.
	Output []byte
	// Fuel is what is billed: what ran. It is the whole limit when that ran
	// out, and after a trap what had run when the counter was stored last, at
	// most a loop's straight code less. With StatusTimeout it is what had run when
	// the counter was last looked at, a moment before the end; with other statuses
	// that do not vote 0.
	Fuel proto.Fuel
	// Log is what the guest wrote for people until it ended, any bytes, also
	// when it was killed. It is never voted on.
	Log []byte
	// Ran is how long the guest was let run, pauses of a throttled worker taken
	// out; 0 when the executor does not measure it. Never voted on.
	Ran time.Duration
}

// ErrClosed is returned by Run after Close.
var ErrClosed = errors.New("sandbox: executor is closed")

// checkRun refuses misuse and fills defaults.
func checkRun(m *Module, input []byte, task *Task) error {
	if m == nil || m.code == nil {
		return errors.New("sandbox: run without a prepared module")
	}
	task.Limits = task.Limits.WithDefaults()
	l := task.Limits
	switch {
	case l.Fuel > proto.MaxFuel:
		return fmt.Errorf("sandbox: fuel limit %d, at most %d", l.Fuel, proto.MaxFuel)
	case l.Memory > uint64(m.pages)*pageSize:
		return fmt.Errorf("sandbox: memory limit %d above the %d bytes the module was prepared for", l.Memory, uint64(m.pages)*pageSize)
	case l.Output > proto.MaxOutput:
		return fmt.Errorf("sandbox: output limit %d, at most %d", l.Output, proto.MaxOutput)
	case l.Log > proto.MaxLog:
		return fmt.Errorf("sandbox: log limit %d, at most %d", l.Log, proto.MaxLog)
	case len(input) > proto.MaxInput:
		return fmt.Errorf("sandbox: input of %d bytes, at most %d", len(input), proto.MaxInput)
	}
	return nil
}
