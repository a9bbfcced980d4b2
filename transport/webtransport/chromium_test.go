//go:build !js

package webtransport_test

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// result is what a tab posts about a case.
type result struct {
	Name, Error, Notes string
	Millis             int64
}

const worker = `importScripts('/wasm_exec.js');
(async () => {
  try {
    self.CONFIG = await (await fetch('/config')).text();
    const go = new Go();
    const built = await WebAssembly.instantiateStreaming(fetch('/tab.wasm'), go.importObject);
    await go.run(built.instance);
    throw new Error('the program ended');
  } catch (e) {
    fetch('/result', {method: 'POST', body: JSON.stringify({Name: 'start', Error: String(e)})});
  }
})();`

// buildTab builds the browser's half.
func buildTab(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "tab.wasm")
	cmd := exec.Command("go", "build", "-o", out, "./testdata/tab")
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	return out
}

func goroot(t *testing.T) string {
	t.Helper()
	b, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// runTab runs the program in headless Chromium, in a dedicated Worker or in the
// page itself, and returns what it posts. The test ends the browser.
func runTab(t *testing.T, wasm string, config any, inWorker bool) <-chan result {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is not installed; run make setup")
	}
	page := `<!doctype html><meta charset="utf-8"><title>tab</title>`
	if inWorker {
		page += `<script>new Worker('/worker.js')</script>`
	} else {
		page += `<script>self.importScripts = () => {}</script><script src="/wasm_exec.js"></script><script src="/worker.js"></script>`
	}
	results := make(chan result, 100)
	mux := http.NewServeMux()
	text := func(path, kind, body string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Write([]byte(body))
		})
	}
	text("/{$}", "text/html", page)
	text("/worker.js", "text/javascript", worker)
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	text("/config", "application/json", string(b))
	file := func(path, name string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) })
	}
	file("/tab.wasm", wasm)
	file("/wasm_exec.js", filepath.Join(goroot(t), "lib", "wasm", "wasm_exec.js"))
	mux.HandleFunc("POST /result", func(w http.ResponseWriter, r *http.Request) {
		var got result
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&got); err != nil {
			got = result{Name: "start", Error: err.Error()}
		}
		results <- got
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(listener) }()
	t.Cleanup(func() { server.Close(); <-served })

	profile, err := os.MkdirTemp("", "edgenet-tab-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(profile) })
	cmd := exec.Command(chromium,
		"--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--enable-logging=stderr",
		"--user-data-dir="+profile, "http://"+listener.Addr().String()+"/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it has children
	var stderr tail
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		results <- result{Name: "start", Error: "chromium ended"}
		close(exited)
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-exited
		if t.Failed() {
			t.Logf("chromium said:\n%s", stderr.String())
		}
	})
	return results
}

// next waits for the next result.
func next(t *testing.T, results <-chan result) result {
	t.Helper()
	select {
	case r := <-results:
		if r.Name == "start" {
			t.Fatalf("the tab did not start: %s", r.Error)
		}
		return r
	case <-time.After(2 * time.Minute):
		t.Fatal("no word from the tab")
	}
	return result{}
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
	t.b = t.b[max(0, len(t.b)-16<<10):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.ToValidUTF8(t.b, nil))
}
