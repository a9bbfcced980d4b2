package test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// machines are network namespaces on one bridge, each with a shell and a home
// directory of its own: as far as edgenetd can tell, computers on a network.
type machines struct {
	hub    string // namespace of the bridge
	shells map[string]*shell
	saved  map[string]string // what an earlier command printed, by its first letters
}

const hubIP = "10.77.0.254"

// newMachines makes a machine for each name. Without permission to make network
// namespaces the test is skipped.
func newMachines(t *testing.T, names ...string) *machines {
	t.Helper()
	prefix := "restart-" + strconv.Itoa(os.Getpid()) + "-"
	m := &machines{hub: prefix + "hub", shells: map[string]*shell{}, saved: map[string]string{}}
	if out, err := exec.Command("ip", "netns", "add", m.hub).CombinedOutput(); err != nil {
		t.Skipf("network namespaces cannot be made here (%v: %s); run this test as root", err, out)
	}
	t.Cleanup(func() { ip(t, "netns", "del", m.hub) })
	in := func(args ...string) { ip(t, append([]string{"-n", m.hub}, args...)...) }
	in("link", "add", "hub", "type", "bridge")
	in("addr", "add", hubIP+"/24", "dev", "hub")
	in("link", "set", "hub", "up")
	for i, name := range names {
		ns := prefix + strings.ToLower(name)
		ip(t, "netns", "add", ns)
		t.Cleanup(func() { ip(t, "netns", "del", ns) })
		ip(t, "-n", ns, "link", "add", "eth0", "type", "veth", "peer", "name", "to"+strings.ToLower(name), "netns", m.hub)
		in("link", "set", "to"+strings.ToLower(name), "master", "hub", "up")
		ip(t, "-n", ns, "addr", "add", fmt.Sprintf("10.77.0.%d/24", i+1), "dev", "eth0")
		ip(t, "-n", ns, "link", "set", "lo", "up")
		ip(t, "-n", ns, "link", "set", "eth0", "up")
		ip(t, "-n", ns, "route", "add", "default", "via", hubIP)
		m.shells[name] = newShell(t, ns)
	}
	return m
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// inNamespace runs f in a thread of that network namespace. Sockets that f opens
// stay there.
func inNamespace(name string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		ns, err := os.Open("/run/netns/" + name)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// shell is a bash on a machine.
type shell struct {
	home string
	in   io.WriteCloser
	out  *bufio.Reader
}

func newShell(t *testing.T, ns string) *shell {
	t.Helper()
	home, err := os.MkdirTemp("", "edgenet-") // short: socket paths are limited
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", ns, "bash", "--norc", "--noprofile")
	cmd.Dir = home
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "EDGENET_") && !strings.HasPrefix(kv, "HOME=") && !strings.HasPrefix(kv, "PATH=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+home, "PATH="+filepath.Dir(edgenetd)+":"+os.Getenv("PATH"))
	s := &shell{home: home}
	if s.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	s.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(home, "edgenetd.log"))
			t.Logf("---- %s\n%s", ns, log[max(0, len(log)-6000):])
		}
		// What still runs in the background of this shell, by its process ids.
		fmt.Fprintln(s.in, "kill -9 $(jobs -p); wait; exit")
		s.in.Close()
		if err := cmd.Wait(); err != nil && !strings.Contains(err.Error(), "exit status") {
			t.Errorf("%s: %v", ns, err)
		}
		os.RemoveAll(home)
	})
	return s
}

var shellEnd = regexp.MustCompile(`^__end (\d+)$`)

// run types one line and returns what it printed, as lines.
func (s *shell) run(line string) (out []string, code int, err error) {
	var once sync.Once
	timer := time.AfterFunc(guard, func() { once.Do(func() { s.in.Close() }) }) // the shell ends, and the read with it
	defer timer.Stop()
	if _, err := fmt.Fprintf(s.in, "%s\n__code=$?; echo; echo __end $__code\n", line); err != nil {
		return nil, 0, err
	}
	for {
		text, err := s.out.ReadString('\n')
		if err != nil {
			return out, 0, err
		}
		text = strings.TrimSuffix(text, "\n")
		if m := shellEnd.FindStringSubmatch(text); m != nil {
			code, err = strconv.Atoi(m[1])
			return slices.DeleteFunc(out, func(l string) bool { return l == "" }), code, err
		}
		out = append(out, text)
	}
}

// transcript is the block of a guide that follows a mark.
func transcript(t *testing.T, guide, mark string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repo(t), guide))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "<!-- run: "+mark+" -->\n```console\n")
	block, _, closed := strings.Cut(rest, "\n```\n")
	if !ok || !closed {
		t.Fatalf("%s has no block that is marked run: %s", guide, mark)
	}
	return strings.Split(block, "\n")
}

var prompt = regexp.MustCompile(`^([A-Z])\$ (.*)$`)

// play types the commands of a transcript and wants each to succeed and to print
// the lines that follow it, in their order, however wide their columns; "…" stands
// for anything. A word that ends in "…" is replaced by the line printed before
// that starts like it.
func (m *machines) play(t *testing.T, lines []string) {
	t.Helper()
	var got []string
	for n, line := range lines {
		p := prompt.FindStringSubmatch(line)
		if p == nil {
			want := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(strings.Join(strings.Fields(line), " ")), "…", ".*") + "$")
			i := slices.IndexFunc(got, func(l string) bool { return want.MatchString(strings.Join(strings.Fields(l), " ")) })
			if i < 0 {
				t.Fatalf("line %d of the transcript: want %q, got:\n%s", n+1, line, strings.Join(got, "\n"))
			}
			if word, _, cut := strings.Cut(line, "…"); cut && word != "" && !strings.Contains(word, " ") {
				m.saved[word] = got[i]
			}
			got = got[i+1:]
			continue
		}
		s, command := m.shells[p[1]], p[2]
		if s == nil {
			t.Fatalf("line %d of the transcript: there is no machine %s", n+1, p[1])
		}
		for word, full := range m.saved {
			command = strings.ReplaceAll(command, word+"…", full)
		}
		out, code, err := s.run(command)
		if err != nil || code != 0 {
			t.Fatalf("line %d of the transcript: %s: code %d, %v:\n%s", n+1, line, code, err, strings.Join(out, "\n"))
		}
		got = out
	}
}
