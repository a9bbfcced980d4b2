package ledger

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Rewards in checkpoints are receivables (checkpoint, index) of accounts; they
// count as minted once the checkpoint is certified.

const (
	// maxRewards bounds those of one checkpoint, so that their list stays small.
	// Referrals come first; whoever is left out for uptime is first in turn in a
	// later epoch.
	maxRewards = 1000
	// uptimePpm of the probes must be answered.
	uptimePpm = 900_000
	// uptimeSeconds of reference CPU is what an epoch of being up is worth.
	uptimeSeconds = 1
	// A referrer gets referralPpm of the fees that the referee's payments burn
	// in its first referralEpochs, at most referralCap.
	referralPpm    = 50_000
	referralEpochs = 720
	referralCap    = 10 * uint64(proto.OneCredit)
)

type reward struct {
	to      peer.ID
	amount  uint64
	referee peer.ID // empty: for uptime
}

func (r reward) wire() *proto.Reward {
	w := &proto.Reward{Key: accountKey(r.to), Amount: r.amount}
	if r.referee != "" {
		w.Referee = accountKey(r.referee)
	}
	return w
}

func parseReward(w *proto.Reward) (r reward, err error) {
	if r.to, err = accountOfKey(w.GetKey()); err != nil {
		return r, err
	}
	if len(w.GetReferee()) > 0 {
		if r.referee, err = accountOfKey(w.Referee); err != nil {
			return r, err
		}
	}
	r.amount = w.GetAmount()
	return r, validAmount(r.amount)
}

// totalReward is their sum; false when it is beyond all supply.
func totalReward(rs []reward) (total uint64, ok bool) {
	var err error
	for _, r := range rs {
		if total, err = sum(total, r.amount); err != nil {
			return 0, false
		}
	}
	return total, true
}

// uptimeReward is what an account with the given stake gets for an epoch.
// answered has, per signed probe report of a quorum of distinct witnesses, the
// probes answered in ppm. f+1 of them must agree, so that one is honest. Like
// bonuses it is at most κ·stake, so that a thousand idle identities are worth
// no more than their stake.
func uptimeReward(net *proto.Network, staked uint64, answered []uint64) uint64 {
	if len(answered) < net.Quorum() {
		return 0
	}
	up := 0
	for _, a := range answered {
		if a >= uptimePpm {
			up++
		}
	}
	if up < net.F()+1 {
		return 0
	}
	return uptimeWorth(net, staked)
}

// uptimeWorth is what an epoch of being up is worth with the given stake.
func uptimeWorth(net *proto.Network, staked uint64) uint64 {
	return min(mulDiv(net.Genesis.BasePrice, uptimeSeconds, 60), stakeCap(net, staked))
}

// referralReward is what a referrer gets for an epoch in which the fees burned
// by a referee's payments since it opened went from before to after. Nothing
// is due when the epoch is not among the referee's first ones. Fees are at
// least as much, so referring oneself earns less than it burns.
func referralReward(opened, epoch, before, after uint64) uint64 {
	if epoch < opened || epoch-opened >= referralEpochs || after < before {
		return 0
	}
	total := func(fees uint64) uint64 { return min(referralCap, mulDiv(fees, referralPpm, 1_000_000)) }
	return total(after) - total(before)
}

// rewards are those of the checkpoint of an epoch over the state at its cut.
// They leave room for the bonuses that no checkpoint shows yet: together they
// stay below the lifetime cap.
func (l *Ledger) rewards(epoch uint64, s *state, referral []reward, probes [][]byte) ([]reward, error) {
	up, err := l.uptime(epoch, s, probes)
	if err != nil {
		return nil, err
	}
	referral, up = share(epoch, referral, up)
	all := slices.Concat(referral, up)
	f := figures{x: cpuMicrohours(l.net, s.worked), minted: s.minted}
	total, ok := totalReward(all)
	if !ok || satAdd(satAdd(s.minted, total), unseen(l.net, f)) > uint64(MintCap(l.net)) && !s.off.has(guardMintCap) {
		return nil, nil
	}
	return all, nil
}

