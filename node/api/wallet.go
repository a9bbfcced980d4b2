//go:build !js

package api

import (
	"context"
	"crypto/ed25519"
	"path/filepath"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

type walletServer struct{ *server }

// Bounds of what one call of the wallet service returns.
const (
	maxHistory = 10_000 // entries
	maxScan    = 1 << 20
)

// account resolves the account a request names; empty is the node's own.
func (s walletServer) account(text string) (peer.ID, error) {
	if text == "" {
		return s.node.ID(), nil
	}
	id, err := parsePeer(text)
	if err == nil && id != s.node.ID() && s.node.Light() {
		err = proto.CodeNotFound.Errorf("this node keeps its own account only (ledger.mode is own) and knows nothing of %s; ask a node that follows the whole ledger", id)
	}
	return id, err
}

// whole refuses what takes the whole ledger.
func (s walletServer) whole(what string) error {
	if !s.node.Light() {
		return nil
	}
	return proto.CodeMalformed.Errorf("this node keeps its own account only (ledger.mode is own), so there is no %s; run the command at a node that follows the whole ledger", what)
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

		UnbondEpoch: a.Unbonded, Epoch: s.node.Epoch(), EpochSeconds: s.node.Network().Genesis.EpochSeconds,
		Frozen: a.Frozen, Offences: uint64(a.Offences), Waiting: s.waiting(id),
	}
	if a.Opened {
		reply.Seq = a.Seq + 1 // events in the chain, the first has number 0
	}
	return reply
}

func (s walletServer) waiting(id peer.ID) *api.Waiting {
	w, ok := s.node.Waiting(id)
	if !ok {
		return nil
	}
	out := &api.Waiting{Event: w.ID.String(), Seq: w.Seq, Kind: w.Kind, Amount: w.Change, Memo: w.Event.GetTransfer().GetMemo()}
	if w.Counterparty != "" {
		out.Counterparty = w.Counterparty.String()
	}
	return out
}

// patience bounds ctx by what a request says it waits for the witnesses.
func patience(ctx context.Context, waitMs uint64) (context.Context, context.CancelFunc) {
	if waitMs == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, proto.Millis(waitMs))
}

// awaited turns the end of ctx, the caller still there, into the error that
// says so. signed tells whether the caller's own event was signed meanwhile.
func awaited(ctx, caller context.Context, err error, signed bool) error {
	if ctx.Err() == nil || caller.Err() != nil {
		return err
	}
	if signed {
		return proto.CodeTimeout.Errorf("it is signed, and too few witnesses answered to make it final; the daemon goes on asking them, so do not do it again: 'edgenetd wallet balance' shows when it is final")
	}
	return proto.CodeTimeout.Errorf("too few witnesses answered; nothing new was signed, try again when they can be reached (%v)", err)
}

func (s walletServer) Stake(ctx context.Context, req *connect.Request[api.StakeRequest]) (*connect.Response[api.BalanceReply], error) {
	amount := proto.Credit(req.Msg.Amount)
	if amount == 0 {
		return nil, failure(proto.CodeMalformed.Errorf("an amount of 0 moves nothing"))
	}
	account, err := s.account(req.Msg.Account)
	if err != nil {
		return nil, failure(err)
	}
	own := account == s.node.ID()
	before, _ := s.node.Waiting(account)
	wait, cancel := patience(ctx, req.Msg.WaitMs)
	defer cancel()
	kind := ""
	switch verb := req.Msg.Verb; {
	case verb == api.StakeRequest_VERB_STAKE && own:
		kind, err = "stake", s.node.Stake(wait, amount)
	case verb == api.StakeRequest_VERB_UNSTAKE && own:
		kind, err = "unstake", s.node.Unstake(wait, amount)
	case verb == api.StakeRequest_VERB_WITHDRAW && own:
		kind, err = "withdraw", s.node.Withdraw(wait, amount)
	case verb == api.StakeRequest_VERB_UNSTAKE:
		kind, err = "unstake", s.node.UnstakeFrom(wait, account, amount)
	case verb == api.StakeRequest_VERB_WITHDRAW:
		kind, err = "withdraw", s.node.WithdrawFrom(wait, account, amount)
	default:
		err = proto.CodeMalformed.Errorf("%s: want stake, unstake or withdraw, of another account the last two", verb)
	}
	if err != nil {
		w, ok := s.node.Waiting(account)
		return nil, failure(awaited(wait, ctx, err, ok && w.Kind == kind && w.ID != before.ID))
	}
	return connect.NewResponse(s.balance(account)), nil
}

