//go:build linux

package main

import (
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/node/api"
	"edgenet.dev/proto"
)

// flagTests names, for each flag of each command but those of the configuration,
// what shows its effect: a script that uses it, or a row of askedOf or
// writtenBy.
var flagTests = map[string]string{
	"edgenetd --dir": "init.txtar", "edgenetd --output": "online.txtar", "edgenetd --quiet": "online.txtar",
	"edgenetd run --no-work": "network.txtar",

	"edgenetd init --genesis": "init.txtar", "edgenetd init --network": "init.txtar",
	"edgenetd devnet --input": "devnet.txtar", "edgenetd devnet --keep": "devnet.txtar", "edgenetd devnet --liars": "devnet.txtar",
	"edgenetd devnet --nodes": "devnet.txtar", "edgenetd devnet --receipts": "devnet.txtar", "edgenetd devnet --tasks": "devnet.txtar",
	"edgenetd devnet --redundancy": "TestDevnetOfFourWitnesses", "edgenetd devnet --witnesses": "TestDevnetOfFourWitnesses",

	"edgenetd submit --input": "online.txtar", "edgenetd submit --raw": "online.txtar", "edgenetd submit --receipts": "online.txtar",
	"edgenetd submit --wait": "online.txtar", "edgenetd submit --dry-run": "online.txtar",
	"edgenetd batch --receipts": "online.txtar", "edgenetd batch --split": "online.txtar",
	"edgenetd task list --state": "online.txtar",
	"edgenetd peers --find":      "online.txtar", "edgenetd status --wait": "online.txtar",
	"edgenetd receipt show --line": "online.txtar", "edgenetd receipt show --genesis": "online.txtar", "edgenetd receipt verify --genesis": "online.txtar",

	"edgenetd key export --key": "recovery.txtar", "edgenetd key export --out": "key.txtar", "edgenetd key export --passphrase-file": "key.txtar",
	"edgenetd key import --passphrase-file": "key.txtar", "edgenetd key import --signing": "recovery.txtar",
	"edgenetd key recover --account": "recovery.txtar", "edgenetd key recover --new-recovery": "recovery.txtar", "edgenetd key recover --passphrase-file": "recovery.txtar",
	"edgenetd key recovery --out": "recovery.txtar", "edgenetd key recovery --passphrase-file": "recovery.txtar",

	"edgenetd network create --out": "network.txtar", "edgenetd network create --witness": "network.txtar",
	"edgenetd block add --for": "block.txtar", "edgenetd block add --force": "block.txtar", "edgenetd block add --reason": "block.txtar",
	"edgenetd wallet audit --expect": "wallet.txtar", "edgenetd wallet audit --log": "wallet.txtar", "edgenetd wallet audit --offline": "wallet.txtar",
	"edgenetd wallet history --kind": "wallet.txtar", "edgenetd wallet history --with": "wallet.txtar",
	"edgenetd wallet restore --stop-voting": "backup.txtar",
}

// untestedFlags have no test of their effect yet, each with the reason. The
// list only shrinks.
var untestedFlags = map[string]string{
	"edgenetd batch --dry-run": "as submit's",
	"edgenetd init --join":     "test/restart_linux_test.go joins by it", "edgenetd init --listen": "as run's listen, which it writes",
	"edgenetd invite --address": "online.txtar reads the invite", "edgenetd invite --no-referrer": "online.txtar reads the invite",
	"edgenetd invite --out": "where the invite is written", "edgenetd peers --known": "which peers are listed",
	"edgenetd ping --count": "how often it asks", "edgenetd task wait --timeout": "for how long it waits",
	"edgenetd devnet --slots":     "as run's worker.slots, on each of its daemons",
	"edgenetd devnet --net-dir":   "where its daemons' directories are made",
	"edgenetd devnet --timeout":   "as submit's, for its job",
	"edgenetd stop --wait":        "for how long it waits",
	"edgenetd key recover --wait": "as wallet transfer's", "edgenetd key recovery --wait": "as wallet transfer's", "edgenetd key rotate --wait": "as wallet transfer's",
	"edgenetd task result --raw": "as submit's", "edgenetd task result --receipts": "as submit's",
	"edgenetd batch --wait":      "as submit's",
	"edgenetd devnet --web":      "as run's web.listen, on one of its daemons",
	"edgenetd devnet --web-root": "as run's web.root, on one of its daemons",
}

