package transport

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func testID(t *testing.T) peer.ID {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func at(id peer.ID, port int) peer.AddrInfo {
	return peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast(fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", port))}}
}

// world is where relays are: a dial works at the current address only.
type world struct {
	mu      sync.Mutex
	current map[peer.ID]string // address that works; none = down
	lose    map[peer.ID]chan struct{}
	start   time.Time
	log     []string
	asked   []time.Duration
	answer  []peer.AddrInfo
	fails   error
}

func newWorld() *world {
	return &world{current: map[peer.ID]string{}, lose: map[peer.ID]chan struct{}{}, start: time.Now()}
}

var errDown = errors.New("down")

func (w *world) hold(ctx context.Context, r peer.AddrInfo, up func()) error {
	w.mu.Lock()
	works := len(r.Addrs) > 0 && w.current[r.ID] == r.Addrs[0].String()
	lose := make(chan struct{})
	w.lose[r.ID] = lose
	w.log = append(w.log, fmt.Sprintf("%v %s %v", time.Since(w.start), r.ID, works))
	w.mu.Unlock()
	if !works {
		return errDown
	}
	up()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-lose:
		return errDown
	}
}

func (w *world) resolve(context.Context) ([]peer.AddrInfo, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, time.Since(w.start))
	return w.answer, w.fails
}

// answers is what the resolver says from now on.
func (w *world) answers(found []peer.AddrInfo, fails error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer, w.fails = found, fails
}

// place puts a relay at an address, or takes it away, and cuts who is on it.
func (w *world) place(r peer.AddrInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if lose := w.lose[r.ID]; lose != nil && w.current[r.ID] != "" {
		close(lose)
	}
	delete(w.lose, r.ID)
	w.current[r.ID] = ""
	if len(r.Addrs) > 0 {
		w.current[r.ID] = r.Addrs[0].String()
	}
}

// keeping runs a keeper over a world and returns what it holds after a while.
func keeping(t *testing.T, w *world, resolve bool, known ...peer.AddrInfo) (after func(time.Duration) []peer.ID) {
	k := newKeeper(known)
	k.hold = w.hold
	if resolve {
		k.resolve = w.resolve
	}
	k.spread = func(d time.Duration) time.Duration { return d }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); k.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return func(d time.Duration) (up []peer.ID) {
		time.Sleep(d)
		synctest.Wait() // the keeper waits; its state is ours to read
		for _, r := range k.relays {
			if r.up {
				up = append(up, r.info.ID)
			}
		}
		return up
	}
}

func TestKeeperHoldsTwoAndReplacesALostOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := at(testID(t), 1), at(testID(t), 2), at(testID(t), 3)
		w := newWorld()
		for _, r := range []peer.AddrInfo{a, b, c} {
			w.place(r)
		}
		after := keeping(t, w, false, a, b, c)
		if up := after(time.Millisecond); !slices.Equal(up, []peer.ID{a.ID, b.ID}) {
			t.Fatalf("holds %v", up)
		}
		w.place(peer.AddrInfo{ID: a.ID})
		if up := after(time.Millisecond); !slices.Equal(up, []peer.ID{b.ID, c.ID}) {
			t.Fatalf("after one was lost: %v", up)
		}
		w.place(a)
		w.place(peer.AddrInfo{ID: b.ID})
		if up := after(retryMost * 2); !slices.Equal(up, []peer.ID{a.ID, c.ID}) {
			t.Fatalf("after it came back: %v", up)
		}
	})
}

func TestKeeperBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := at(testID(t), 1)
		w := newWorld()
		after := keeping(t, w, false, a)
		after(time.Hour)
		// 1 s, 2 s, 4 s … 64 s make 127 s, from then on one every two minutes.
		if n := len(w.log); n < 30 || n > 40 {
			t.Errorf("%d tries in an hour", n)
		}
		want := []string{"0s", "1s", "3s", "7s", "15s", "31s", "1m3s", "2m7s", "4m7s"}
		for i, at := range want {
			if !strings.HasPrefix(w.log[i], at+" ") {
				t.Errorf("try %d: %s, want at %s", i, w.log[i], at)
			}
		}
		w.place(a)
		if up := after(retryMost); len(up) != 1 {
			t.Error("a relay that came back is not found")
		}
	})
}

func TestKeeperResolves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := at(testID(t), 1)
		now := at(old.ID, 2)
		w := newWorld()
		w.place(old)
		after := keeping(t, w, true, old)
		after(time.Hour)
		if len(w.asked) != 0 {
			t.Fatalf("resolved at %v with the relay up", w.asked)
		}
		w.answers(nil, errors.New("web server is down"))
		w.place(now)
		after(time.Minute)
		if n := len(w.asked); n < 2 || n > 6 {
			t.Fatalf("asked %d times in a minute", n)
		}
		w.answers([]peer.AddrInfo{now}, nil)
		if up := after(2 * time.Minute); !slices.Equal(up, []peer.ID{old.ID}) {
			t.Fatalf("holds %v; %v", up, w.log)
		}
		asked := len(w.asked)
		after(24 * time.Hour)
		if len(w.asked) != asked {
			t.Errorf("resolved again with the relay up")
		}
	})
}

// Without the resolver the same world stays out of reach: the test above says
// something.
func TestKeeperWithoutResolverStaysLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := at(testID(t), 1)
		w := newWorld()
		w.place(old)
		after := keeping(t, w, false, old)
		after(time.Second)
		w.place(at(old.ID, 2))
		if up := after(24 * time.Hour); len(up) != 0 {
			t.Fatalf("holds %v", up)
		}
	})
}

func TestKeeperStartsFromNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := at(testID(t), 1)
		w := newWorld()
		w.place(a)
		w.answer = []peer.AddrInfo{a}
		if up := keeping(t, w, true)(time.Second); !slices.Equal(up, []peer.ID{a.ID}) {
			t.Fatalf("holds %v", up)
		}
	})
}

func TestKeeperBoundsWhatAResolverTells(t *testing.T) {
	k := newKeeper(nil)
	var many []peer.AddrInfo
	for i := range 2 * relaysKnown {
		many = append(many, at(testID(t), i+1))
	}
	k.learn(many, time.Now())
	if len(k.relays) != relaysKnown {
		t.Errorf("knows %d", len(k.relays))
	}
	k.learn([]peer.AddrInfo{{ID: many[0].ID}}, time.Now())
	if len(k.relays[0].info.Addrs) != 1 {
		t.Error("addresses were replaced by none")
	}
}

func TestRelayedAddrs(t *testing.T) {
	id := testID(t)
	told := []ma.Multiaddr{
		ma.StringCast("/ip4/192.0.2.1/tcp/1/p2p/" + id.String()),
		ma.StringCast("/ip4/192.0.2.2/tcp/1/p2p/" + testID(t).String() + "/p2p-circuit/p2p/" + id.String()),
		ma.StringCast("/p2p/" + id.String()),
	}
	got := relayed(at(id, 7), told)
	if want := "/ip4/192.0.2.1/tcp/1/p2p/" + id.String() + "/p2p-circuit"; len(got) != 1 || got[0].String() != want {
		t.Errorf("%v, want %s", got, want)
	}
	got = relayed(at(id, 7), nil)
	if want := "/ip4/192.0.2.1/tcp/7/p2p/" + id.String() + "/p2p-circuit"; len(got) != 1 || got[0].String() != want {
		t.Errorf("%v, want %s", got, want)
	}
}
