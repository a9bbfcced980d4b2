//go:build !js

package api

import (
	"context"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/node"
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
	return connect.NewResponse(s.balance(id)), nil
}

func (s walletServer) balance(id peer.ID) *api.BalanceReply {
	a := s.node.Account(id)
	reply := &api.BalanceReply{
		Account:    id.String(),
		Available:  uint64(a.Avail),
		Held:       uint64(a.Held),
		Staked:     uint64(a.Staked),
		Unbonding:  uint64(a.Unbonding),
		Receivable: uint64(a.Receivable),
		StateHash:  s.node.StateHash().String(),

		UnbondEpoch: a.Unbonded, Epoch: s.node.Epoch(), Frozen: a.Frozen,
	}
	if a.Opened {
		reply.Seq = a.Seq + 1 // events in the chain, the first has number 0
	}
	return reply
}

func (s walletServer) Stake(ctx context.Context, req *connect.Request[api.StakeRequest]) (*connect.Response[api.BalanceReply], error) {
	amount := proto.Credit(req.Msg.Amount)
	var err error
	switch req.Msg.Verb {
	case api.StakeRequest_VERB_STAKE:
		err = s.node.Stake(ctx, amount)
	case api.StakeRequest_VERB_UNSTAKE:
		err = s.node.Unstake(ctx, amount)
	case api.StakeRequest_VERB_WITHDRAW:
		err = s.node.Withdraw(ctx, amount)
	default:
		err = proto.CodeMalformed.Errorf("%s: want stake, unstake or withdraw", req.Msg.Verb)
	}
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(s.balance(s.node.ID())), nil
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
	reply := new(api.HistoryReply)
	for _, e := range s.node.History(id, maxHistory) {
		if kinds := req.Msg.Kinds; len(kinds) > 0 && !slices.ContainsFunc(kinds, func(k string) bool { return strings.EqualFold(k, e.Kind) }) {
			continue
		}
		if reply.Entries = append(reply.Entries, historyEntry(e)); len(reply.Entries) == limit {
			break
		}
	}
	return connect.NewResponse(reply), nil
}

func historyEntry(h node.HistoryEntry) *api.HistoryEntry {
	e := &api.HistoryEntry{
		Event:      h.ID.String(),
		Seq:        h.Seq,
		Kind:       h.Kind,
		Available:  h.Event.GetPost().GetAvail(),
		Amount:     h.Change,
		Memo:       h.Event.GetTransfer().GetMemo(),
		TimeUnixMs: h.Event.GetAuthorTimeUnixMs(),
	}
	if h.Counterparty != "" {
		e.Counterparty = h.Counterparty.String()
	}
	return e
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
		Accounts:   uint64(s.node.Accounts()),
	}), nil
}
