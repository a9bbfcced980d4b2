//go:build !js

package api

import (
	"context"

	"connectrpc.com/connect"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

type walletServer struct{ *server }

// maxHistory is the number of events that one History call returns at most.
const maxHistory = 10_000

// account resolves the account a request names; empty is the node's own.
func (s walletServer) account(text string) (peer.ID, error) {
	if text == "" {
		return s.node.ID(), nil
	}
	return parsePeer(text)
}

func (s walletServer) Balance(_ context.Context, req *connect.Request[api.BalanceRequest]) (*connect.Response[api.BalanceReply], error) {
	id, err := s.account(req.Msg.Account)
	if err != nil {
		return nil, failure(err)
	}
	a := s.node.Account(id)
	reply := &api.BalanceReply{
		Account:    id.String(),
		Available:  uint64(a.Avail),
		Held:       uint64(a.Held),
		Staked:     uint64(a.Staked),
		Unbonding:  uint64(a.Unbonding),
		Receivable: uint64(a.Receivable),
		StateHash:  s.node.StateHash().String(),
	}
	if a.Opened {
		reply.Seq = a.Seq + 1 // events in the chain, the first has number 0
	}
	return connect.NewResponse(reply), nil
}

func (s walletServer) Transfer(ctx context.Context, req *connect.Request[api.TransferRequest]) (*connect.Response[api.TransferReply], error) {
	to, err := parsePeer(req.Msg.To)
	if err != nil {
		return nil, failure(err)
	}
	if len(req.Msg.Memo) > 140 {
		return nil, failure(proto.CodeTooLarge.Errorf("memo of %d bytes, at most 140", len(req.Msg.Memo)))
	}
	event, err := s.node.Transfer(ctx, to, proto.Credit(req.Msg.Amount), req.Msg.Memo)
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(&api.TransferReply{
		Event: event.String(), Available: uint64(s.node.Account(s.node.ID()).Avail),
	}), nil
}

func (s walletServer) History(_ context.Context, req *connect.Request[api.HistoryRequest]) (*connect.Response[api.HistoryReply], error) {
	id, err := s.account(req.Msg.Account)
	if err != nil {
		return nil, failure(err)
	}
	limit := int(min(req.Msg.Limit, maxHistory))
	if limit == 0 {
		limit = maxHistory
	}
	// One event more than asked for tells what the last one changed.
	events := s.node.History(id, limit+1)
	reply := new(api.HistoryReply)
	for i, c := range events {
		if i == limit {
			break
		}
		before := uint64(s.node.Network().Grants[id])
		if i+1 < len(events) {
			before = events[i+1].Event.GetPost().GetAvail()
		}
		reply.Entries = append(reply.Entries, historyEntry(c, before))
	}
	return connect.NewResponse(reply), nil
}

func historyEntry(c *ledger.Certified, before uint64) *api.HistoryEntry {
	ev := c.Event
	e := &api.HistoryEntry{
		Event:      c.ID.String(),
		Seq:        c.Seq,
		Kind:       kindOf(ev),
		Available:  ev.GetPost().GetAvail(),
		Amount:     int64(ev.GetPost().GetAvail()) - int64(before),
		TimeUnixMs: ev.GetAuthorTimeUnixMs(),
	}
	if t := ev.GetTransfer(); t != nil {
		e.Counterparty, e.Memo = peer.ID(t.To).String(), t.Memo
	}
	return e
}

func kindOf(ev *proto.Event) string {
	switch ev.GetBody().(type) {
	case *proto.Event_Open:
		return "open"
	case *proto.Event_Transfer:
		return "transfer"
	case *proto.Event_Receive:
		return "receive"
	case *proto.Event_Hold:
		return "hold"
	case *proto.Event_Extend:
		return "extend"
	case *proto.Event_Settle:
		return "settle"
	case *proto.Event_Stake:
		return "stake"
	case *proto.Event_Unstake:
		return "unstake"
	case *proto.Event_Withdraw:
		return "withdraw"
	case *proto.Event_Rotate:
		return "rotate"
	case *proto.Event_Close:
		return "close"
	case *proto.Event_Slash:
		return "slash"
	case *proto.Event_Void:
		return "void"
	}
	return "unknown"
}

func (s walletServer) Audit(context.Context, *connect.Request[api.AuditRequest]) (*connect.Response[api.AuditReply], error) {
	a, st := s.node.Audit(), s.node.Stats()
	return connect.NewResponse(&api.AuditReply{
		Available:  uint64(a.Avail),
		Held:       uint64(a.Held),
		Staked:     uint64(a.Staked),
		Unbonding:  uint64(a.Unbonding),
		Receivable: uint64(a.Receivable),
		Burned:     uint64(a.Burned),
		Genesis:    uint64(a.Genesis),
		Minted:     uint64(a.Minted),
		Conserved:  a.Conserved(),
		StateHash:  s.node.StateHash().String(),
		Events:     uint64(st.Events),
	}), nil
}
