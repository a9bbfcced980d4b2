package attack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/test/daemon"
)

// dust holds every link of a worker with accounts that have set a microcredit
// aside each, until others that can pay find no place. Every other hold is soon
// over, the rest last for a day.
type dust struct{}

func (dust) Name() string { return "dust" }

const dustAccounts = 256 // as many links as a worker has

var dustLasts = []time.Duration{2 * time.Second, 24 * time.Hour}

func (dust) Run(ctx context.Context, t *Target) error {
	poor, err := t.purse(&t.poor, dustAccounts)
	if err != nil {
		return err
	}
	rich, err := t.purse(&t.rich, 1)
	if err != nil {
		return err
	}
	end, cancel := context.WithCancel(context.WithoutCancel(ctx)) // they keep their links until a payer has tried
	defer cancel()
	w := t.Workers[0]
	turns := make(chan struct{}, 8)
	var linked sync.WaitGroup
	linked.Add(len(poor))
	ended := make(chan error, 1)
	go func() {
		ended <- t.swarmOf(end, poor, func(ctx context.Context, i int, s *stranger) error {
			once := sync.OnceFunc(linked.Done)
			defer once()
			for try := 0; try < 3 && ctx.Err() == nil; try++ {
				turns <- struct{}{}
				k, err := t.dusty(ctx, s, w, dustLasts[i%len(dustLasts)])
				<-turns
				if err != nil {
					t.Count("accounts without a link", 1)
					pause(ctx, time.Second)
					continue
				}
				t.Count("links", 1)
				once()
				k.deaf(ctx)
			}
			return nil
		})
	}()
	linked.Wait()
	pause(ctx, 3*time.Second) // the short holds are over
	err = t.swarmOf(end, rich, func(ctx context.Context, _ int, s *stranger) error {
		p, err := t.payer(ctx, s)
		if err != nil {
			return err
		}
		if err := served(ctx, p, w); err != nil {
			t.Harm("a payer that can pay is not served by %s: %v", w.Name, err)
		}
		return nil
	})
	<-ctx.Done()
	cancel()
	return errors.Join(err, <-ended)
}

// dusty opens an account, sets a microcredit aside and shows the hold.
func (t *Target) dusty(life context.Context, s *stranger, w *daemon.Node, lasts time.Duration) (*link, error) {
	ctx, cancel := context.WithTimeout(life, 30*time.Second)
	defer cancel()
	p, err := t.payer(ctx, s)
	if err != nil {
		return nil, err
	}
	h, err := p.hold(ctx, w.ID, 1, time.Now().Add(lasts))
	if err != nil {
		return nil, err
	}
	k, err := p.link(life, w)
	if err != nil {
		return nil, err
	}
	_ = s.Network().ClosePeer(t.Witness.ID) // it has what it wanted there
	return k, k.assign(h, time.Now().Add(time.Hour), []work{text(random16(), 0)})
}

// served wants a worker to run one task of a payer, and reports what became of
// it.
func served(ctx context.Context, p *payer, w *daemon.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	h, err := p.hold(ctx, w.ID, proto.OneCredit, time.Now().Add(time.Hour))
	if err != nil {
		return err
	}
	var last error
	for ctx.Err() == nil {
		err := oneTask(ctx, p, w, h)
		if err == nil {
			return nil
		}
		if !strings.Contains(err.Error(), "dial backoff") || last == nil { // libp2p's own, after a failure
			last = err
		}
		pause(ctx, time.Second)
	}
	return last
}

func oneTask(ctx context.Context, p *payer, w *daemon.Node, h hold) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	k, err := p.link(ctx, w)
	if err != nil {
		return err
	}
	defer k.s.Reset()
	if err := k.assign(h, time.Now().Add(time.Minute), []work{text(random16(), 0)}); err != nil {
		return err
	}
	result := false
	err = k.hear(ctx, func(f *proto.TaskFrame) error {
		if r := f.GetRefused(); r != nil {
			return fmt.Errorf("%s: %s", proto.Code(r.Code), r.Reason)
		}
		if len(f.GetResults().GetItems()) > 0 {
			result = true
			cancel()
		}
		return nil
	})
	switch {
	case result:
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("its stream ended or was silent for 5 s")
}
