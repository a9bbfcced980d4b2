//go:build !js

package node_test

import (
	"context"
	"encoding/binary"
	"maps"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"edgenet.dev/ledger"
	"edgenet.dev/node"
)

func numbered(i int) peer.ID {
	key := binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i))
	return peer.ID("\x00\x24\x08\x01\x12\x20" + string(key))
}

// Staked accounts that are away, or answer some of the time only, take nothing
// from those that are there, even when all of them have the larger stake. Time
// is counted here, not waited for: who is silent costs its share of a timeout.
func TestAbsentAccountsHoldUpNobody(t *testing.T) {
	const (
		here  = 50
		all   = ledger.MaxProbed
		round = node.ProbePeriod * node.ProbesAtOnce
		swift = 200 * time.Millisecond
		least = node.ProbesPerEpoch / 4 // that a report needs
	)
	never := func(int, int) bool { return false }
	always := func(int, int) bool { return true }
	for _, tt := range []struct {
		name       string
		accounts   int
		there      func(i, times int) bool // whether the others answer
		connected  bool                    // whether they are
		honest     func(i, times int) bool // whether those that are here answer
		reachable  bool                    // whether they are connected from the start
		want, most int                     // probes of each that is here, and failures
	}{
		{"away", all, never, false, always, false, least, 0},
		{"away, and those that are here are connected", all, never, false, always, true, node.ProbesPerEpoch, 0},
		{"silent on a connection", all, never, true, always, false, least, 0},
		{"every other time", all, func(i, times int) bool { return (times+i)%2 == 0 }, true, always, false, least, 0},
		{"but for one in twenty", all, func(i, times int) bool { return (times+i)%20 != 0 }, true, always, false, least, 0},
		{"away, and those that are here failed once", 2000, never, false, func(_, times int) bool { return times > 0 }, false, 10, 1},
	} {
		var list []peer.ID // those that are here come last
		index := map[peer.ID]int{}
		for i := range tt.accounts {
			list = append(list, numbered(i))
			index[list[i]] = i
		}
		honest := func(id peer.ID) bool { return index[id] >= tt.accounts-here }
		asked, failed, last := map[peer.ID]int{}, map[peer.ID]int{}, map[peer.ID]bool{}
		connected := func(id peer.ID) bool {
			return last[id] || honest(id) && tt.reachable || !honest(id) && tt.connected
		}
		records := node.NewProbeRecords()
		for range node.ProbesPerEpoch {
			last = map[peer.ID]bool{}
			left := round
			for _, id := range records.Order(list, connected) {
				if left <= 0 {
					break
				}
				answers := tt.there
				if honest(id) {
					answers = tt.honest
				}
				if last[id] = answers(index[id], asked[id]); last[id] {
					left -= swift
				} else {
					left -= node.ProbeTimeout
					failed[id]++
				}
				asked[id]++
			}
			records.Add(last)
		}
		for _, id := range list[tt.accounts-here:] {
			if asked[id] < tt.want || failed[id] > tt.most {
				t.Errorf("%s: one that is here was asked %d times, want %d, and failed %d times", tt.name, asked[id], tt.want, failed[id])
				break
			}
		}
		if records.Order(nil, connected); records.Len() > 0 {
			t.Errorf("%s: accounts without a stake are remembered", tt.name)
		}
	}
}

// No round waits for those that are silent, and each answer is in one round.
func TestProbesDoNotWait(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	addr, err := multiaddr.NewMultiaddr("/ip4/127.0.0.1/tcp/" + portOf(t, silent))
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, 1)
	n := l.start(0, nil)
	for _, many := range []int{node.ProbesAtOnce - 1, node.ProbesAtOnce} {
		var list []peer.AddrInfo
		for i := range many {
			list = append(list, peer.AddrInfo{ID: numbered(100*many + i), Addrs: []multiaddr.Multiaddr{addr}})
		}
		list = append(list, peer.AddrInfo{ID: n.ID()})
		ctx, cancel := context.WithCancel(t.Context())
		round, wait := n.Prober(ctx, list, 100*time.Millisecond)
		// With all places taken this node has to wait for one.
		if got := round(); len(got) != node.ProbesAtOnce-many || got[n.ID()] != (many < node.ProbesAtOnce) {
			t.Errorf("%d silent ones: the first round has %v", many, got)
		}
		heard := map[peer.ID]bool{}
		l.until("all have answered or are known to be silent", func() bool {
			maps.Copy(heard, round())
			return len(heard) == len(list)
		})
		for id, ok := range heard {
			if ok != (id == n.ID()) {
				t.Errorf("%d silent ones: %s: %v", many, id, ok)
			}
		}
		cancel()
		wait()
	}
}

func portOf(t *testing.T, l net.Listener) string {
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