func (s walletServer) Transfer(ctx context.Context, req *connect.Request[api.TransferRequest]) (*connect.Response[api.TransferReply], error) {
	to, err := parsePeer(req.Msg.To)
	if err != nil {
		return nil, failure(err)
	}
	if len(req.Msg.Memo) > 140 {
		return nil, failure(proto.CodeTooLarge.Errorf("memo of %d bytes, at most 140", len(req.Msg.Memo)))
	}
	if least := proto.Credit(s.node.Network().Genesis.MinTransfer); proto.Credit(req.Msg.Amount) < least {
		return nil, failure(proto.CodeMalformed.Errorf("a transfer of %s credits is less than this network's least, %s", proto.Credit(req.Msg.Amount), least))
	}
	account, err := s.account(req.Msg.Account)
	if err != nil {
		return nil, failure(err)
	}
	before, _ := s.node.Waiting(account)
	wait, cancel := patience(ctx, req.Msg.WaitMs)
	defer cancel()
	var event cid.Cid
	if account == s.node.ID() {
		event, err = s.node.Transfer(wait, to, proto.Credit(req.Msg.Amount), req.Msg.Memo)
	} else {
		event, err = s.node.TransferFrom(wait, account, to, proto.Credit(req.Msg.Amount), req.Msg.Memo)
	}
	if err != nil {
		w, ok := s.node.Waiting(account)
		t := w.Event.GetTransfer()
		ok = ok && w.ID != before.ID && peer.ID(t.GetTo()) == to && t.GetAmount() == req.Msg.Amount && t.GetMemo() == req.Msg.Memo
		if ok && wait.Err() != nil && ctx.Err() == nil {
			return connect.NewResponse(&api.TransferReply{
				Event: w.ID.String(), Available: uint64(s.node.Account(account).Avail), Waiting: true,
			}), nil
		}
		return nil, failure(awaited(wait, ctx, err, ok))
	}
	return connect.NewResponse(&api.TransferReply{
		Event: event.String(), Available: uint64(s.node.Account(account).Avail),
	}), nil
}

func (s walletServer) History(_ context.Context, req *connect.Request[api.HistoryRequest]) (*connect.Response[api.HistoryReply], error) {
	m := req.Msg
	id, err := s.account(m.Account)
	if err != nil {
		return nil, failure(err)
	}
	var with peer.ID
	if m.Counterparty != "" {
		if with, err = parsePeer(m.Counterparty); err != nil {
			return nil, failure(err)
		}
	}
	limit := int(min(m.Limit, maxHistory))
	if limit == 0 {
		limit = maxHistory
	}
	reply := new(api.HistoryReply)
	for _, e := range s.node.History(id, maxScan) { // newest first
		if e.Seq < m.SinceSeq || len(reply.Entries) == limit {
			break
		}
		if len(m.Kinds) > 0 && !slices.ContainsFunc(m.Kinds, func(k string) bool { return strings.EqualFold(k, e.Kind) }) {
			continue
		}
		if with != "" && e.Counterparty != with {
			continue
		}
		reply.Entries = append(reply.Entries, s.historyEntry(e))
	}
	return connect.NewResponse(reply), nil
}

func (s walletServer) historyEntry(h node.HistoryEntry) *api.HistoryEntry {
	e := &api.HistoryEntry{
		Event:      h.ID.String(),
		Seq:        h.Seq,
		Kind:       h.Kind,
		Available:  h.Event.GetPost().GetAvail(),
		Amount:     h.Change,
		Memo:       h.Memo(),
		TimeUnixMs: h.Event.GetAuthorTimeUnixMs(),
		Held:       h.Held,
		Bonus:      uint64(h.Bonus()),
		Epoch:      h.Event.GetEpoch(),
	}
	e.Staked, e.Unbonding = s.node.StakeChange(h.Certified)
	for _, w := range h.Witnesses() {
		e.Witnesses = append(e.Witnesses, w.String())
	}
	for _, p := range h.Payments {
		from := ""
		if p.From != "" {
			from = p.From.String()
		}
		e.Payments = append(e.Payments, &api.Payment{From: from, Kind: p.Kind, Amount: uint64(p.Amount + p.Bonus), Memo: p.Memo})
	}
	if h.Counterparty != "" {
		e.Counterparty = h.Counterparty.String()
	}
	return e
}

func (s walletServer) Rewards(_ context.Context, req *connect.Request[api.RewardsRequest]) (*connect.Response[api.RewardsReply], error) {
	id, err := s.account(req.Msg.Account)
	if err != nil {
		return nil, failure(err)
	}
	limit := int(min(req.Msg.Limit, maxHistory))
	if limit == 0 {
		limit = maxHistory
	}
	reply := &api.RewardsReply{Totals: map[string]uint64{}}
	for _, r := range s.node.Rewards(id) {
		if len(reply.Rewards) == limit {
			break
		}
		w := &api.Reward{
			Kind: r.Kind, Amount: uint64(r.Amount), Claimed: r.Claimed, Epoch: r.Epoch, Index: r.Index, Paid: uint64(r.Paid),
			RatePpm: r.Rate, Limit: string(r.Limit), Reason: r.Reason,
		}
		if r.Event != nil {
			w.Event, w.Seq, w.Source = r.Event.ID.String(), r.Event.Seq, r.Source.String()
		}
		if r.From != "" {
			w.From = r.From.String()
		}
		reply.Rewards = append(reply.Rewards, w)
		reply.Totals[r.Kind] += uint64(r.Amount)
	}
	return connect.NewResponse(reply), nil
}

