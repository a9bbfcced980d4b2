//go:build !js

package node_test

import (
	"context"
	"testing"
	"time"

	"edgenet.dev/proto"
)

// A peer that begins a second session while its first one runs is told to try
// again later, and others are served meanwhile.
func TestOneSessionPerPeer(t *testing.T) {
	l := newLabOf(t, 3, 1, nil)
	for i := range 3 {
		l.start(i, nil)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	to := l.nodes[0].ID()
	begin := func(i int) (code proto.Code, hangUp func()) {
		code, hangUp, err := l.nodes[i].BeginSync(ctx, to)
		if err != nil {
			t.Fatal(err)
		}
		return code, hangUp
	}
	first := func(i int) (hangUp func()) { // their own sessions may run just now
		l.until("a session begins", func() bool {
			var code proto.Code
			if code, hangUp = begin(i); code != proto.CodeOK {
				hangUp()
			}
			return code == proto.CodeOK
		})
		return hangUp
	}
	hangUp := first(1)
	code, other := begin(1)
	if other(); code != proto.CodeBusy {
		t.Fatalf("a second session of a peer: %s, want %s", code, proto.CodeBusy)
	}
	first(2)()
	hangUp()
	first(1)()
}
