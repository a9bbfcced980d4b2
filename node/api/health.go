//go:build !js

package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox"
)

// isolationWait is how long a thorough look waits for a slot of the sandbox.
const isolationWait = 5 * time.Second

func (s *server) Health(ctx context.Context, req *connect.Request[api.HealthRequest]) (*connect.Response[api.HealthReply], error) {
	h, err := s.node.Health(ctx)
	if err != nil {
		return nil, failure(err)
	}
	l := s.node.Ledger()
	reply := &api.HealthReply{
		Reasons: h.Reasons, Quorum: uint32(h.Quorum), Reachable: uint32(h.Reachable()), Synced: h.Synced, Epoch: h.Epoch,
		CheckpointAgeMs: uint64(h.CheckpointAge.Milliseconds()), Reachability: s.node.Reachability(), Frozen: l.Account.Frozen,
	}
	for _, w := range h.Witnesses {
		m := &api.WitnessHealth{Id: w.ID.String(), Reachable: w.Reachable, RttUs: uint64(max(0, w.RTT.Microseconds()))}
		if w.Err != nil {
			m.Error = proto.Clip(w.Err.Error(), 512)
		}
		reply.Witnesses = append(reply.Witnesses, m)
	}
	clocks := h.Clocks
	if req.Msg.Thorough {
		clocks = append(clocks[:len(clocks):len(clocks)], s.node.PeerClocks(ctx)...)
		s.isolation(ctx, reply)
	}
	for _, c := range clocks {
		reply.ClockOffsetsUs = append(reply.ClockOffsetsUs, c.Microseconds())
	}
	return connect.NewResponse(reply), nil
}

// isolation says what holds the sandbox's children. When every slot is taken it
// is what the newest child said at its start.
func (s *server) isolation(ctx context.Context, reply *api.HealthReply) {
	ex := s.node.Executor()
	if ex == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, isolationWait)
	defer cancel()
	i, err := sandbox.IsolationOf(ctx, ex)
	if errors.Is(err, context.DeadlineExceeded) {
		if stats, ok := sandbox.StatsOf(ex); ok && len(stats.Isolation.InForce) > 0 {
			i, err = stats.Isolation, nil
		}
	}
	if err != nil {
		reply.SandboxError = proto.Clip(err.Error(), 512)
		return
	}
	reply.ConfinedBy, reply.Unconfined = i.InForce, i.Missing
	for _, a := range i.Attempts {
		if !a.Refused {
			reply.Unconfined = append(reply.Unconfined, fmt.Sprintf("a child could %s (%s)", a.What, a.Result))
		}
	}
}

func (s *server) Ping(ctx context.Context, req *connect.Request[api.PingRequest]) (*connect.Response[api.PingReply], error) {
	to, err := parseTarget(req.Msg.Peer)
	if err != nil {
		return nil, failure(err)
	}
	pong, err := s.node.Ping(ctx, to)
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(&api.PingReply{
		Id: to.ID.String(), RttUs: uint64(max(0, pong.RTT.Microseconds())), Address: pong.Address, Relayed: pong.Relayed,
	}), nil
}

// parseTarget reads a peer id, or a multiaddr that ends in one.
func parseTarget(text string) (peer.AddrInfo, error) {
	if !strings.HasPrefix(text, "/") {
		id, err := parsePeer(text)
		return peer.AddrInfo{ID: id}, err
	}
	if len(text) > 1024 {
		return peer.AddrInfo{}, proto.CodeMalformed.Errorf("address of %d characters", len(text))
	}
	info, err := peer.AddrInfoFromString(text)
	if err != nil {
		return peer.AddrInfo{}, proto.CodeMalformed.Errorf("address %q: want a multiaddr that ends in /p2p/ and a peer id", text)
	}
	if _, err := parsePeer(info.ID.String()); err != nil {
		return peer.AddrInfo{}, err
	}
	return *info, nil
}

func (s *server) Settings(context.Context, *connect.Request[api.SettingsRequest]) (*connect.Response[api.SettingsReply], error) {
	return connect.NewResponse(&api.SettingsReply{Settings: s.settings}), nil
}
