// Command hostile attacks a network of real daemons on this machine, with honest
// jobs beside, and tells what each attack did to them.
//
//	go run ./test/hostile -list
//	go run ./test/hostile -attack replayed,dust -for 20s
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"edgenet.dev/test/daemon"
	"edgenet.dev/test/hostile/attack"
)

type options struct {
	attacks, bin string
	quiet, long  time.Duration
	all          time.Duration
	workers      int
	strict       bool
}

func main() {
	var o options
	flag.StringVar(&o.attacks, "attack", "all", "attacks to play, with commas")
	flag.StringVar(&o.bin, "daemon", "", "edgenetd to attack; empty: it is built")
	flag.DurationVar(&o.long, "for", 20*time.Second, "how long each attack lasts")
	flag.DurationVar(&o.quiet, "quiet", 10*time.Second, "how long honest jobs are measured without an attack before each")
	flag.DurationVar(&o.all, "total", 0, "how long all attacks last together; in place of -for")
	flag.IntVar(&o.workers, "workers", 5, "daemons that work, beside the witness and the submitter")
	flag.BoolVar(&o.strict, "strict", false, "fail, too, when honest jobs take more than three times as long or memory or disk grow by more than a fifth")
	list := flag.Bool("list", false, "print the attacks and play none")
	flag.Parse()
	if *list {
		for _, a := range attack.All() {
			fmt.Println(a.Name())
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	attacks, err := attack.Named(o.attacks)
	if err != nil {
		return err
	}
	if o.bin == "" {
		dir, err := os.MkdirTemp("", "edgenet-bin-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if o.bin, err = daemon.Build(ctx, dir, false); err != nil {
			return err
		}
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	if o.all > 0 {
		o.long = o.all/time.Duration(len(attacks)) - o.quiet
	}
	t, err := attack.Start(ctx, o.bin, o.workers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Net.Close()) }()
	broken, reports := 0, []attack.Report{}
	for _, a := range attacks {
		r, err := attack.Play(ctx, t, a, o.quiet, o.long)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, t.Net.Logs(1000))
		}
		fmt.Println(r)
		reports = append(reports, r)
		wrong := r.Broken()
		if o.strict {
			for _, s := range r.Excess() {
				fmt.Println("  EXCESS:", s)
				wrong = append(wrong, s)
			}
		}
		broken += min(1, len(wrong))
	}
	if o.strict {
		if grown := attack.Growth(reports); len(grown) > 0 {
			return fmt.Errorf("over all attacks %s", strings.Join(grown, "; "))
		}
	}
	if broken > 0 {
		return fmt.Errorf("%d of %d attacks broke something", broken, len(attacks))
	}
	return nil
}
