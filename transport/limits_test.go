package transport

import (
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
)

func TestLimits(t *testing.T) {
	l := newLimits()
	a, b := testID(t), testID(t)
	var held []interface{ Done() }
	for range streamsIn {
		s, err := l.OpenStream(a, network.DirInbound)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, s)
	}
	if _, err := l.OpenStream(a, network.DirInbound); !errors.Is(err, network.ErrResourceLimitExceeded) {
		t.Fatalf("one stream more: %v", err)
	}
	for _, dir := range []network.Direction{network.DirInbound, network.DirOutbound} {
		if _, err := l.OpenStream(b, dir); err != nil {
			t.Errorf("a peer pays for another: %v", err)
		}
	}
	if _, err := l.OpenStream(a, network.DirOutbound); err != nil {
		t.Errorf("own streams are bounded: %v", err)
	}
	held[0].Done()
	held[0].Done() // gives one place back, not two
	if _, err := l.OpenStream(a, network.DirInbound); err != nil {
		t.Fatal(err)
	}
	if _, err := l.OpenStream(a, network.DirInbound); err == nil {
		t.Fatal("a place was given back twice")
	}
	for range connsIn {
		c, err := l.OpenConnection(network.DirInbound, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if _, err := l.OpenConnection(network.DirInbound, false, nil); !errors.Is(err, network.ErrResourceLimitExceeded) {
		t.Fatalf("one connection more: %v", err)
	}
	if _, err := l.OpenConnection(network.DirOutbound, false, nil); err != nil {
		t.Fatal(err)
	}
	for _, h := range held {
		h.Done()
	}
	if l.conns != 0 || l.streams[a] != 1 {
		t.Errorf("%d connections, %d streams are held", l.conns, l.streams[a])
	}
}