// askedOf are command lines that ask the daemon for something, and how each
// flag's value shows in the request.
var askedOf = []struct {
	line  string // with $ID for an account and $F for a file
	flags map[string]string
}{
	{"submit text --input $F --wait=false", map[string]string{
		"redundancy": "3", "max-credits": "7", "priority": "high", "timeout": "77s", "fuel": "777", "memory": "7777777", "label": "seven", "run-timeout": "7s", "queue-timeout": "9s",
	}},
	{"batch $J --wait=false", map[string]string{
		"redundancy": "3", "max-credits": "7", "priority": "high", "timeout": "77s", "fuel": "777", "memory": "7777777", "label": "seven", "run-timeout": "7s", "queue-timeout": "9s",
	}},
	{"task list", map[string]string{"limit": "7"}},
	{"wallet history", map[string]string{"limit": "7", "since": "7"}},
	{"wallet rewards", map[string]string{"limit": "7"}},
	{"wallet transfer $ID 1", map[string]string{"memo": "seven", "account": "$ID", "wait": "7s"}},
	{"wallet stake 1", map[string]string{"wait": "7s"}},
	{"wallet unstake 1", map[string]string{"wait": "7s", "account": "$ID"}},
	{"wallet withdraw 1", map[string]string{"wait": "7s", "account": "$ID"}},
}

// writtenBy is network create: each flag's value shows in the genesis.
var writtenBy = map[string]string{
	"max-run": "77", "max-hold": "77777", "low-percent": "77", "high-percent": "177",
	"name": "seven", "grant": "$ID=7", "fee-ppm": "7", "grace": "777", "epoch": "77", "curve-m": "7", "curve-d": "7", "kappa-ppm": "7",
	"min-transfer": "7", "event-cost": "7", "opening-cost": "7", "shards": "7", "diversity": "true",
}

// Every flag of every command has a test of its effect: a script that uses it,
// or a row here.
func TestEveryFlagHasATest(t *testing.T) {
	named := map[string]bool{}
	for _, a := range askedOf {
		command := strings.Join(strings.Fields(regexp.MustCompile(` [^a-z].*`).ReplaceAllString(a.line, "")), " ")
		command = strings.TrimSuffix(strings.TrimSuffix(command, " text"), " 1")
		for f := range a.flags {
			named["edgenetd "+command+" --"+f] = true
		}
	}
	for f := range writtenBy {
		named["edgenetd network create --"+f] = true
	}
	for flag, by := range flagTests {
		named[flag] = true
		if strings.HasPrefix(by, "Test") {
			if !definesTest(t, by) {
				t.Errorf("%s: there is no test %s", flag, by)
			}
			continue
		}
		command, name, _ := strings.Cut(strings.TrimPrefix(flag, "edgenetd"), " --")
		short := map[string]string{"output": `|-o`, "quiet": `|-q`}[name]
		script, err := os.ReadFile(filepath.Join("testdata", "script", by))
		if err != nil {
			t.Error(err)
		}
		if !regexp.MustCompile(`(?m)^.*` + regexp.QuoteMeta(strings.TrimSpace(command)) + `.* (--` + name + short + `)\b`).Match(script) {
			t.Errorf("%s: %s does not use it", flag, by)
		}
	}
	for flag := range untestedFlags {
		named[flag] = true
	}
	exists := map[string]bool{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		check := func(f *pflag.Flag) {
			name := c.CommandPath() + " --" + f.Name
			exists[name] = true
			_, ofConfig := flagKey(c.Flags())(&pflag.Flag{Name: f.Name, Changed: true, Value: f.Value})
			isKey := ofConfig != nil && (c.CommandPath() == "edgenetd run" || c.CommandPath() == "edgenetd config show")
			if !isKey && f.Name != "help" && !f.Hidden && !named[name] && !(f.Name == "no-work" && c.Name() == "show") {
				t.Errorf("%s has no test of its effect: add a row to flagTests, askedOf or writtenBy", name)
			}
		}
		c.LocalNonPersistentFlags().VisitAll(check)
		c.PersistentFlags().VisitAll(check)
		for _, s := range c.Commands() {
			walk(s)
		}
	}
	walk(new(app).root())
	for flag := range named {
		if !exists[flag] {
			t.Errorf("%s does not exist; remove its row", flag)
		}
	}
}

