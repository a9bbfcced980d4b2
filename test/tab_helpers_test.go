package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"edgenet.dev/test/jstest"
)

// tabFiles are what a page of a test loads, built once.
var tabFiles = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(filepath.Dir(edgenetd), "tab") // removed with edgenetd
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "run", "./browser/build", "-o", filepath.Join(dir, "main.wasm"))
	if cmd.Dir, err = root(); err != nil {
		return "", err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("browser/build: %w\n%s", err, out)
	}
	return dir, nil
})

// tab is a page in a headless Chromium with a node in a Worker of its own.
type tab struct {
	t       *testing.T
	browser *jstest.Browser
	relays  []string

	mu       sync.Mutex
	last     int
	commands chan string
	answers  map[string]chan answer
	events   []string
}

type answer struct {
	Value   json.RawMessage
	Code    string
	Message string
}

// openTab opens a page; relays are what its host resolves to.
func openTab(t *testing.T, relays []string) *tab {
	t.Helper()
	dir, err := tabFiles()
	if err != nil {
		t.Fatal(err)
	}
	glue, err := jstest.WasmExec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	task := filepath.Join(repo(t), "browser", "dist", "task-worker.js")
	if _, err := os.Stat(task); err != nil {
		t.Fatalf("%v; run make browser", err)
	}
	tb := &tab{t: t, relays: relays, commands: make(chan string), answers: map[string]chan answer{}}
	mux := http.NewServeMux()
	for name, file := range map[string]string{
		"main.wasm": filepath.Join(dir, "main.wasm"), "wasm_exec.js": glue, "task-worker.js": task,
		"tab.js": filepath.Join(repo(t), "test", "testdata", "tab.js"),
	} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<!doctype html><meta charset="utf-8"><title>tab</title><script>
			const w = new Worker("tab.js");
			w.onmessage = () => location.reload();
			w.onerror = (e) => fetch("event", { method: "POST", body: JSON.stringify({ kind: "exit", message: e.message }) });
		</script>`)
	})
	mux.HandleFunc("GET /relays", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(tb.relays) })
	mux.HandleFunc("GET /command", tb.command)
	mux.HandleFunc("POST /answer", tb.answer)
	mux.HandleFunc("POST /event", func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		tb.mu.Lock()
		defer tb.mu.Unlock()
		tb.events = append(tb.events, string(text))
	})
	if tb.browser, err = jstest.Start(mux, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("events of the tab:\n%s\nits browser:\n%s", strings.Join(tb.seen(""), "\n"), tb.browser.Stderr())
		}
		if err := tb.browser.Close(); err != nil {
			t.Error(err)
		}
	})
	return tb
}

// seen are the events of a kind so far, as JSON; all with "".
func (tb *tab) seen(kind string) []string {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	var out []string
	for _, e := range tb.events {
		if kind == "" || strings.Contains(e, fmt.Sprintf(`"kind":%q`, kind)) {
			out = append(out, e)
		}
	}
	return out
}

func (tb *tab) command(w http.ResponseWriter, r *http.Request) {
	select {
	case c := <-tb.commands:
		if c == "" {
			w.WriteHeader(http.StatusResetContent)
			return
		}
		io.WriteString(w, c)
	case <-r.Context().Done():
	case <-tb.browser.Exited():
	}
}

func (tb *tab) answer(_ http.ResponseWriter, r *http.Request) {
	var a answer
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		a.Message = err.Error()
	}
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if ch := tb.answers[r.URL.Query().Get("id")]; ch != nil {
		ch <- a
	}
}

// try calls a method of edgenetNode and reads its answer into out.
func (tb *tab) try(out any, op string, args ...any) (code string, err error) {
	tb.t.Helper()
	tb.mu.Lock()
	tb.last++
	id, ch := strconv.Itoa(tb.last), make(chan answer, 1)
	tb.answers[id] = ch
	tb.mu.Unlock()
	if args == nil {
		args = []any{}
	}
	text, err := json.Marshal(map[string]any{"id": id, "op": op, "args": args})
	if err != nil {
		tb.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.t.Context(), guard)
	defer cancel()
	tb.send(ctx, string(text))
	select {
	case a := <-ch:
		if a.Message != "" {
			return a.Code, fmt.Errorf("%s: %s: %s", op, a.Code, a.Message)
		}
		if out != nil {
			if err := json.Unmarshal(a.Value, out); err != nil {
				tb.t.Fatalf("%s answers %s: %v", op, a.Value, err)
			}
		}
		return "", nil
	case <-ctx.Done():
		tb.t.Fatalf("%s: no answer; %s", op, tb.browser.Stderr())
	case <-tb.browser.Exited():
		tb.t.Fatalf("%s: the browser ended: %s", op, tb.browser.Stderr())
	}
	return "", nil
}

// call is try for what must not fail.
func (tb *tab) call(out any, op string, args ...any) {
	tb.t.Helper()
	if _, err := tb.try(out, op, args...); err != nil {
		tb.t.Fatal(err)
	}
}

func (tb *tab) send(ctx context.Context, command string) {
	tb.t.Helper()
	select {
	case tb.commands <- command:
	case <-ctx.Done():
		tb.t.Fatalf("the tab asks for no command; events: %q", tb.seen(""))
	}
}

// reload loads the page again, as a visitor would: the Worker is gone.
func (tb *tab) reload() {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.t.Context(), guard)
	defer cancel()
	tb.send(ctx, "")
}

// jsBytes is a Uint8Array on its way to or from a tab.
type jsBytes []byte

type wrapped struct {
	Bytes []byte `json:"$bytes"`
}

// MarshalJSON implements json.Marshaler.
func (b jsBytes) MarshalJSON() ([]byte, error) { return json.Marshal(wrapped{b}) }

// UnmarshalJSON implements json.Unmarshaler.
func (b *jsBytes) UnmarshalJSON(text []byte) error {
	var w wrapped
	err := json.Unmarshal(text, &w)
	*b = w.Bytes
	return err
}
