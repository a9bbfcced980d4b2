package attack

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
	"edgenet.dev/test/daemon"
)

// badEvidence orders work, never pays, and spoils what the worker could claim
// with: one batch on the lane names another worker, 20 bulky ones order what it
// refuses, and 20 order one task each beside 63 that it refuses. Once the hold is
// over the witnesses must have paid for everything that was delivered.
type badEvidence struct{}

func (badEvidence) Name() string { return "bad_evidence" }

const evidenceTasks = 16 + 20

func (badEvidence) Run(ctx context.Context, t *Target) error {
	keys, err := t.purse(&t.rich, len(t.Workers))
	if err != nil {
		return err
	}
	return t.swarmOf(ctx, keys, func(ctx context.Context, i int, s *stranger) error {
		p, err := t.payer(ctx, s)
		if err != nil {
			return err
		}
		return spoil(ctx, t, p, t.Workers[i])
	})
}

func spoil(ctx context.Context, t *Target, p *payer, w *daemon.Node) error {
	// Its end is what is looked at: however soon the attack is called off.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	deadline := time.Now().Add(6 * time.Second)
	h, err := p.hold(ctx, w.ID, 10*proto.OneCredit, deadline)
	if err != nil {
		return err
	}
	expires, job := time.Now().Add(time.Minute), random16()
	if err := namesAnother(ctx, p, w, h, expires, t.Witness.ID); err != nil {
		return err
	}
	t.Count("bad batches", 41)
	until, done := context.WithDeadline(ctx, deadline)
	defer done()
	k, err := p.link(until, w)
	if err != nil {
		return err
	}
	for n := range 40 {
		var list []work
		for i := range 64 {
			x := text(random16(), n*64+i)
			if i > 0 || n < 20 {
				x.fuel = proto.MaxFuel + 1 // more than anybody grants
			}
			list = append(list, x)
		}
		if err := k.assign(h, expires, list); err != nil {
			return err
		}
	}
	var list []work
	for i := range 16 {
		list = append(list, text(job, i+1))
	}
	if err := k.assign(h, expires, list); err != nil {
		return err
	}
	var earned uint64
	results := 0
	err = k.hear(until, func(f *proto.TaskFrame) error {
		for _, it := range f.GetResults().GetItems() {
			var r proto.Receipt
			if err := goproto.Unmarshal(it.Receipt, &r); err != nil {
				return err
			}
			earned += uint64(proto.PayFor(proto.Fuel(r.Fuel), proto.Credit(r.Price)))
			if results++; results == evidenceTasks {
				done()
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s after %d results: %w", w.Name, results, err)
	}
	t.Count("results not paid for", results)
	if results == 0 {
		return nil // it works for nobody that spoils its evidence
	}
	for ctx.Err() == nil {
		lane, err := p.lanes(ctx, h)
		if err == nil && lane.Closed {
			if lane.Paid < earned {
				t.Harm("%s earned %d and was paid %d", w.Name, earned, lane.Paid)
			}
			return nil
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Harm("%s earned %d, and the hold was never closed", w.Name, earned)
	return nil
}

// namesAnother signs a batch on the lane that names another worker. The worker
// may hang up on that.
func namesAnother(ctx context.Context, p *payer, w *daemon.Node, h hold, expires time.Time, another peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	k, err := p.link(ctx, w)
	if err != nil {
		return err
	}
	raw, inputs, err := k.batch(h, another, expires, []work{text(random16(), 0)})
	if err != nil {
		return err
	}
	if k.send(h, raw, inputs) == nil {
		k.deaf(ctx)
	}
	return nil
}
