//go:build unix

package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

// shortDir is a directory whose socket path fits; t.TempDir's may not.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestListenIsForTheOwnerAlone(t *testing.T) {
	dir := filepath.Join(shortDir(t), "node")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for name, want := range map[string]fs.FileMode{dir: 0o700, SocketPath(dir): 0o600} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, want mode %v (%v)", name, info.Mode(), want, err)
		}
	}
}

func TestListenTakesOverFromTheDeadOnly(t *testing.T) {
	dir := shortDir(t)
	addr := &net.UnixAddr{Name: SocketPath(dir), Net: "unix"}
	dead, err := net.ListenUnix("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close() // as after kill -9: the file stays, nobody answers
	alive, err := Listen(dir)
	if err != nil {
		t.Fatalf("a dead daemon's socket is in the way: %v", err)
	}
	if _, err := Listen(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("second Listen: %v, want ErrInUse", err)
	}
	if c, err := net.Dial("unix", SocketPath(dir)); err != nil {
		t.Errorf("the living daemon lost its socket: %v", err)
	} else {
		c.Close()
	}
	alive.Close()
	if err := os.WriteFile(SocketPath(dir), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(dir); err == nil {
		t.Error("a file that is no socket was replaced")
	}
}

func TestListenRefusesALongPath(t *testing.T) {
	dir := filepath.Join(shortDir(t), strings.Repeat("x", MaxSocketPath))
	if _, err := Listen(dir); !errors.Is(err, ErrPathTooLong) {
		t.Errorf("Listen = %v, want ErrPathTooLong", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory was made all the same")
	}
}

func TestFailuresKeepTheirCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want connect.Code
		name string
	}{
		{proto.CodeNotFound.Errorf("job x"), connect.CodeNotFound, "NOT_FOUND"},
		{fmt.Errorf("transfer: %w", proto.CodeInsufficient.Errorf("3 credits")), connect.CodeFailedPrecondition, "INSUFFICIENT_BALANCE"},
		{proto.CodeModule.Errorf("threads"), connect.CodeInvalidArgument, "MODULE"},
		{context.Canceled, connect.CodeCanceled, "INTERNAL"},
		{context.DeadlineExceeded, connect.CodeDeadlineExceeded, "INTERNAL"},
		{errors.New("disk"), connect.CodeInternal, "INTERNAL"},
	} {
		var got *connect.Error
		if !errors.As(failure(c.err), &got) {
			t.Fatalf("%v: not a Connect error", c.err)
		}
		if got.Code() != c.want || got.Meta().Get(CodeHeader) != c.name || got.Message() != c.err.Error() {
			t.Errorf("%v: %v %s %q", c.err, got.Code(), got.Meta().Get(CodeHeader), got.Message())
		}
	}
	if failure(nil) != nil {
		t.Error("no error became one")
	}
	already := connect.NewError(connect.CodeAborted, errors.New("x"))
	if failure(already) != error(already) {
		t.Error("a Connect error was wrapped again")
	}
}

func TestSubmissionsAreCheckedBeforeTheNodeSeesThem(t *testing.T) {
	good := func() *api.SubmitRequest {
		return &api.SubmitRequest{Type: "vector", Inputs: [][]byte{{1}}, Redundancy: 3, Priority: "high", TimeoutMs: 1500, MaxCredits: 7}
	}
	spec, err := jobSpec(good())
	if err != nil || spec.Type != proto.TypeVectors || spec.Options.Redundancy != 3 || spec.Options.Priority != proto.PriorityHigh ||
		spec.Options.Timeout.Milliseconds() != 1500 || spec.Options.MaxCredits != 7 {
		t.Fatalf("spec %+v, %v", spec, err)
	}
	for name, spoil := range map[string]func(*api.SubmitRequest){
		"neither type nor module": func(r *api.SubmitRequest) { r.Type = "" },
		"type and module":         func(r *api.SubmitRequest) { r.Module = []byte{0} },
		"no input":                func(r *api.SubmitRequest) { r.Inputs = nil },
		"too many inputs":         func(r *api.SubmitRequest) { r.Inputs = make([][]byte, proto.MaxTasks+1) },
		"redundancy":              func(r *api.SubmitRequest) { r.Redundancy = proto.MaxRedundancy + 1 },
		"redundancy that wraps":   func(r *api.SubmitRequest) { r.Redundancy = 1<<32 - 1 },
		"priority":                func(r *api.SubmitRequest) { r.Priority = "urgent" },
		"timeout that overflows":  func(r *api.SubmitRequest) { r.TimeoutMs = 1 << 63 },
		"label":                   func(r *api.SubmitRequest) { r.Label = strings.Repeat("l", 65) },
	} {
		r := good()
		spoil(r)
		if _, err := jobSpec(r); err == nil {
			t.Errorf("%s: accepted", name)
		} else if c := proto.CodeOf(err); c == proto.CodeInternal {
			t.Errorf("%s: no code in %v", name, err)
		}
	}
}

func TestAccountsAreReadStrictly(t *testing.T) {
	const id = "12D3KooWSAo8fEBM4MevyGL8ymjjYiu41TUY1y1rhVXnqJVcbRby"
	if got, err := parsePeer(id); err != nil || got.String() != id {
		t.Errorf("parsePeer = %v, %v", got, err)
	}
	for _, text := range []string{"", "bob", id[1:], strings.Repeat("1", 200), "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"} {
		if _, err := parsePeer(text); proto.CodeOf(err) != proto.CodeMalformed {
			t.Errorf("parsePeer(%q) = %v, want MALFORMED", text, err)
		}
	}
}
