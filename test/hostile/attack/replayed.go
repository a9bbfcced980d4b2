package attack

import (
	"context"
	"time"
)

// replayed sends the same expired assignments again and again, under many
// holds, for a worker that keeps what it is sent as evidence.
type replayed struct{}

func (replayed) Name() string { return "replayed" }

func (replayed) Run(ctx context.Context, t *Target) error {
	keys, err := t.purse(&t.rich, len(t.Workers))
	if err != nil {
		return err
	}
	return t.swarmOf(ctx, keys, func(ctx context.Context, i int, s *stranger) error {
		p, err := t.payer(ctx, s)
		if err != nil {
			return err
		}
		w := t.Workers[i]
		k, err := p.link(ctx, w)
		if err != nil {
			return err
		}
		go k.deaf(ctx)
		for ctx.Err() == nil {
			h, err := p.hold(ctx, w.ID, 1, time.Now().Add(time.Hour))
			if err != nil {
				return err
			}
			var list []work
			job := random16()
			for n := range 64 {
				list = append(list, text(job, n))
			}
			raw, inputs, err := k.batch(h, w.ID, time.Now().Add(-time.Minute), list)
			if err != nil {
				return err
			}
			for n := 0; n < 256 && ctx.Err() == nil; n++ {
				if k.send(h, raw, inputs) != nil {
					if k, err = p.link(ctx, w); err != nil { // it hung up
						pause(ctx, 100*time.Millisecond)
						break
					}
					go k.deaf(ctx)
				}
				t.Count("bytes of assignments", len(raw))
			}
		}
		return nil
	})
}
