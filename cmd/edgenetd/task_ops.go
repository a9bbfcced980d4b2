package main

import (
	"context"
	"errors"
	"io"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"edgenet.dev/proto/api"
)

func (a *app) taskWaitCmd() *cobra.Command {
	var most time.Duration
	c := &cobra.Command{
		Use: "wait JOB", Short: "Wait until a job is over; the exit code says how it ended", Args: takes(1, 1, "a JOB"),
		RunE: func(c *cobra.Command, args []string) error { return a.taskWait(c.Context(), args[0], most) },
	}
	c.Flags().DurationVar(&most, "timeout", 0, "wait no longer than this, such as 10m; 0: as long as it takes")
	return c
}

func (a *app) taskWait(ctx context.Context, job string, most time.Duration) error {
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	waiting := ctx
	if most > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, most)
		defer cancel()
	}
	j, err := a.follow(waiting, d, job)
	if err != nil {
		// The daemon knows the deadline, too, and may be the first to see it pass.
		if most > 0 && ctx.Err() == nil && (errors.Is(waiting.Err(), context.DeadlineExceeded) || connect.CodeOf(err) == connect.CodeDeadlineExceeded) {
			return failf(exitWaiting, "job %s is not over after %s; it goes on, and 'edgenetd task why %s' says what it waits for", job, most, job)
		}
		return err
	}
	err = a.print(report{data: jobOf(j), ids: []string{j.Id}, table: func(w io.Writer) {
		row(w, "job", j.Id)
		row(w, "state", j.State)
	}})
	if err != nil {
		return err
	}
	return judge(j)
}

func (a *app) taskRmCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rm JOB…", Short: "Remove jobs that are over and settled, with inputs and results", Args: takes(1, 1000, "a JOB"),
		RunE: func(c *cobra.Command, args []string) error { return a.taskRm(c.Context(), args) },
	}
}

func (a *app) taskRm(ctx context.Context, jobs []string) error {
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	removed := []string{}
	for _, job := range jobs {
		reply, err := call(ctx, d.tasks.Remove, &api.RemoveRequest{Job: job})
		if err != nil {
			return err
		}
		removed = append(removed, reply.Job)
	}
	return a.print(report{data: map[string]any{"removed": removed}, ids: removed, table: func(w io.Writer) {
		for _, job := range removed {
			row(w, "removed", job)
		}
	}})
}
