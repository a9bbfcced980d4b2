package attack

import (
	"context"
	"time"

	"edgenet.dev/proto"
)

// unrevealed has workers commit to results and never asks for them, so that they
// keep them.
type unrevealed struct{}

func (unrevealed) Name() string { return "unrevealed" }

func (unrevealed) Run(ctx context.Context, t *Target) error {
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
		next := 0
		job := random16()
		more := func() error {
			var list []work
			for range 16 {
				w := text(job, next)
				w.k = 2
				next++
				list = append(list, w)
			}
			t.Count("assignments", len(list))
			return k.assign(h, time.Now().Add(time.Hour), list)
		}
		if err := more(); err != nil {
			return err
		}
		open := 16
		return k.hear(ctx, func(f *proto.TaskFrame) error {
			committed := len(f.GetCommits().GetCommitments())
			t.Count("commitments", committed)
			if open -= committed; f.GetRefused() != nil {
				open--
				t.Count("refusals", 1)
				if open <= 0 {
					pause(ctx, 200*time.Millisecond)
				}
			}
			if open > 0 {
				return nil
			}
			open = 16
			return more()
		})
	})
}
