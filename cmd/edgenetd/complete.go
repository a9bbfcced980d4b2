package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox/modules"
)

// completeWait is how long a shell waits for the daemon's answer.
const completeWait = 2 * time.Second

type completion = func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective)

// complete teaches the shell what words a command takes: task types, the running
// daemon's jobs and peers, keys and their values.
func (a *app) complete(root *cobra.Command) {
	words := func(list ...string) completion {
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return list, cobra.ShellCompDirectiveNoFileComp
		}
	}
	at := func(path ...string) *cobra.Command {
		c, _, err := root.Find(path)
		if err != nil {
			panic(err) // a command that is not there: a mistake in this file
		}
		return c
	}
	flag := func(c *cobra.Command, name string, values ...string) {
		if c.Flag(name) != nil {
			_ = c.RegisterFlagCompletionFunc(name, words(values...)) // fails when it is registered already
		}
	}
	for _, verb := range []string{"show", "why", "result", "cancel", "wait", "rm"} {
		at("task", verb).ValidArgsFunction = a.completeJobs
	}
	at("ping").ValidArgsFunction = a.completePeers
	at("peers", "forget").ValidArgsFunction = a.completePeers
	at("block", "add").ValidArgsFunction = a.completeBlock
	at("block", "rm").ValidArgsFunction = a.completeBlock
	at("wallet", "transfer").ValidArgsFunction = a.completePeers
	at("submit").ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return modules.Types(), cobra.ShellCompDirectiveDefault // or a file
	}
	at("config", "set").ValidArgsFunction = completeSetting
	_ = root.RegisterFlagCompletionFunc("output", words("table", "json", "yaml"))
	flag(at("task", "list"), "state", "queued", "offered", "assigned", "running", "verifying", "done", "failed", "cancelled", "expired")
	for _, c := range []*cobra.Command{at("submit"), at("batch")} {
		flag(c, "priority", "low", "normal", "high")
	}
	for _, c := range []*cobra.Command{at("run"), at("config", "show")} {
		for _, s := range settings {
			if values := valuesOf(s); len(values) > 0 {
				flag(c, s.flag, values...)
			}
		}
	}
}

// valuesOf lists what a key may be, where that is a list.
func valuesOf(s setting) []string {
	if _, is := s.value.(bool); is {
		return []string{"true", "false"}
	}
	if s.takes.suggest != nil {
		return s.takes.suggest()
	}
	return s.takes.among
}

func completeSetting(_ *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		for _, s := range settings {
			out = append(out, s.key+"\t"+s.usage)
		}
	case 1:
		if s := lookup(args[0]); s != nil {
			out = valuesOf(*s)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeJobs asks the daemon; when none answers there is nothing to offer.
func (a *app) completeJobs(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if len(args) > 0 && c.Name() != "rm" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	a.asking(c, func(ctx context.Context, d *client) {
		reply, err := call(ctx, d.tasks.List, &api.ListRequest{Limit: 200})
		if err != nil {
			return
		}
		for _, j := range reply.Jobs {
			switch over := finalState(j.State); {
			case slices.Contains(args, j.Id), c.Name() == "rm" && !over, (c.Name() == "cancel" || c.Name() == "wait") && over:
				continue
			}
			out = append(out, j.Id+"\t"+what(j)+" "+j.State)
		}
	})
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeCommands is help's: it offers the commands below those that stand there.
func completeCommands(c *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	if at, rest, err := c.Root().Find(args); err == nil && len(rest) == 0 {
		for _, sub := range at.Commands() {
			if !sub.Hidden {
				out = append(out, sub.Name()+"\t"+sub.Short)
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completePeers(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if len(args) == 0 {
		a.asking(c, func(ctx context.Context, d *client) {
			reply, err := call(ctx, d.nodes.Peers, &api.PeersRequest{})
			if err != nil {
				return
			}
			for _, p := range reply.Peers {
				out = append(out, p.Id)
			}
		})
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) asking(c *cobra.Command, ask func(context.Context, *client)) {
	ctx := c.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeWait)
	defer cancel()
	if d, err := a.daemon(ctx); err == nil {
		ask(ctx, d)
	}
}
