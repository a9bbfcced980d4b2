package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"edgenet.dev/proto/api"
)

func (a *app) workerCmd() *cobra.Command {
	return family("worker", "See what this node does for others",
		&cobra.Command{
			Use: "why", Short: "Explain why it has work or none, and whose work it prefers", Args: takes(0, 0, ""),
			RunE: func(c *cobra.Command, _ []string) error { return a.workerWhy(c.Context()) },
		})
}

func (a *app) workerWhy(ctx context.Context) error {
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	st, err := call(ctx, d.nodes.Status, &api.StatusRequest{Served: true})
	if err != nil {
		return err
	}
	lines := append([]string{st.Worker.Why}, st.Worker.Served...)
	return a.print(report{data: map[string]any{"why": st.Worker.Why, "served": st.Worker.Served}, table: func(w io.Writer) {
		for _, l := range lines {
			fmt.Fprintln(w, l)
		}
	}})
}
