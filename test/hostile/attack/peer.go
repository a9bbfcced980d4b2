package attack

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"

	"edgenet.dev/proto"
	"edgenet.dev/test/daemon"
)

// stranger is an attacker's libp2p host. It listens, so that those who look for
// it find it.
type stranger struct {
	host.Host
	key crypto.PrivKey
	net *proto.Network

	account *payer // once it is opened

	mu    sync.Mutex
	blobs map[proto.Hash][]byte // that it serves
}

// stranger makes a host with that key, or with a new one when it is nil.
func (t *Target) stranger(key crypto.PrivKey) (*stranger, error) {
	if key == nil {
		var err error
		if key, _, err = crypto.GenerateEd25519Key(rand.Reader); err != nil {
			return nil, err
		}
	}
	h, err := libp2p.New(
		libp2p.Identity(key), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.Transport(tcp.NewTCPTransport),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}),
	)
	if err != nil {
		return nil, err
	}
	s := &stranger{Host: h, key: key, net: t.network(), blobs: map[proto.Hash][]byte{}}
	s.SetStreamHandler(s.net.ID.Protocol("blob"), s.serveBlob)
	return s, nil
}

// meet connects to daemons.
func (s *stranger) meet(ctx context.Context, nodes ...*daemon.Node) error {
	for _, nd := range nodes {
		for _, a := range nd.Addrs() {
			if !strings.Contains(a, "/tcp/") || strings.Contains(a, "/ws") || strings.Contains(a, "p2p-circuit") {
				continue
			}
			info, err := peer.AddrInfoFromString(a)
			if err != nil {
				return err
			}
			if err := s.Connect(ctx, *info); err != nil {
				return fmt.Errorf("connect to %s: %w", nd.Name, err)
			}
			break
		}
	}
	return nil
}

// seal signs for this peer.
func (s *stranger) seal(p *proto.Payload) ([]byte, error) { return proto.Seal(s.key, s.net.ID, p) }

// open opens a stream of one of the network's protocols.
func (s *stranger) open(ctx context.Context, to peer.ID, name string) (network.Stream, error) {
	return s.NewStream(ctx, to, s.net.ID.Protocol(name))
}

// gossip takes part in gossip as our nodes do.
func (s *stranger) gossip(ctx context.Context) (*pubsub.PubSub, error) {
	return pubsub.NewGossipSub(
		ctx, s,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(), pubsub.WithFloodPublish(true),
		pubsub.WithMessageIdFn(func(m *pubsubpb.Message) string {
			h := sha256.New()
			h.Write([]byte(m.GetTopic()))
			h.Write(m.GetData())
			return string(h.Sum(nil))
		}),
	)
}

// serveBlob gives what was put into blobs, and holds the line for everything
// else: whoever asks waits.
func (s *stranger) serveBlob(st network.Stream) {
	var req proto.BlobRequest
	if err := frames(st, proto.MaxBlobFrame).Read(&req); err != nil {
		st.Reset()
		return
	}
	c, err := proto.ParseCID(req.Cid)
	if err != nil {
		st.Reset()
		return
	}
	h, err := proto.CIDHash(c)
	if err != nil {
		st.Reset()
		return
	}
	s.mu.Lock()
	body, ok := s.blobs[h]
	s.mu.Unlock()
	if !ok {
		return // the stream stays open, with the host
	}
	if proto.WriteFrame(st, &proto.BlobReply{Size: uint64(len(body))}, proto.MaxBlobFrame) == nil {
		_, err = st.Write(body[min(req.Offset, uint64(len(body))):])
	}
	if err != nil {
		st.Reset()
		return
	}
	st.Close()
}

// serve makes a blob one that this peer gives.
func (s *stranger) serve(body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[proto.HashOf(body)] = body
}

func frames(s network.Stream, limit int) *proto.FrameReader {
	return proto.NewFrameReader(bufio.NewReader(s), limit)
}

func random16() []byte {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return b
}

// swarm makes n strangers and closes them when ctx ends.
func (t *Target) swarm(ctx context.Context, n int, each func(ctx context.Context, i int, s *stranger) error) error {
	return t.swarmOf(ctx, make([]crypto.PrivKey, n), each)
}

// swarmOf runs each for a host of every key, all at once, and waits for all. The
// first error ends them, but for one after ctx has ended.
func (t *Target) swarmOf(ctx context.Context, keys []crypto.PrivKey, each func(ctx context.Context, i int, s *stranger) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for i, key := range keys {
		all.Go(func() {
			s, err := t.stranger(key)
			if err == nil {
				err = each(ctx, i, s)
				s.Close()
			}
			if err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil && err != ctx.Err() {
		return err
	}
	return nil
}
