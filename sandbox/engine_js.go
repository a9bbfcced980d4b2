package sandbox

import "errors"

var errNoEngine = errors.New("sandbox: this build has no browser engine; run tasks with a daemon")

// InProcessConfig of NewInProcess.
type InProcessConfig struct {
	CacheDir    string
	Interpreter bool
}

// NewInProcess is not available in a browser.
func NewInProcess(InProcessConfig) (Executor, error) { return nil, errNoEngine }

// PoolConfig of NewPool.
type PoolConfig struct {
	Slots      int
	Command    []string
	CacheDir   string
	CPUPercent int
	Log        func(format string, args ...any)
	Memory     uint64
}

// NewPool is not available in a browser.
func NewPool(PoolConfig) (Executor, error) { return nil, errNoEngine }

// ChildMain is not available in a browser.
func ChildMain() int { return 1 }
