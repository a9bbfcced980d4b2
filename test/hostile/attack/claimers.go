package attack

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"edgenet.dev/proto"
	"edgenet.dev/test/daemon"
)

// silentClaimers are eight peers without a credit that claim every offer at
// price 0, more slots than anybody has, and never do anything.
type silentClaimers struct{}

func (silentClaimers) Name() string { return "silent_claimers" }

func (silentClaimers) Run(ctx context.Context, t *Target) error {
	return t.swarm(ctx, 8, func(ctx context.Context, _ int, s *stranger) error {
		ps, err := s.gossip(ctx)
		if err != nil {
			return err
		}
		s.SetStreamHandler(s.net.ID.Protocol("task"), func(st network.Stream) { // listens and says nothing
			for in := frames(st, proto.MaxTaskFrame); ; t.Count("frames swallowed", 1) {
				if in.Read(new(proto.TaskFrame)) != nil {
					return
				}
			}
		})
		offers, err := ps.Join(s.net.ID.OffersTopic(0))
		if err != nil {
			return err
		}
		claims, err := ps.Join(s.net.ID.ClaimsTopic(0))
		if err != nil {
			return err
		}
		heard, err := offers.Subscribe()
		if err != nil {
			return err
		}
		if _, err := claims.Subscribe(); err != nil {
			return err
		}
		if err := s.meet(ctx, append([]*daemon.Node{t.Submitter, t.Witness}, t.Workers...)...); err != nil {
			return err
		}
		for {
			m, err := heard.Next(ctx)
			if err != nil {
				return nil
			}
			o, err := proto.Unseal(s.net.ID, m.Data, proto.KindOffer)
			if err != nil {
				continue
			}
			raw, err := s.seal(&proto.Payload{Body: &proto.Payload_Claim{Claim: &proto.Claim{
				Offer: o.Payload.GetOffer().Id, Submitter: []byte(o.Signer), Slots: 1024, Price: 0, Parallel: 1024,
				ExpiresUnixMs: uint64(time.Now().Add(5 * time.Minute).UnixMilli()), Round: o.Payload.GetOffer().Round,
			}}})
			if err != nil {
				return err
			}
			if claims.Publish(ctx, raw) == nil {
				t.Count("claims", 1)
			}
		}
	})
}
