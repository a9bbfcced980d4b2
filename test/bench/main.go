// Command bench measures this build on this machine. It prints one table and
// writes the same rows as JSON. Every row is measured in the run that prints
// it, with its baseline beside it; a part that is not built has no row.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one figure. Names are stable, so that figures can be followed.
type row struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Baseline string  `json:"baseline"` // what it is compared with, measured in this run
	Goal     string  `json:"goal"`
}

type bench struct {
	bin    string        // edgenetd
	rounds int           // of the task path and of its baseline
	batch  int           // tasks of the throughput run
	idle   time.Duration // watched while nothing happens
	attack time.Duration // each attack, and the quiet before it
	only   string        // parts to measure, with commas; empty: all
}

func main() {
	var b bench
	out := flag.String("out", "build/bench.json", "file to write")
	flag.StringVar(&b.bin, "daemon", "build/edgenetd", "edgenetd to measure")
	flag.IntVar(&b.rounds, "rounds", 400, "single tasks timed one after the other")
	flag.IntVar(&b.batch, "batch", 4000, "tasks in the throughput run")
	flag.DurationVar(&b.idle, "idle", 5*time.Minute, "how long to watch idle daemons")
	flag.DurationVar(&b.attack, "attack", 15*time.Second, "how long each attack lasts, and the quiet time before it")
	flag.StringVar(&b.only, "only", "", "parts to measure, such as metering,sandbox; empty: all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.run(ctx, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b bench) run(ctx context.Context, out string) error {
	bin, err := filepath.Abs(b.bin)
	if err != nil {
		return err
	}
	b.bin = bin
	var rows []row
	for _, part := range []struct {
		name string
		run  func(context.Context) ([]row, error)
	}{
		{"metering", b.metering},
		{"sandbox", b.sandboxCost},
		{"task path", b.taskPath},
		{"start", b.start},
		{"throughput", b.throughput},
		{"ledger", b.ledgerSpeed},
		{"bytes per task", b.ledgerBytes},
		{"settlement", b.settlement},
		{"idle daemons", b.idleCost},
		{"hostile", b.hostile},
		{"tab", b.tab},
	} {
		if b.only != "" && !slices.Contains(strings.Split(b.only, ","), part.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", part.name)
		r, err := part.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		rows = append(rows, r...)
	}
	text, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(out, append(text, '\n'), 0o644); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURE\tVALUE\tUNIT\tBASELINE\tGOAL")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%.4g\t%s\t%s\t%s\n", r.Name, r.Value, r.Unit, r.Baseline, r.Goal)
	}
	return w.Flush()
}
