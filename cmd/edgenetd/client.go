package main

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"edgenet.dev/node/api"
	"edgenet.dev/proto/api/apiconnect"
)

// client is a connection to the daemon of one data directory.
type client struct {
	dir    string
	nodes  apiconnect.NodeServiceClient
	tasks  apiconnect.TaskServiceClient
	wallet apiconnect.WalletServiceClient
}

// maxReply bounds one message of the daemon: a result with its output.
const maxReply = 128 << 20

func newClient(dir string) *client {
	h := api.HTTPClient(dir)
	limit := connect.WithReadMaxBytes(maxReply)
	return &client{
		dir:    dir,
		nodes:  apiconnect.NewNodeServiceClient(h, api.BaseURL, limit),
		tasks:  apiconnect.NewTaskServiceClient(h, api.BaseURL, limit),
		wallet: apiconnect.NewWalletServiceClient(h, api.BaseURL, limit),
	}
}

// daemon connects to the running daemon or says that there is none.
func (a *app) daemon(ctx context.Context) (*client, error) {
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	if err := answering(ctx, dir); err != nil {
		return nil, err
	}
	return newClient(dir), nil
}

func answering(ctx context.Context, dir string) error {
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, "unix", api.SocketPath(dir))
	switch {
	case err == nil:
		c.Close()
		return nil
	case errors.Is(err, os.ErrPermission):
		return failf(exitNoDaemon, "the daemon in %s belongs to another user; run the command as that user", dir)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return failf(exitNoDaemon, "no daemon is running in %s; start one with 'edgenetd run --dir %s'", dir, dir)
	}
	return failf(exitNoDaemon, "no daemon answers in %s (%v); start one with 'edgenetd run --dir %s'", dir, err, dir)
}

// call makes one request and gives its error an exit code.
func call[Req, Res any](ctx context.Context, method func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req) (*Res, error) {
	res, err := method(ctx, connect.NewRequest(req))
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, remote(err)
	}
	return res.Msg, nil
}
