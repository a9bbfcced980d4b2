package attack

import (
	"context"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
)

// relayedSpam are eight peers that gossip well-formed offers to one honest
// worker each below its limit, so that it relays more than others take of it.
type relayedSpam struct{}

func (relayedSpam) Name() string { return "relayed_spam" }

func (relayedSpam) Run(ctx context.Context, t *Target) error {
	b, _ := modules.Lookup(proto.TypeText)
	return t.swarm(ctx, 8, func(ctx context.Context, _ int, s *stranger) error {
		ps, err := s.gossip(ctx)
		if err != nil {
			return err
		}
		offers, err := ps.Join(s.net.ID.OffersTopic(0))
		if err != nil {
			return err
		}
		if _, err := offers.Subscribe(); err != nil {
			return err
		}
		if err := s.meet(ctx, t.Workers[0]); err != nil {
			return err
		}
		for ctx.Err() == nil {
			for range 15 {
				raw, err := s.seal(&proto.Payload{Body: &proto.Payload_Offer{Offer: &proto.Offer{
					Id: random16(), Type: proto.TypeText, Module: b.ID.Bytes(), MeterVersion: proto.MeterVersion, Tasks: 1, FuelLimit: 1_000_000_000,
					MemoryLimit: proto.DefaultMemory, PriceCap: uint64(proto.OneCredit), Redundancy: 1, SlotsWanted: 1, WorkersWanted: 1,
					DeadlineUnixMs: uint64(time.Now().Add(time.Hour).UnixMilli()), Priority: uint32(proto.PriorityNormal),
				}}})
				if err != nil {
					return err
				}
				if offers.Publish(ctx, raw) == nil {
					t.Count("offers", 1)
				}
			}
			pause(ctx, 100*time.Millisecond)
		}
		return nil
	})
}
