//go:build !js

package api

import (
	"context"

	"connectrpc.com/connect"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

// mending makes every text in a reply fit for protobuf. What peers and programs
// said of themselves, an agent or the address of a name, may be any bytes, and
// one of them must not keep a whole list from being read.
type mending struct{}

func (mending) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		if err == nil {
			if m, ok := res.Any().(goproto.Message); ok {
				proto.Mend(m)
			}
		}
		return res, err
	}
}

func (mending) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (mending) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, c connect.StreamingHandlerConn) error { return next(ctx, mendingConn{c}) }
}

type mendingConn struct{ connect.StreamingHandlerConn }

func (c mendingConn) Send(m any) error {
	if m, ok := m.(goproto.Message); ok {
		proto.Mend(m)
	}
	return c.StreamingHandlerConn.Send(m)
}
