package attack

import (
	"context"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-msgio/pbio"
	mh "github.com/multiformats/go-multihash"

	"edgenet.dev/test/daemon"
)

// providerSpam announces in the DHT that it has what nobody ever asks for.
type providerSpam struct{}

func (providerSpam) Name() string { return "dht_providers" }

func (providerSpam) Run(ctx context.Context, t *Target) error {
	nodes := append([]*daemon.Node{t.Witness, t.Submitter}, t.Workers...)
	return t.swarm(ctx, 2*len(nodes), func(ctx context.Context, i int, s *stranger) error {
		nd := nodes[i%len(nodes)]
		if err := s.meet(ctx, nd); err != nil {
			return err
		}
		st, err := s.NewStream(ctx, nd.ID, protocol.ID(s.net.ID.DHTPrefix()+"/kad/1.0.0"))
		if err != nil {
			return err
		}
		defer st.Reset()
		out := pbio.NewDelimitedWriter(st)
		self := pb.RawPeerInfosToPBPeers([]peer.AddrInfo{{ID: s.ID(), Addrs: s.Addrs()}})
		for ctx.Err() == nil {
			for range 50 {
				key, err := mh.Sum(random16(), mh.SHA2_256, -1)
				if err != nil {
					return err
				}
				m := pb.NewMessage(pb.Message_ADD_PROVIDER, key, 0)
				m.ProviderPeers = self
				if err := st.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
					return err
				}
				if out.WriteMsg(m) != nil {
					return nil // they hang up on such a peer
				}
			}
			t.Count("records", 50)
			pause(ctx, 25*time.Millisecond)
		}
		return nil
	})
}
