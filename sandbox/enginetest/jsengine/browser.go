//go:build unix

package jsengine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// startTimeout bounds the wait for a browser's first frame.
const startTimeout = 60 * time.Second

const page = `<!doctype html><meta charset="utf-8"><title>engine test</title><script src="/engine-page.js"></script>`

// NewChromium starts a headless Chromium with a page on loopback that runs the
// bundle in dir, the output directory of the browser package's build.
func NewChromium(dir string, opt Options) (*Engine, error) {
	return newBrowser(dir, opt, "chromium", func(profile, url string) ([]string, error) {
		return []string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--user-data-dir=" + profile,
			"--js-flags=" + strings.Join(opt.V8, " "), url,
		}, nil
	})
}

// NewFirefox is NewChromium with Debian's Firefox; Options.V8 is of no use to
// it.
func NewFirefox(dir string, opt Options) (*Engine, error) {
	return newBrowser(dir, opt, "firefox-esr", func(profile, url string) ([]string, error) {
		var prefs strings.Builder
		for _, name := range []string{
			"app.normandy.enabled", "app.update.enabled", "browser.aboutwelcome.enabled", "browser.region.update.enabled",
			"browser.safebrowsing.downloads.enabled", "browser.safebrowsing.malware.enabled", "browser.safebrowsing.phishing.enabled",
			"browser.shell.checkDefaultBrowser", "datareporting.policy.dataSubmissionEnabled", "extensions.update.enabled",
			"network.captive-portal-service.enabled", "network.connectivity-service.enabled", "toolkit.telemetry.enabled",
		} {
			fmt.Fprintf(&prefs, "user_pref(%q, false);\n", name)
		}
		args := []string{"--headless", "--no-remote", "--profile", profile, url}
		return args, os.WriteFile(filepath.Join(profile, "user.js"), []byte(prefs.String()), 0o600)
	})
}

// newBrowser starts a browser with the arguments for an empty profile and the
// page's address.
func newBrowser(dir string, opt Options, program string, args func(profile, url string) ([]string, error)) (*Engine, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("jsengine: %s is not installed; run make setup", program)
	}
	profile, err := os.MkdirTemp("", "edgenet-browser-")
	if err != nil {
		return nil, err
	}
	e := newEngine(opt)
	b := &browser{engine: e, profile: profile, ready: make(chan struct{})}
	b.wake = sync.NewCond(&b.mu)
	e.link = b
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.RemoveAll(profile)
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, page)
	})
	for name, file := range map[string]string{"task-worker.js": "task-worker.js", "engine-page.js": filepath.Join("test", "engine-page.js")} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, filepath.Join(dir, file)) })
	}
	mux.HandleFunc("GET /frames", b.get)
	mux.HandleFunc("POST /frames", b.post)
	b.server = &http.Server{Handler: mux}
	go b.server.Serve(listener)

	arguments, err := args(profile, "http://"+listener.Addr().String()+"/")
	if err != nil {
		b.server.Close()
		os.RemoveAll(profile)
		return nil, err
	}
	b.cmd = exec.Command(path, arguments...)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it has children
	var stderr tail
	b.cmd.Stderr = &stderr
	if err := b.cmd.Start(); err != nil {
		b.server.Close()
		os.RemoveAll(profile)
		return nil, err
	}
	b.exited = make(chan struct{})
	go func() {
		err := b.cmd.Wait()
		e.fail(fmt.Errorf("browser ended: %w", errors.Join(err, errGone)))
		close(b.exited)
	}()
	select {
	case <-b.ready:
		err = b.refused
	case <-b.exited:
		err = fmt.Errorf("browser ended: %s", stderr.String())
	case <-time.After(startTimeout):
		err = fmt.Errorf("no word from the page: %s", stderr.String())
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("jsengine: %s: %w", program, err)
	}
	return e, nil
}

// browser is the loopback server and the process whose page it serves.
type browser struct {
	engine  *Engine
	cmd     *exec.Cmd
	server  *http.Server
	profile string
	exited  chan struct{}
	ready   chan struct{} // hello has come
	refused error         // by hello; set before ready

	mu     sync.Mutex
	wake   *sync.Cond
	queue  []byte
	closed bool
	greet  sync.Once
}

func (b *browser) send(frame []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errGone
	}
	b.queue = append(b.queue, frame...)
	b.wake.Signal()
	return nil
}

// get answers with the frames that wait, or waits for one.
func (b *browser) get(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	for len(b.queue) == 0 && !b.closed {
		b.wake.Wait()
	}
	frames := b.queue
	b.queue = nil
	b.mu.Unlock()
	if len(frames) == 0 {
		w.WriteHeader(http.StatusGone)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Write(frames)
}

func (b *browser) post(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.WriteHeader(http.StatusNoContent)
	for in := bytes.NewReader(body); ; {
		m, err := decode(in)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			b.engine.fail(err)
			return
		}
		hello := false
		b.greet.Do(func() {
			hello = true
			b.refused = b.engine.hello(m)
			close(b.ready)
		})
		if !hello {
			b.engine.deliver(m)
		}
	}
}

func (b *browser) close() error {
	b.mu.Lock()
	b.closed = true
	b.wake.Broadcast()
	b.mu.Unlock()
	syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
	<-b.exited
	b.server.Close()
	return os.RemoveAll(b.profile)
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
