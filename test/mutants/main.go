// Command mutants cuts one wire at a time and wants a named test to notice.
//
// Each entry of mutants.yaml is a rule with one edit that switches it off, and
// the test that must fail then. The edit is laid over the source by the go
// command (-overlay), so the tree is never changed and its build cache is used.
// A rule whose edit no test notices is a rule that nobody would miss.
//
//	go run ./test/mutants                 all, one after the other
//	go run ./test/mutants -only priority  one (a comma separates several)
//	go run ./test/mutants -list           names and tests
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	only := flag.String("only", "", "names of the mutants to run, with commas; empty: all")
	show := flag.Bool("list", false, "print the mutants and run nothing")
	limit := flag.Duration("timeout", 4*time.Minute, "how long one test may take")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only, *show, *limit); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, show bool, limit time.Duration) error {
	list, err := load()
	if err != nil {
		return err
	}
	if only != "" {
		names := strings.Split(only, ",")
		for _, name := range names {
			if !slices.ContainsFunc(list, func(m mutant) bool { return m.Name == name }) {
				return fmt.Errorf("no mutant is called %q: -list prints them", name)
			}
		}
		list = slices.DeleteFunc(list, func(m mutant) bool { return !slices.Contains(names, m.Name) })
	}
	if show {
		for _, m := range list {
			fmt.Printf("%-24s %s %s\n%24s %s\n", m.Name, m.Package, m.Test, "", m.Rule)
		}
		return nil
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "edgenet-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := runner{root: root, dir: dir, limit: limit, list: list, whole: map[[2]string]error{}}
	var failed []string
	for _, m := range list {
		start := time.Now()
		err := r.run(ctx, m)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		verdict := "noticed"
		if err != nil {
			verdict = "FAILED: " + err.Error()
			failed = append(failed, m.Name)
		}
		fmt.Printf("%-24s %s %s  %s (%.0f s)\n", m.Name, m.Package, m.Test, verdict, time.Since(start).Seconds())
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d: %s", len(failed), len(list), strings.Join(failed, ", "))
	}
	fmt.Printf("%d mutants, each noticed by its test\n", len(list))
	return nil
}
