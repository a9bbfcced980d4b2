package attack

import (
	"context"
	"sync/atomic"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox/enginetest"
)

// timeouts has workers run guests that never end before their time is over,
// which costs the submitter nothing.
type timeouts struct{}

func (timeouts) Name() string { return "timeouts" }

func (timeouts) Run(ctx context.Context, t *Target) error {
	return t.spinners(ctx, func(w *work) { w.fuel, w.wall = 60_000_000_000, time.Second })
}

// crowd keeps as many tasks of one payer waiting as workers take, each of a
// fifth of a second.
type crowd struct{}

func (crowd) Name() string { return "crowd" }

func (crowd) Run(ctx context.Context, t *Target) error {
	return t.spinners(ctx, func(w *work) { w.fuel, w.wall = 200_000_000, 30*time.Second })
}

// spinners are one payer for each worker that has 1,200 endless guests there, as
// far as it takes them, and assigns others for those that it gave back.
func (t *Target) spinners(ctx context.Context, limits func(*work)) error {
	keys, err := t.purse(&t.rich, len(t.Workers))
	if err != nil {
		return err
	}
	spin := enginetest.Spin()
	return t.swarmOf(ctx, keys, func(ctx context.Context, i int, s *stranger) error {
		s.serve(spin)
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
		var open atomic.Int64 // assigned and not answered
		job := random16()
		heard := make(chan error, 1)
		go func() {
			heard <- k.hear(ctx, func(f *proto.TaskFrame) error {
				n := len(f.GetResults().GetItems())
				t.Count("results", n)
				if r := f.GetRefused(); r != nil {
					t.Count(proto.Code(r.Code).String(), 1)
					n++
				}
				open.Add(-int64(n))
				return nil
			})
		}()
		for next := 0; ctx.Err() == nil; pause(ctx, 50*time.Millisecond) {
			for range 4 {
				var list []work
				for ; len(list) < 16 && int(open.Load())+len(list) < 1200; next++ {
					w := text(job, next)
					w.module = proto.CIDOf(spin)
					limits(&w)
					list = append(list, w)
				}
				if len(list) == 0 {
					break
				}
				open.Add(int64(len(list)))
				t.Count("assignments", len(list))
				if err := k.assign(h, time.Now().Add(time.Hour), list); err != nil {
					return err
				}
			}
		}
		return <-heard
	})
}
