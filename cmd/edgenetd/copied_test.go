//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"edgenet.dev/node/audit"
	"edgenet.dev/proto"
	localapi "edgenet.dev/proto/api"
	"edgenet.dev/test/daemon"
)

// Two daemons run from one data directory and its copy, beside a witness. Each
// notices the other: nothing is signed that the witness could hold against the
// account, and the way out works.
func TestACopiedDirectoryIsNoticed(t *testing.T) {
	bin, err := exec.LookPath("edgenetd")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	d, err := daemon.New(bin,
		daemon.Spec{Name: "w", Witness: true, Flags: []string{"--no-work"}},
		daemon.Spec{Name: "a", Grant: 1000 * proto.OneCredit, Via: []string{"w"}},
		daemon.Spec{Name: "b", Via: []string{"w"}},
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
	w, a, b := d.Node("w"), d.Node("a"), d.Node("b")
	transfer := func(n *daemon.Node) error {
		_, err := daemon.Call(ctx, n.Wallet.Transfer, &localapi.TransferRequest{To: w.ID.String(), Amount: uint64(proto.OneCredit), WaitMs: 30_000})
		return err
	}
	seq := func() uint64 {
		r, err := daemon.Call(ctx, w.Wallet.Balance, &localapi.BalanceRequest{Account: a.ID.String()})
		if err != nil {
			t.Fatal(err)
		}
		return r.Seq
	}
	for _, n := range []*daemon.Node{w, a} {
		if err := n.Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := transfer(a); err != nil {
		t.Fatal(err)
	}
	if !a.Terminate(time.Minute) {
		t.Fatal("the daemon did not end in order")
	}
	if err := os.RemoveAll(b.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(b.Dir, os.DirFS(a.Dir)); err != nil && !errors.Is(err, os.ErrInvalid) { // sockets are not copied
		t.Fatal(err)
	}
	for _, path := range []string{b.Dir, filepath.Join(b.Dir, "key")} {
		if err := os.Chmod(path, map[bool]os.FileMode{true: 0o700, false: 0o600}[path == b.Dir]); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := transfer(a); err != nil {
		t.Fatal(err)
	}
	before := seq()
	if err := b.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := transfer(b); err == nil || !strings.Contains(err.Error(), "another process runs with this identity") {
		t.Errorf("the copy signed: %v", err)
	}
	for _, n := range []*daemon.Node{a, b} {
		for {
			s, err := n.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Problems) == 1 && !s.Worker.Enabled && strings.Contains(s.Worker.Why, "another process runs with this identity") {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err := transfer(n); err == nil || !strings.Contains(err.Error(), "restart this one") {
			t.Errorf("%s signs: %v", n.Name, err)
		}
		entries, _, err := audit.Open(n.Dir).Verify()
		if err != nil || entries[len(entries)-1].Act != audit.Copied {
			t.Errorf("%s: the audit log ends with %v (%v)", n.Name, entries[len(entries)-1], err)
		}
		out, err := exec.Command("edgenetd", "--dir", n.Dir, "status").Output()
		if err != nil || !strings.Contains(string(out), "problem") {
			t.Errorf("status: %v\n%s", err, out)
		}
		out, err = exec.Command("edgenetd", "--dir", n.Dir, "doctor").Output()
		if err == nil || !regexp.MustCompile(`fail +account +another process runs with this identity`).Match(out) || !strings.Contains(string(out), "→ end the other one") {
			t.Errorf("doctor: %v\n%s", err, out)
		}
	}
	if now := seq(); now != before {
		t.Errorf("the account has event %d, and %d before it was copied", now, before)
	}
	b.Terminate(time.Minute)
	a.Terminate(time.Minute)
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := transfer(a); err != nil {
		t.Errorf("the copy is gone, and the account signs nothing: %v", err)
	}
}
