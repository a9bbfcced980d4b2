package attack

import (
	"context"
	"time"

	"github.com/ipfs/go-cid"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
	"edgenet.dev/test/daemon"
)

// slowReaders ask for blobs and do not read them, to hold the places in which
// blobs are served.
type slowReaders struct{}

func (slowReaders) Name() string { return "slow_readers" }

func (slowReaders) Run(ctx context.Context, t *Target) error {
	nodes := append([]*daemon.Node{t.Submitter}, t.Workers...)
	return t.swarm(ctx, 8*len(nodes), func(ctx context.Context, i int, s *stranger) error {
		nd := nodes[i%len(nodes)]
		if err := s.meet(ctx, nd); err != nil {
			return err
		}
		for ctx.Err() == nil {
			for range 8 {
				st, err := s.open(ctx, nd.ID, "blob")
				if err != nil {
					break
				}
				context.AfterFunc(ctx, func() { st.Reset() })
				if proto.WriteFrame(st, &proto.BlobRequest{Cid: t.wanted().Bytes()}, proto.MaxBlobFrame) == nil {
					t.Count("requests", 1)
				}
			}
			pause(ctx, 2*time.Second)
		}
		return nil
	})
}

// thirdParty asks for the inputs of jobs that it has no part in.
type thirdParty struct{}

func (thirdParty) Name() string { return "third_party" }

func (thirdParty) Run(ctx context.Context, t *Target) error {
	nodes := append([]*daemon.Node{t.Submitter}, t.Workers...)
	return t.swarm(ctx, 1, func(ctx context.Context, _ int, s *stranger) error {
		if err := s.meet(ctx, nodes...); err != nil {
			return err
		}
		for ctx.Err() == nil {
			for _, nd := range nodes {
				given, err := s.asks(ctx, nd, t.wanted())
				if err != nil {
					continue // it hangs up
				}
				t.Count("requests", 1)
				if given {
					t.Harm("%s gave a stranger the input of another's job", nd.Name)
				}
			}
			pause(ctx, 200*time.Millisecond)
		}
		if b, ok := modules.Lookup(proto.TypeText); ok {
			// What is public stays public: a built-in module.
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if given, err := s.asks(end, t.Submitter, b.ID); err != nil || !given {
				t.Harm("a built-in module is not given to a stranger: %v", err)
			}
		}
		return nil
	})
}

// asks reports whether a daemon gives a blob.
func (s *stranger) asks(ctx context.Context, nd *daemon.Node, c cid.Cid) (given bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	st, err := s.open(ctx, nd.ID, "blob")
	if err != nil {
		return false, err
	}
	defer st.Reset()
	defer context.AfterFunc(ctx, func() { st.Reset() })()
	if err := proto.WriteFrame(st, &proto.BlobRequest{Cid: c.Bytes()}, proto.MaxBlobFrame); err != nil {
		return false, err
	}
	var r proto.BlobReply
	if err := frames(st, proto.MaxBlobFrame).Read(&r); err != nil {
		return false, err
	}
	return r.Code == 0, nil
}