// share picks what one checkpoint pays. Each kind has half of the places if it
// needs them, so that neither can push out the other: a thousand referees cost
// little. Of referrals the largest count, for what is left out comes never again;
// of those who were up it is everybody's turn in some epoch.
func share(epoch uint64, referral, up []reward) ([]reward, []reward) {
	ups := min(len(up), max(maxRewards/2, maxRewards-len(referral)))
	referrals := min(len(referral), maxRewards-ups)
	if ups < len(up) {
		turn := int(epoch * uint64(ups) % uint64(len(up)))
		up = slices.Concat(up[turn:], up[:turn])[:ups]
		slices.SortFunc(up, func(a, b reward) int { return cmp.Compare(a.to, b.to) })
	}
	if referrals < len(referral) {
		largest := slices.SortedStableFunc(slices.Values(referral), func(a, b reward) int { return cmp.Compare(b.amount, a.amount) })
		least := largest[referrals-1].amount
		equal := referrals // places for those that are as small as the smallest
		for _, r := range largest[:referrals] {
			if r.amount > least {
				equal--
			}
		}
		referral = slices.DeleteFunc(slices.Clone(referral), func(r reward) bool {
			if r.amount == least {
				equal--
			}
			return r.amount < least || r.amount == least && equal < 0
		})
	}
	return referral, up
}

// uptime reads the probe reports of a quorum.
func (l *Ledger) uptime(epoch uint64, s *state, probes [][]byte) ([]reward, error) {
	if len(probes) == 0 {
		return nil, nil
	}
	if len(probes) != l.net.Quorum() && !s.off.has(guardProbes) {
		return nil, proto.CodeInvalidEvent.Errorf("checkpoint %d: %d probe reports, want %d or none", epoch, len(probes), l.net.Quorum())
	}
	accounts, err := l.reportable(epoch)
	if err != nil {
		return nil, err
	}
	seen := map[peer.ID]bool{}
	saw := map[int]int{} // by account, how many witnesses
	for _, raw := range probes {
		by, list, err := probeReport(l.net, raw, epoch)
		if err != nil {
			return nil, err
		}
		up, err := decodeIndexes(list, len(accounts))
		if err != nil {
			return nil, fmt.Errorf("checkpoint %d: probe report by %s: %w", epoch, by, err)
		}
		if seen[by] {
			return nil, proto.CodeInvalidEvent.Errorf("checkpoint %d: two probe reports by %s", epoch, by)
		}
		seen[by] = true
		for _, i := range up {
			saw[i]++
		}
	}
	byKey := slices.Sorted(maps.Keys(accounts))
	var out []reward
	for _, i := range slices.Sorted(maps.Keys(saw)) {
		a := s.accounts[byKey[i]]
		if a == nil {
			continue
		}
		answered := make([]uint64, len(probes))
		for j := range saw[i] {
			answered[j] = 1_000_000
		}
		if s.off.has(guardProbes) { // one report is enough then
			answered = slices.Repeat([]uint64{1_000_000}, l.net.Quorum())
		}
		if v := uptimeReward(l.net, a.post.staked, answered); v > 0 {
			out = append(out, reward{to: byKey[i], amount: v})
		}
	}
	return out, nil
}

// reportable are the accounts that reports of an epoch can name: those at the
// frontier of the checkpoint before. Their order is that of their keys.
func (l *Ledger) reportable(epoch uint64) (map[peer.ID]uint64, error) {
	before, err := l.frontier(epoch - 1)
	if err != nil {
		return nil, err
	}
	// Not only those whose events are here: an index would be another account's.
	maps.DeleteFunc(before, func(_ peer.ID, next uint64) bool { return next == 0 })
	return before, nil
}

func probeReport(net *proto.Network, raw []byte, epoch uint64) (by peer.ID, list []byte, err error) {
	s, err := unseal(net, raw, proto.KindProbeReport, true)
	if err != nil {
		return "", nil, err
	}
	r := s.Payload.GetProbeReport()
	switch {
	case !net.IsWitness(s.Signer):
		return "", nil, proto.CodeNotWitness.Errorf("probe report by %s, who is no witness", s.Signer)
	case r.Epoch != epoch || hasUnknown(s.Payload):
		return "", nil, proto.CodeInvalidEvent.Errorf("probe report of epoch %d, want %d", r.Epoch, epoch)
	}
	return s.Signer, r.Up, nil
}

