//go:build !js

package sandbox

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"edgenet.dev/proto"
)

// process is a running child. One caller at a time talks to it; kill may come
// from anywhere.
type process struct {
	cmd    *exec.Cmd
	in     *bufio.Writer
	pipe   io.Closer
	frames chan frame    // closed when the child's stdout ended
	quit   chan struct{} // closed by kill
	gone   chan struct{} // closed when the child was reaped
	stderr tail

	// isolation is what the child reported and the parent did; set before the
	// child's first task.
	isolation Isolation
	credit    credit // see duty.go

	braking sync.Mutex
	brakes  brake // why it stands, see halt.go
	since   time.Time
	stood   time.Duration // before that

	mu     sync.Mutex
	killed bool
	reaped bool
	cause  proto.Status // why we killed it; StatusKilled after it ended by itself
}

// setup is what a child is told before anything else.
type setup struct {
	memory   uint64 // ceiling of linear memory
	cacheDir string
	bare     bool // no confinement but resource limits; in tests
}

// start runs argv and hands it the setup frame. It must be called on a thread
// that outlives the child, because Linux ties the parent-death signal to it.
// The child gets the most separate set of namespaces that the system grants.
func start(argv []string, s setup) (c *process, err error) {
	options := separations
	if s.bare {
		options = options[len(options)-1:]
	}
	var why []string
	for i, o := range options {
		c, err = startIn(argv, s, o)
		if err == nil {
			c.isolation.InForce = o.names
			c.isolation.Missing = why
			return c, nil
		}
		if i == 0 && len(o.names) > 0 {
			why = []string{"namespaces: " + reason(err)}
		}
	}
	return nil, err
}

// reason is the system's part of err, in one line.
func reason(err error) string {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e.Error()
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

func startIn(argv []string, s setup, o separation) (*process, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{}
	isolate(cmd, o)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c := &process{
		cmd: cmd, in: bufio.NewWriterSize(stdin, 64<<10), pipe: stdin,
		frames: make(chan frame), quit: make(chan struct{}), gone: make(chan struct{}),
	}
	cmd.Stderr = &c.stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	go c.read(bufio.NewReaderSize(stdout, 64<<10))
	// The answer, frameReady, is awaited by the pool; a failed write shows
	// there as the end of frames.
	head := binary.LittleEndian.AppendUint64(nil, s.memory)
	if head = append(head, 0); s.bare {
		head[8] = setupBare
	}
	writeFrame(c.in, frameSetup, head, []byte(s.cacheDir))
	return c, nil
}

// read forwards frames until the child's stdout ends, then reaps the child.
func (c *process) read(r *bufio.Reader) {
	defer close(c.gone)
	for {
		kind, b, err := readFrame(r)
		if err != nil {
			break
		}
		select {
		case c.frames <- frame{kind, b}:
			continue
		case <-c.quit:
		}
		break
	}
	c.mu.Lock()
	killGroup(c.cmd.Process.Pid)
	c.reaped = true // from here on the pid may belong to someone else
	c.mu.Unlock()
	close(c.frames)
	c.pipe.Close()
	c.cmd.Wait()
}

// kill ends the child, whose result will read as status.
func (c *process) kill(status proto.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.killed {
		return
	}
	c.killed, c.cause = true, status
	close(c.quit)
	if !c.reaped {
		killGroup(c.cmd.Process.Pid)
	}
}

// signal stops or continues the child's group.
func (c *process) signal(stop bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	if stop {
		stopGroup(c.cmd.Process.Pid)
	} else {
		contGroup(c.cmd.Process.Pid)
	}
}

// fate is why the child is gone. It is called after gone is closed.
func (c *process) fate() proto.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == proto.StatusKilled && strings.Contains(c.stderr.String(), "out of memory") {
		return proto.StatusHostOOM // the Go runtime's last words
	}
	return c.cause
}

func (c *process) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.killed && !c.reaped
}

// cpuTime is what the child has used so far, where the system tells.
func (c *process) cpuTime() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return 0, false
	}
	return cpuTime(c.cmd.Process.Pid)
}

// rss is the child's resident memory in bytes, where the system tells.
func (c *process) rss() (uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return 0, false
	}
	return rss(c.cmd.Process.Pid)
}

// tail keeps the last bytes a child wrote to stderr.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const maxTail = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - maxTail; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}
