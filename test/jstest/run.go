//go:build unix

package jstest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed worker.js
var worker []byte

// Build runs go build or go test -c for js/wasm with more arguments and returns
// the path of the binary in dir.
func Build(ctx context.Context, dir string, args ...string) (string, error) {
	out := filepath.Join(dir, "main.wasm")
	args = append(args[:1:1], append([]string{"-o", out}, args[1:]...)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("jstest: go %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return out, nil
}

// WasmExec is the path of the glue that Go's own distribution has for js/wasm.
func WasmExec(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("jstest: go env GOROOT: %w", err)
	}
	return filepath.Join(string(bytes.TrimSpace(out)), "lib", "wasm", "wasm_exec.js"), nil
}

// Test builds the tests of a package for js/wasm, runs them in a dedicated
// Worker of a Chromium and copies what they print to out. args are given to
// the test binary, such as -test.run=Name.
func Test(ctx context.Context, out io.Writer, pkg string, args ...string) error {
	dir, err := os.MkdirTemp("", "edgenet-jstest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := Build(ctx, dir, "test", "-c", pkg)
	if err != nil {
		return err
	}
	glue, err := WasmExec(ctx)
	if err != nil {
		return err
	}
	argv, err := json.Marshal(append([]string{"test"}, args...))
	if err != nil {
		return err
	}
	done := make(chan string, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<!doctype html><meta charset="utf-8"><title>go test</title><script>
			const w = new Worker("worker.js");
			w.onerror = (e) => fetch("exit", { method: "POST", body: "the Worker failed: " + e.message });
		</script>`)
	})
	mux.HandleFunc("GET /worker.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		w.Write(worker)
	})
	mux.HandleFunc("GET /wasm_exec.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, glue) })
	mux.HandleFunc("GET /main.wasm", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, binary) })
	mux.HandleFunc("GET /argv", func(w http.ResponseWriter, _ *http.Request) { w.Write(argv) })
	mux.HandleFunc("POST /out", func(_ http.ResponseWriter, r *http.Request) { io.Copy(out, r.Body) })
	mux.HandleFunc("POST /exit", func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		select {
		case done <- string(text):
		default:
		}
	})
	b, err := Start(mux, "")
	if err != nil {
		return err
	}
	end, err := b.wait(ctx, done)
	if e := b.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if end != "0" {
		return fmt.Errorf("jstest: %s: exit %s", pkg, end)
	}
	return nil
}
