package sandbox_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
)

// resident is the memory of a process in bytes.
func resident(t *testing.T, pid string) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// pinger exchanges single bytes over a loopback connection until stopped, as a
// peer pings this process. It returns how many came back and the longest wait.
func pinger(t *testing.T) (stop func() (int, time.Duration)) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		var b [1]byte
		for {
			if _, err := c.Read(b[:]); err != nil {
				return
			}
			c.Write(b[:])
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	done, pinged := make(chan struct{}), make(chan struct{})
	var n int
	var longest time.Duration
	go func() {
		defer close(pinged)
		var b [1]byte
		for {
			select {
			case <-done:
				return
			default:
			}
			at := time.Now()
			if _, err := c.Write(b[:]); err != nil {
				return
			}
			if _, err := c.Read(b[:]); err != nil {
				return
			}
			n, longest = n+1, max(longest, time.Since(at))
			time.Sleep(time.Millisecond)
		}
	}()
	return func() (int, time.Duration) {
		close(done)
		<-pinged
		c.Close()
		l.Close()
		wg.Wait()
		return n, longest
	}
}

const slack = 64 << 20

// TestBombs runs the corpus. Every bomb ends as specified, the child is as
// small as before, and this process neither grows nor stops answering.
func TestBombs(t *testing.T) {
	if raceEnabled {
		t.Log("memory is not measured: the race detector's own is part of it")
	}
	p := newPool(t, sandbox.PoolConfig{})
	echo := prepare(t, enginetest.Echo())
	run(t, p, context.Background(), echo, "", sandbox.Task{})
	for _, b := range enginetest.Bombs() {
		t.Run(b.Name, func(t *testing.T) {
			m, err := sandbox.Prepare(b.Module(), sandbox.Policy{})
			if b.Refused != "" {
				if err == nil || !strings.Contains(err.Error(), b.Refused) || proto.CodeOf(err) != proto.CodeModule {
					t.Errorf("want a refusal by %q, got %v", b.Refused, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			debug.FreeOSMemory()
			before := resident(t, "self")
			stop := pinger(t)
			began := time.Now()
			res := run(t, p, context.Background(), m, "", sandbox.Task{Limits: b.Limits})
			took := time.Since(began)
			grown := resident(t, "self") - before
			pings, longest := stop()
			child := int64(0)
			for _, pid := range children(t) {
				child += resident(t, fmt.Sprint(pid))
			}
			peak := ""
			for _, pid := range children(t) {
				status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				_, rest, _ := strings.Cut(string(status), "VmHWM:")
				peak, _, _ = strings.Cut(strings.TrimSpace(rest), "\n")
			}
			t.Logf("%s after %v; child %d MB (peak so far %s), this process %+d MB; %d pings, longest %v", res.Status, took.Round(time.Millisecond), child>>20, peak, grown>>20, pings, longest.Round(time.Microsecond))
			if !slices.Contains(b.Status, res.Status) {
				t.Errorf("ended %s, want %v", res.Status, b.Status)
			}
			if pings == 0 {
				t.Error("no ping came back")
			}
			if len(res.Log) > proto.MaxLog || len(res.Output) > proto.MaxOutput {
				t.Errorf("log of %d bytes, output of %d", len(res.Log), len(res.Output))
			}
			if limit := int64(b.Limits.WithDefaults().Memory); !raceEnabled && (grown > slack || child > limit+slack) {
				t.Errorf("child holds %d bytes under a limit of %d, this process grew by %d", child, limit, grown)
			}
			if res := run(t, p, context.Background(), echo, "still here", sandbox.Task{}); string(res.Output) != "still here" {
				t.Errorf("after it: %s %q", res.Status, res.Output)
			}
		})
	}
}
