//go:build !js

package api

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"edgenet.dev/node/blocklist"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

func (s *server) Block(ctx context.Context, req *connect.Request[api.BlockRequest]) (*connect.Response[api.BlockReply], error) {
	e, err := entryOf(req.Msg, time.Now())
	if err != nil {
		return nil, failure(err)
	}
	replaced, notes, err := s.node.Block(ctx, e, req.Msg.Force)
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(&api.BlockReply{Entry: blockedMessage(e), Replaced: replaced, Notes: notes}), nil
}

// entryOf is the entry that a request asks for now.
func entryOf(m *api.BlockRequest, now time.Time) (blocklist.Entry, error) {
	e, err := blocklist.New(blocklist.Kind(m.Kind), m.Value)
	if err != nil {
		return e, err
	}
	e.Since, e.Reason = now.Truncate(time.Second), m.Reason
	if m.ForMs > 0 {
		e.Until = now.Add(proto.Millis(m.ForMs))
	}
	return e, nil
}

func blockedMessage(e blocklist.Entry) *api.Blocked {
	m := &api.Blocked{Kind: string(e.Kind), Value: e.Value, Reason: e.Reason}
	if !e.Since.IsZero() {
		m.SinceUnixMs = uint64(e.Since.UnixMilli())
	}
	if !e.Until.IsZero() {
		m.UntilUnixMs = uint64(e.Until.UnixMilli())
	}
	return m
}

func (s *server) Unblock(ctx context.Context, req *connect.Request[api.UnblockRequest]) (*connect.Response[api.UnblockReply], error) {
	e, err := s.node.Unblock(ctx, blocklist.Kind(req.Msg.Kind), req.Msg.Value)
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(&api.UnblockReply{Entry: blockedMessage(e)}), nil
}

func (s *server) Blocks(context.Context, *connect.Request[api.BlocksRequest]) (*connect.Response[api.BlocksReply], error) {
	entries, problem := s.node.Blocks()
	reply := &api.BlocksReply{Problem: problem}
	for _, e := range entries {
		reply.Entries = append(reply.Entries, blockedMessage(e))
	}
	return connect.NewResponse(reply), nil
}
