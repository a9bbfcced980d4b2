package attack

import (
	"context"
	"time"

	"edgenet.dev/proto"
)

// unservedInputs assigns tasks whose inputs nobody ever serves, to hold the
// workers' slots.
type unservedInputs struct{}

func (unservedInputs) Name() string { return "unserved_inputs" }

func (unservedInputs) Run(ctx context.Context, t *Target) error {
	keys, err := t.purse(&t.rich, len(t.Workers))
	if err != nil {
		return err
	}
	return t.swarmOf(ctx, keys, func(ctx context.Context, i int, s *stranger) error {
		p, err := t.payer(ctx, s)
		if err != nil {
			return err
		}
		h, err := p.hold(ctx, t.Workers[i].ID, 90*proto.OneCredit, time.Now().Add(time.Hour))
		if err != nil {
			return err
		}
		k, err := p.link(ctx, t.Workers[i])
		if err != nil {
			return err
		}
		go k.deaf(ctx)
		for ctx.Err() == nil {
			var list []work
			job := random16()
			for n := range 32 {
				w := text(job, n)
				w.input = random16() // hashed, and never given to anybody
				w.by, w.size = &proto.Input{Where: &proto.Input_Cid{Cid: proto.CIDOf(w.input).Bytes()}}, 1<<20
				list = append(list, w)
			}
			if err := k.assign(h, time.Now().Add(time.Hour), list); err != nil {
				return err
			}
			t.Count("assignments", len(list))
			pause(ctx, time.Second)
		}
		return nil
	})
}

// pause waits a while, at most until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
