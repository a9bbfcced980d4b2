package attack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"edgenet.dev/proto/api"
	"edgenet.dev/test/daemon"
)

// Report is what an attack did, beside the same network without it.
type Report struct {
	Name         string
	Quiet, Under Latency
	Before       Usage // largest of all daemons
	After        Usage
	Attackers    map[string]uint64 // what they did
	Harm         []string          // what they must not get, and got
	Unpaid       []string          // workers that have not got what honest jobs owe them
	Audit        []string          // daemons whose books do not add up
}

// Latency is of honest jobs from their submission to the verified result.
type Latency struct {
	Jobs     int
	P50, P99 time.Duration
	Failed   []string
	Lost     string // tries that the slowest job lost
}

// Usage is what a daemon takes of its machine, in bytes.
type Usage struct{ RSS, Disk uint64 }

// Ratio is the honest p99 under attack over the quiet one; 0 when either is not
// known.
func (r Report) Ratio() float64 {
	if r.Quiet.P99 == 0 || r.Under.P99 == 0 {
		return 0
	}
	return float64(r.Under.P99) / float64(r.Quiet.P99)
}

// Broken are the laws that did not hold, whatever the machine's speed: an honest
// job failed, a worker is not paid, books do not add up, or the attackers got
// what they must not get.
func (r Report) Broken() []string {
	return slices.Concat(r.Quiet.Failed, r.Under.Failed, r.Unpaid, r.Audit, r.Harm)
}

func (r Report) String() string {
	var b strings.Builder
	ms := func(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond)) }
	mb := func(n uint64) string { return fmt.Sprintf("%.0f MB", float64(n)/(1<<20)) }
	fmt.Fprintf(&b, "%-16s quiet p50 %s, p99 %s of %d; under attack p50 %s, p99 %s of %d (%.1f); RSS %s to %s, disk %s to %s;", r.Name,
		ms(r.Quiet.P50), ms(r.Quiet.P99), r.Quiet.Jobs, ms(r.Under.P50), ms(r.Under.P99), r.Under.Jobs, r.Ratio(),
		mb(r.Before.RSS), mb(r.After.RSS), mb(r.Before.Disk), mb(r.After.Disk))
	for _, k := range slices.Sorted(maps.Keys(r.Attackers)) {
		fmt.Fprintf(&b, " %d %s,", r.Attackers[k], k)
	}
	if r.Under.Lost != "" {
		fmt.Fprintf(&b, "\n  the slowest lost tries: %s", r.Under.Lost)
	}
	for _, s := range r.Broken() {
		fmt.Fprintf(&b, "\n  BROKEN: %s", s)
	}
	return b.String()
}

// Play measures honest jobs for quiet, then for as long under the attack as
// long says, and looks at the books. quiet 0 measures no quiet jobs but one.
func Play(ctx context.Context, t *Target, a Attack, quiet, long time.Duration) (Report, error) {
	r := Report{Name: a.Name()}
	l, err := newLoad(ctx, t)
	if err != nil {
		return r, err
	}
	t.taken()
	if r.Before, err = t.usage(ctx); err != nil {
		return r, err
	}
	if r.Quiet, err = l.during(ctx, quiet); err != nil {
		return r, err
	}
	under, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	attacked := make(chan error, 1)
	go func() { attacked <- a.Run(under, t) }()
	r.Under, err = l.during(under, long)
	if bad := <-attacked; bad != nil {
		err = errors.Join(err, fmt.Errorf("attack %s was not played: %w", a.Name(), bad))
	}
	r.Attackers, r.Harm = t.taken()
	if err != nil || ctx.Err() != nil {
		return r, errors.Join(err, ctx.Err())
	}
	if r.After, err = t.usage(ctx); err != nil {
		return r, err
	}
	if r.Unpaid, err = l.settled(ctx); err != nil {
		return r, err
	}
	r.Audit, err = t.audit(ctx)
	return r, err
}

func (l *load) during(ctx context.Context, d time.Duration) (Latency, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	s, err := l.run(ctx)
	out := Latency{Jobs: len(s.took) + len(s.failed), Failed: s.failed, Lost: s.slow}
	if slices.Sort(s.took); len(s.took) > 0 {
		out.P50, out.P99 = s.took[len(s.took)/2], s.took[(len(s.took)*99-1)/100]
	}
	return out, err
}

// usage is the largest of any daemon.
func (t *Target) usage(ctx context.Context) (u Usage, err error) {
	for _, nd := range t.Net.Nodes {
		st, err := nd.Status(ctx)
		if err != nil {
			return u, fmt.Errorf("%s: %w", nd.Name, err)
		}
		u.RSS = max(u.RSS, st.RssBytes)
		var disk uint64
		err = filepath.WalkDir(nd.Dir, func(_ string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return nil // removed meanwhile
			}
			if i, err := e.Info(); err == nil {
				disk += uint64(i.Size())
			}
			return nil
		})
		if err != nil {
			return u, err
		}
		u.Disk = max(u.Disk, disk)
	}
	return u, nil
}

// audit adds up every daemon's books.
func (t *Target) audit(ctx context.Context) (broken []string, err error) {
	for _, nd := range t.Net.Nodes {
		a, err := daemon.Call(ctx, nd.Wallet.Audit, new(api.AuditRequest))
		if err != nil {
			return broken, fmt.Errorf("audit of %s: %w", nd.Name, err)
		}
		if !a.Conserved || a.Available+a.Held+a.Staked+a.Unbonding+a.Receivable+a.Burned != a.Genesis+a.Minted {
			broken = append(broken, fmt.Sprintf("the books of %s do not add up: %v", nd.Name, a))
		}
	}
	return broken, nil
}