func definesTest(t *testing.T, name string) bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("func "+name+"(t *testing.T)")) {
			return true
		}
	}
	return false
}

// A flag's value is in what the daemon is asked for: the request with it
// differs from the one without it.
func TestFlagsReachTheDaemon(t *testing.T) {
	dir, err := os.MkdirTemp("", "ed")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	id := setUp(t, &effectNet{}, dir).String()
	network, err := newGenesis(&proto.Genesis{Name: "flags", Witnesses: [][]byte{[]byte(setUp(t, &effectNet{}, filepath.Join(dir, "w")))}})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{genesisName: string(network.Raw), "words.txt": "a b a", "jobs.jsonl": `{"type":"text","payload":"a b a"}` + "\n"}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// It answers next to nothing: what it was asked is all that counts.
	var mu sync.Mutex
	asked := map[string]string{}
	l, err := net.Listen("unix", api.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		asked[r.URL.Path] = string(body)
		mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "/Balance") { // withdraw looks first: nothing is there, and nothing speaks against it
			w.Header().Set("Content-Type", "application/proto")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })

	fill := strings.NewReplacer("$ID", id, "$F", filepath.Join(dir, "words.txt"), "$J", filepath.Join(dir, "jobs.jsonl"))
	ask := func(line string, more ...string) (request string) {
		mu.Lock()
		clear(asked)
		mu.Unlock()
		args := append([]string{"--dir", dir}, strings.Fields(fill.Replace(line))...)
		var out bytes.Buffer
		run(append(args, more...), strings.NewReader(""), &out, &out)
		mu.Lock()
		defer mu.Unlock()
		for _, path := range slices.Sorted(maps.Keys(asked)) {
			if !strings.HasSuffix(path, "/Status") && !strings.HasSuffix(path, "/Balance") {
				request += path + asked[path]
			}
		}
		if request == "" {
			t.Errorf("%s %v asks the daemon for nothing: %s", line, more, out.String())
		}
		return request
	}
	for _, a := range askedOf {
		plain := ask(a.line)
		seen := map[string]string{plain: "nothing"}
		for flag, value := range a.flags {
			got := ask(a.line, "--"+flag+"="+fill.Replace(value))
			if other, twice := seen[got]; twice {
				t.Errorf("%s --%s asks the same as with %s", a.line, flag, other)
			}
			seen[got] = "--" + flag
		}
	}
	write := func(more ...string) *proto.Genesis {
		out := filepath.Join(dir, "new.pb")
		os.Remove(out)
		var text bytes.Buffer
		if code := run(append([]string{"--dir", dir, "network", "create", "--out", out}, more...), strings.NewReader(""), &text, &text); code != 0 {
			t.Fatalf("network create %v: %s", more, text.String())
		}
		raw, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		g := new(proto.Genesis)
		if err := goproto.Unmarshal(raw, g); err != nil {
			t.Fatal(err)
		}
		g.Nonce = nil
		return g
	}
	plain := write()
	for flag, value := range writtenBy {
		if goproto.Equal(plain, write("--"+flag+"="+fill.Replace(value))) {
			t.Errorf("network create --%s does not show in the genesis", flag)
		}
	}
}
