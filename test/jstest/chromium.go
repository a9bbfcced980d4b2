//go:build unix

// Package jstest runs code for js/wasm in a headless Chromium: Go test binaries
// in a dedicated Worker, or a page of the caller's.
package jstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// Browser is a headless Chromium with a page of a loopback server.
type Browser struct {
	URL string // of the server, with a slash at its end

	cmd     *exec.Cmd
	server  *http.Server
	profile string
	exited  chan struct{}
	stderr  tail
	close   sync.Once
	err     error
}

// Start serves handler on loopback and opens its page / in a Chromium with an
// empty profile, or with the one in dir, which is kept.
func Start(handler http.Handler, dir string) (*Browser, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, errors.New("jstest: chromium is not installed; run make setup")
	}
	b := &Browser{exited: make(chan struct{})}
	if dir == "" {
		if b.profile, err = os.MkdirTemp("", "edgenet-tab-"); err != nil {
			return nil, err
		}
		dir = b.profile
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, b.clean())
	}
	b.URL = "http://" + listener.Addr().String() + "/"
	b.server = &http.Server{Handler: handler}
	go b.server.Serve(listener)
	b.cmd = exec.Command(path,
		"--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--disable-dev-shm-usage", "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
		"--user-data-dir="+dir, b.URL)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it has children
	b.cmd.Stderr = &b.stderr
	if err := b.cmd.Start(); err != nil {
		return nil, errors.Join(err, b.server.Close(), b.clean())
	}
	go func() {
		b.cmd.Wait()
		close(b.exited)
	}()
	return b, nil
}

// Exited is closed when the browser ended.
func (b *Browser) Exited() <-chan struct{} { return b.exited }

// Close kills the browser and waits for it. It is idempotent.
func (b *Browser) Close() error {
	b.close.Do(func() {
		syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
		<-b.exited
		b.err = errors.Join(b.server.Close(), b.clean())
	})
	return b.err
}

func (b *Browser) clean() error {
	if b.profile == "" {
		return nil
	}
	return os.RemoveAll(b.profile)
}

// Stderr is the end of what the browser said.
func (b *Browser) Stderr() string { return b.stderr.String() }

// wait returns what comes on done, or why nothing will.
func (b *Browser) wait(ctx context.Context, done <-chan string) (string, error) {
	select {
	case s := <-done:
		return s, nil
	case <-b.exited:
		return "", fmt.Errorf("jstest: the browser ended: %s", b.stderr.String())
	case <-ctx.Done():
		return "", fmt.Errorf("jstest: no end in time: %w; the browser said: %s", context.Cause(ctx), b.stderr.String())
	}
}

// tail keeps the end of what a process says.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	t.b = t.b[max(0, len(t.b)-4<<10):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
