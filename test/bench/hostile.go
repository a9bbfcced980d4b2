package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"edgenet.dev/test/hostile/attack"
)

// hostile plays every attack of test/hostile on seven daemons and compares the
// slowest honest jobs beside it with those right before it.
func (b bench) hostile(ctx context.Context) (rows []row, err error) {
	t, err := attack.Start(ctx, b.bin, 5)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Net.Close()) }()
	for _, a := range attack.All() {
		r, err := attack.Play(ctx, t, a, b.attack, b.attack)
		if err != nil {
			return nil, err
		}
		for _, s := range r.Broken() {
			fmt.Fprintf(os.Stderr, "  %s: %s\n", r.Name, s)
		}
		if r.Ratio() == 0 {
			return nil, fmt.Errorf("no honest job was done under %s", r.Name)
		}
		ms := func(d time.Duration) float64 { return us(d) / 1000 }
		rows = append(rows, row{
			Name: "hostile_" + r.Name + "_p99_over_quiet", Value: r.Ratio(), Unit: "ratio",
			Baseline: fmt.Sprintf("%.0f ms of %d jobs / %.0f ms of %d quiet", ms(r.Under.P99), r.Under.Jobs, ms(r.Quiet.P99), r.Quiet.Jobs), Goal: "<= 3",
		})
	}
	return rows, nil
}