// MaxProbed bounds the accounts that a probe report names, so that those of a
// quorum fit into a checkpoint however many accounts there are.
const MaxProbed = 4096

// encodeIndexes writes ascending numbers as varints, each how many it skips
// after the one before.
func encodeIndexes(list []int) (out []byte) {
	next := 0
	for _, i := range list {
		out = binary.AppendUvarint(out, uint64(i-next))
		next = i + 1
	}
	return out
}

// decodeIndexes is the inverse of encodeIndexes: at most MaxProbed numbers
// below end, in the one form that encodes them.
func decodeIndexes(raw []byte, end int) (list []int, err error) {
	next := 0
	for len(raw) > 0 {
		skip, n := binary.Uvarint(raw)
		switch {
		case n <= 0 || n > 1 && raw[n-1] == 0:
			return nil, proto.CodeMalformed.Errorf("damaged list of accounts")
		case len(list) == MaxProbed:
			return nil, proto.CodeTooLarge.Errorf("more than %d accounts", MaxProbed)
		case skip >= uint64(end-next):
			return nil, proto.CodeInvalidEvent.Errorf("an account that is not: there are %d", end)
		}
		raw, next = raw[n:], next+int(skip)+1
		list = append(list, next-1)
	}
	return list, nil
}

// Probed is the epoch that probe reports are wanted for, which is the one after
// the newest checkpoint's, and the accounts to probe: those that would earn
// something for being up, the largest stake first, then by key. They are at
// most MaxProbed: who wants another left out must stake as much as it, that
// many times.
func (l *Ledger) Probed() (epoch uint64, accounts []peer.ID, err error) {
	epoch = l.s.newest + 1
	known, err := l.reportable(epoch)
	if err != nil {
		return epoch, nil, err
	}
	staked := func(id peer.ID) uint64 { return l.s.accounts[id].post.staked }
	for _, id := range l.s.order {
		if _, ok := known[id]; ok && uptimeWorth(l.net, staked(id)) > 0 {
			accounts = append(accounts, id)
		}
	}
	slices.SortStableFunc(accounts, func(a, b peer.ID) int { return cmp.Compare(staked(b), staked(a)) })
	return epoch, accounts[:min(len(accounts), MaxProbed)], nil
}

// DraftProbes makes a witness's report for the epoch of Probed, to be signed
// by it as Payload_ProbeReport and handed to every witness: up are the
// accounts that answered at least 90 % of its probes. Those that no report can
// name are left out; more than MaxProbed are an error.
func (l *Ledger) DraftProbes(up []peer.ID) (*proto.ProbeReport, error) {
	epoch := l.s.newest + 1
	accounts, err := l.reportable(epoch)
	if err != nil {
		return nil, err
	}
	byKey := slices.Sorted(maps.Keys(accounts))
	var list []int
	for _, id := range up {
		if i, ok := slices.BinarySearch(byKey, id); ok {
			list = append(list, i)
		}
	}
	slices.Sort(list)
	if list = slices.Compact(list); len(list) > MaxProbed {
		return nil, proto.CodeTooLarge.Errorf("probe report on %d accounts, at most %d", len(list), MaxProbed)
	}
	return &proto.ProbeReport{Epoch: epoch, Up: encodeIndexes(list)}, nil
}

// KeepProbes keeps a witness's report for the next checkpoint that is drafted
// here. They are kept in memory: a report is worth one epoch's reward.
func (l *Ledger) KeepProbes(raw []byte) error {
	by, list, err := probeReport(l.net, raw, l.s.newest+1)
	if err != nil {
		return err
	}
	accounts, err := l.reportable(l.s.newest + 1)
	if err != nil {
		return err
	}
	if _, err := decodeIndexes(list, len(accounts)); err != nil { // no checkpoint could have it
		return fmt.Errorf("probe report by %s: %w", by, err)
	}
	if l.probes == nil || l.probesFor != l.s.newest+1 {
		l.probes, l.probesFor = map[peer.ID][]byte{}, l.s.newest+1
	}
	l.probes[by] = slices.Clone(raw)
	return nil
}

