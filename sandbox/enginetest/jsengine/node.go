//go:build !js

package jsengine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
)

// NewNode starts a Node process that runs the bundle in dir, the output
// directory of the browser package's build.
func NewNode(dir string, opt Options) (*Engine, error) {
	path, err := exec.LookPath("node")
	if err != nil {
		return nil, errors.New("jsengine: node is not installed; run make setup")
	}
	cmd := exec.Command(path, append(slices.Clone(opt.V8), filepath.Join(dir, "test", "node-runner.mjs"))...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	e := newEngine(opt)
	p := &process{cmd: cmd, in: in, done: make(chan struct{})}
	e.link = p
	r := bufio.NewReaderSize(out, 64<<10)
	m, err := decode(r)
	if err == nil {
		err = e.hello(m)
	}
	if err != nil {
		close(p.done)
		p.close()
		return nil, fmt.Errorf("node: %w", err)
	}
	go func() {
		defer close(p.done)
		for {
			m, err := decode(r)
			if err != nil {
				e.fail(err)
				return
			}
			e.deliver(m)
		}
	}()
	return e, nil
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{} // stdout has ended

	mu sync.Mutex
	in io.WriteCloser
}

func (p *process) send(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.in.Write(b)
	return err
}

// close ends stdin, which ends the process and its Workers.
func (p *process) close() error {
	p.in.Close()
	<-p.done
	return p.cmd.Wait()
}

// PID is the Node process of e; 0 for a browser.
func (e *Engine) PID() int {
	if p, ok := e.link.(*process); ok {
		return p.cmd.Process.Pid
	}
	return 0
}
