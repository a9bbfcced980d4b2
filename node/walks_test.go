//go:build !js

package node

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// silentDHT knows nobody and finds that out late.
type silentDHT struct {
	walks, most atomic.Int32
	long        atomic.Bool
}

func (d *silentDHT) FindPeer(ctx context.Context, id peer.ID) (peer.AddrInfo, error) {
	if now := d.walks.Add(1); now > d.most.Load() {
		d.most.Store(now)
	}
	defer d.walks.Add(-1)
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > directoryWalk {
		d.long.Store(true)
	}
	<-ctx.Done()
	return peer.AddrInfo{}, ctx.Err()
}

// Whoever asks the directory for peers that nobody knows has the DHT asked for one
// question at once, and each question is answered in time.
func TestDirectoryWalksAreBounded(t *testing.T) {
	n := witness(t)
	d := new(silentDHT)
	n.walks.find = d.FindPeer
	c := newClaimant(t, n, nil)
	var asked []network.Stream
	for range 4 {
		s, err := c.host.NewStream(inTime(t), n.self, n.net.ID.Protocol("directory"))
		if err != nil {
			t.Fatal(err)
		}
		q := new(proto.DirectoryRequest)
		for range maxDirectoryPeers {
			_, id := newIdentity(t)
			q.Peers = append(q.Peers, []byte(id))
		}
		if err := proto.WriteFrame(s, q, proto.MaxDirectoryFrame); err != nil {
			t.Fatal(err)
		}
		asked = append(asked, s)
	}
	for _, s := range asked {
		s.SetReadDeadline(time.Now().Add(30 * time.Second))
		var r proto.DirectoryReply
		if err := frames(s, proto.MaxDirectoryFrame).Read(&r); err != nil {
			t.Errorf("a question has no answer: %v", err)
		}
	}
	if most := d.most.Load(); most != 1 {
		t.Errorf("%d questions of a peer had the DHT asked at once", most)
	}
	if d.long.Load() {
		t.Error("the DHT is asked for longer than somebody waits for the answer")
	}
}