// quorumOfProbes is what a draft attaches: reports of a quorum, or none.
func (l *Ledger) quorumOfProbes(epoch uint64) [][]byte {
	var out [][]byte
	for _, w := range l.net.Witnesses {
		if raw := l.probes[w]; raw != nil && l.probesFor == epoch && len(out) < l.net.Quorum() {
			out = append(out, raw)
		}
	}
	if len(out) < l.net.Quorum() {
		return nil
	}
	return out
}

// grant puts a certified checkpoint's rewards into the state, once.
func (s *state) grant(h *CheckpointHeader) {
	if h == nil || h.changes == nil || s.rewarded[h.hash] {
		return
	}
	if s.rewarded == nil {
		s.rewarded = map[proto.Hash]bool{}
	}
	s.rewarded[h.hash] = true
	for i, r := range h.rewards {
		p := point{h.hash, uint32(i)}
		s.points[p] = receivable{to: r.to, from: r.referee, amount: r.amount}
		if s.inbox[r.to] == nil {
			s.inbox[r.to] = map[point]bool{}
		}
		s.inbox[r.to][p] = true
		a := account{id: r.to}
		if old := s.accounts[r.to]; old != nil {
			a = *old
		}
		a.receivable += r.amount
		s.accounts[r.to] = &a
		s.minted += r.amount
	}
}

// grants puts in the rewards of the checkpoints from the base up to, not
// including, epoch: what the state at that epoch's cut has.
func (l *Ledger) grants(s *state, epoch uint64) {
	for e := max(1, l.base); e < epoch; e++ {
		s.grant(l.checkpoints[e])
	}
}

// Reward is something that was minted for an account.
type Reward struct {
	Kind    string // "bonus", "uptime" or "referral"
	Epoch   uint64
	Amount  proto.Credit
	Referee peer.ID // of a referral: whose fees it is a share of
	Claimed bool    // by a Receive of the account
}

// Rewards lists what was minted for an account, newest first: for being up and
// for referrals as far as checkpoints are kept here, and bonuses on work as
// far as the account's events are.
func (l *Ledger) Rewards(id peer.ID) []Reward {
	var out []Reward
	for e, h := range l.checkpoints {
		for i, r := range h.rewards {
			if r.to != id {
				continue
			}
			x := Reward{Kind: "uptime", Epoch: e, Amount: proto.Credit(r.amount), Referee: r.referee}
			if r.referee != "" {
				x.Kind = "referral"
			}
			_, open := l.s.points[point{h.hash, uint32(i)}]
			x.Claimed = !open
			out = append(out, x)
		}
	}
	if a := l.s.accounts[id]; a != nil {
		for _, c := range a.chain {
			if b := c.Bonus(); b > 0 {
				out = append(out, Reward{Kind: "bonus", Epoch: c.Event.Epoch, Amount: b, Claimed: true})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Reward) int {
		return cmp.Or(cmp.Compare(b.Epoch, a.Epoch), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Referee, b.Referee))
	})
	return out
}

// Probes makes and signs this witness's report for the epoch of Probed, keeps
// it and has it sent to the other witnesses. Call it shortly before the epoch
// ends, and again when a report may have been lost: the newest one counts.
func (w *Witness) Probes(up []peer.ID) ([]Output, error) {
	r, err := w.l.DraftProbes(up)
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	raw, err := w.cfg.Sign(&proto.Payload{Body: &proto.Payload_ProbeReport{ProbeReport: r}})
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	if err := w.l.KeepProbes(raw); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	if len(w.rest) == 0 {
		return nil, nil
	}
	return []Output{Send{w.rest, &proto.VoteFrame{Body: &proto.VoteFrame_ProbeReport{ProbeReport: raw}}}}, nil
}

// probes takes a witness's report from that witness: others could bring an
// older one after a newer.
func (s *step) probes(raw []byte) error {
	if sg, err := openUnchecked(raw, proto.KindProbeReport); err != nil || sg.Signer != s.from {
		return cmp.Or(err, proto.CodeNotWitness.Errorf("a probe report that %s did not make", s.from))
	}
	return s.w.l.KeepProbes(raw)
}