func (s walletServer) Audit(context.Context, *connect.Request[api.AuditRequest]) (*connect.Response[api.AuditReply], error) {
	if err := s.whole("ledger to audit"); err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(AuditOf(s.node.Books())), nil
}

// AuditOf is the wire form of a ledger's books.
func AuditOf(b node.Books) *api.AuditReply {
	return &api.AuditReply{
		Available:   uint64(b.Avail),
		Held:        uint64(b.Held),
		HeldByHolds: uint64(b.HeldByHolds),
		Staked:      uint64(b.Staked),
		Unbonding:   uint64(b.Unbonding),
		Receivable:  uint64(b.Receivable),
		Burned:      uint64(b.Burned),
		Genesis:     uint64(b.Genesis),
		Minted:      uint64(b.Minted),
		Conserved:   b.Conserved(),
		StateHash:   b.StateHash.String(),
		Events:      uint64(b.Events),
		Accounts:    uint64(b.Accounts),
		Kinds:       b.Kinds,
		Epoch:       b.Epoch,
		BaseEpoch:   b.Base,
		Pending:     uint64(b.Pending),
	}
}

func (s walletServer) Backup(_ context.Context, req *connect.Request[api.BackupRequest]) (*connect.Response[api.BackupReply], error) {
	if err := s.whole("ledger to back up: the witnesses have this account's events, and 'edgenetd key export' backs up its identity"); err != nil {
		return nil, failure(err)
	}
	if !filepath.IsAbs(req.Msg.Dir) {
		return nil, failure(proto.CodeMalformed.Errorf("backup: %q is no absolute path", req.Msg.Dir))
	}
	if err := s.node.Backup(req.Msg.Dir); err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(new(api.BackupReply)), nil
}

func (s walletServer) Keys(_ context.Context, req *connect.Request[api.KeysRequest]) (*connect.Response[api.KeysReply], error) {
	id, err := s.account(req.Msg.Account)
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(s.keys(id)), nil
}

func (s walletServer) keys(id peer.ID) *api.KeysReply {
	a := s.node.Account(id)
	r := &api.KeysReply{
		Account: id.String(), Key: id.String(), PendingEpoch: a.PendingFrom, Frozen: a.Frozen,
		Epoch: s.node.Epoch(), EpochSeconds: s.node.Network().Genesis.EpochSeconds,
	}
	key := id
	if a.Key != "" {
		key = a.Key
	}
	r.Key, r.CanSign = key.String(), s.node.HasKey(key)
	if a.PendingKey != "" {
		r.PendingKey, r.CanSignPending = a.PendingKey.String(), s.node.HasKey(a.PendingKey)
	}
	if a.Recovery != "" {
		r.RecoveryKey = a.Recovery.String()
	}
	return r
}

func (s walletServer) Rotate(ctx context.Context, req *connect.Request[api.RotateRequest]) (*connect.Response[api.KeysReply], error) {
	m := req.Msg
	id, err := s.account(m.Account)
	if err != nil {
		return nil, failure(err)
	}
	var r node.Rotation
	for _, x := range []struct {
		text string
		to   *peer.ID
	}{{m.Key, &r.Key}, {m.RecoveryKey, &r.RecoveryKey}} {
		if x.text == "" {
			continue
		}
		if *x.to, err = parsePeer(x.text); err != nil {
			return nil, failure(err)
		}
	}
	if len(m.RecoverySeed) > 0 {
		if len(m.RecoverySeed) != ed25519.SeedSize {
			return nil, failure(proto.CodeMalformed.Errorf("a recovery key's seed has %d bytes, not %d", ed25519.SeedSize, len(m.RecoverySeed)))
		}
		if r.Recovery, err = crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(m.RecoverySeed)); err != nil {
			return nil, failure(err)
		}
	}
	before, _ := s.node.Waiting(id)
	wait, cancel := patience(ctx, m.WaitMs)
	defer cancel()
	if err := s.node.Rotate(wait, id, r); err != nil {
		w, ok := s.node.Waiting(id)
		return nil, failure(awaited(wait, ctx, err, ok && w.Kind == "rotate" && w.ID != before.ID))
	}
	return connect.NewResponse(s.keys(id)), nil
}
