//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/mattn/go-runewidth"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"edgenet.dev/node/api"
	"edgenet.dev/proto"
	localapi "edgenet.dev/proto/api"
	"edgenet.dev/test/daemon"
)

// ended waits for a command's end, a hang guard aside, and returns its code.
func ended(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		<-done
		t.Fatalf("%v did not end", cmd.Args)
	}
	return cmd.ProcessState.ExitCode()
}

func TestCtrlCAtThePassphrase(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("edgenetd", "--dir", dir, "key", "create").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command("edgenetd", "--dir", dir, "key", "export", "--out", filepath.Join(dir, "out"))
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	r := bufio.NewReader(tty)
	if _, err := r.ReadString(':'); err != nil {
		t.Fatal(err)
	}
	for { // the prompt is there before the terminal stops to show what is typed
		s, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if s.Lflag&unix.ECHO == 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := tty.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	if code := ended(t, cmd); code != exitInterrupted {
		t.Errorf("code %d, want %d", code, exitInterrupted)
	}
	s, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil || s.Lflag&unix.ECHO == 0 {
		t.Errorf("the terminal does not show what is typed any more (%v)", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("a key was written")
	}
}

func TestCtrlCWhileInputIsRead(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"submit", "text"}, {"batch", "-"}, {"receipt", "verify", "-", "--genesis", fifo}, {"submit", "text", "--input", fifo}} {
		cmd := exec.Command("edgenetd", append([]string{"--dir", t.TempDir()}, args...)...)
		var errText bytes.Buffer
		cmd.Stderr = &errText
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if args[len(args)-1] == fifo { // its other end opens once it is read
			w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
		} else if _, err := in.Write(bytes.Repeat([]byte(" "), 1<<20)); err != nil { // more than a pipe holds: it reads
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if code := ended(t, cmd); code != exitInterrupted || !strings.Contains(errText.String(), "interrupted") {
			t.Errorf("%v: code %d, %q", args, code, errText.String())
		}
	}
}

// A batch of 200 tasks in two jobs, of which some are finished, is interrupted:
// these are printed, both jobs are named, and they go on.
func TestCtrlCInABatch(t *testing.T) {
	bin, err := exec.LookPath("edgenetd")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	d, err := daemon.New(bin,
		daemon.Spec{Name: "a", Witness: true, Grant: 1000 * proto.OneCredit, Flags: []string{"--no-work"}},
		daemon.Spec{Name: "b", Via: []string{"a"}, Flags: []string{"--fault", "lag", "--slots", "4"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Log(d.Logs(4000))
		}
		d.Close()
	}()
	if err := d.Start(ctx); err != nil {
		t.Fatal(err)
	}
	a := d.Node("a")
	var file strings.Builder
	for i := range 200 {
		fmt.Fprintf(&file, "{\"type\": \"text\", \"payload\": \"line %d\", \"options\": {\"priority\": %q}}\n", i+1, []string{"normal", "low"}[i%2])
	}
	path := filepath.Join(t.TempDir(), "tasks.jsonl")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("edgenetd", "--dir", a.Dir, "batch", path, "--redundancy", "1", "--max-credits", "100")
	var out, errText bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errText
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var jobs []*localapi.Job
	for done := uint32(0); done == 0 || len(jobs) < 2; time.Sleep(50 * time.Millisecond) {
		l, err := daemon.Call(ctx, a.Tasks.List, &localapi.ListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		jobs, done = l.Jobs, 0
		for _, j := range jobs {
			done += j.Done
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := ended(t, cmd); code != exitInterrupted {
		t.Errorf("code %d, want %d", code, exitInterrupted)
	}
	for _, j := range jobs {
		if !strings.Contains(errText.String(), j.Id) {
			t.Errorf("job %s is not named in %q", j.Id, errText.String())
		}
		now, err := daemon.Call(ctx, a.Tasks.Get, &localapi.GetRequest{Job: j.Id})
		if err != nil || finalState(now.State) {
			t.Errorf("job %s does not go on: %v (%v)", j.Id, now, err)
		}
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, text := range lines {
		var r lineResult
		if err := json.Unmarshal([]byte(text), &r); err != nil || r.State != "done" {
			t.Fatalf("%q is no finished result (%v)", text, err)
		}
	}
	if want := fmt.Sprintf("%d of 200 tasks are finished and printed", len(lines)); len(lines) >= 200 || !strings.Contains(errText.String(), want) {
		t.Errorf("%d lines, and %q", len(lines), errText.String())
	}
}

// A daemon outlives the terminal that it was started from, and a second signal
// does not wait for what keeps the first one from ending it.
func TestSignalsOfADaemon(t *testing.T) {
	bin, err := exec.LookPath("edgenetd")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP) // else a child of nohup ignores it anyway
	defer signal.Stop(caught)
	d, err := daemon.New(bin, daemon.Spec{Name: "a", Witness: true, Flags: []string{"--no-work"}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Start(ctx); err != nil {
		t.Fatal(err)
	}
	a := d.Node("a")
	p, err := os.FindProcess(a.Pid())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGPIPE} {
		if err := p.Signal(s); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Status(ctx); err != nil {
			t.Fatalf("%v ended the daemon: %v", s, err)
		}
	}
	c, err := net.Dial("unix", api.SocketPath(a.Dir)) // a call that does not end: an orderly stop waits for it
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /edgenet.api.v1.NodeService/Status HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)               // two equal signals at once are one
	if err := p.Signal(syscall.SIGHUP); err != nil { // it stops already, and yet nothing of it is cut off
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if a.Terminate(time.Minute) || !strings.Contains(d.Logs(2000), "a second signal ended it at once") {
		t.Errorf("the second signal waited for the first\n%s", d.Logs(2000))
	}
}

func TestProgressFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune("ab 世界é\u0301👍\n\x1b\t")), 0, 60, -1).Draw(t, "text")
		room := rapid.IntRange(-1, 70).Draw(t, "room")
		got := fitted(text, room)
		if w := runewidth.StringWidth(got); w > max(0, room) || strings.ContainsAny(got, "\n\x1b\t") {
			t.Fatalf("%q in %d columns: %q takes %d", text, room, got, w)
		}
		if w := runewidth.StringWidth(text); w < room-8 && !strings.ContainsAny(text, "\n\x1b\t") && got != text {
			t.Fatalf("%q in %d columns is cut to %q", text, room, got)
		}
	})
	screen, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	p := &progress{w: tty, live: true}
	for _, columns := range []uint16{60, 11, 1, 30} {
		if err := pty.Setsize(screen, &pty.Winsize{Rows: 5, Cols: columns}); err != nil {
			t.Fatal(err)
		}
		p.showf("%s: running, 世界 12 of 200 done, 3 verified", "k3j2h4g1")
	}
	p.done()
	tty.WriteString("end\n")
	all, err := bufio.NewReader(screen).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	tty.Close()
	var widths []int
	for _, line := range strings.Split(strings.TrimRight(all, "\r\n"), "\r")[1:] {
		widths = append(widths, runewidth.StringWidth(line))
	}
	if fmt.Sprint(widths) != "[50 10 0 29 29 3]" {
		t.Errorf("columns taken: %v of %q", widths, all)
	}
}
