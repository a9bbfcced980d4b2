package ledger

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Guards by name, for tests that switch a countermeasure off.
var guards = map[string]guard{
	"timer": guardTimer, "delay": guardDelay, "signer": guardSigner, "freeze": guardFreeze, "slash once": guardSlashOnce,
	"old key": guardOldKey, "skip": guardSkip, "lists": guardLists, "claim votes": guardClaimVotes, "epoch": guardEpoch,
	"bonus stake": guardBonusStake, "bonus work": guardBonusWork, "mint cap": guardMintCap, "recovery cost": guardRecoveryCost,
	"bonus reset": guardBonusReset, "pump": guardPump, "probes": guardProbes, "place": guardPlace, "assigned": guardAssigned, "final": guardFinal,
	"wrong votes": guardWrongVotes, "wrong once": guardWrongOnce, "wrong signer": guardWrongSigner,
}

// SwitchOff switches countermeasures of one ledger off.
func (l *Ledger) SwitchOff(names ...string) {
	for _, n := range names {
		g, ok := guards[n]
		if !ok {
			panic("no countermeasure " + n)
		}
		l.s.off |= g
	}
}

// Learn is what a certified checkpoint does to the rules.
func (l *Ledger) Learn(epoch, x, minted uint64) ([]*Certified, error) {
	l.s.figures[epoch] = figures{x, minted}
	l.s.newest = max(l.s.newest, epoch)
	return l.retry(epochNeed(epoch))
}

// X is the work that earned a bonus so far, in CPU-microhours.
func (l *Ledger) X() uint64 { return cpuMicrohours(l.net, l.s.worked) }

func ExpTables() (whole, fine, finest []uint64) { return expWhole[:], expFine[:], expFinest[:] }

func ExpNeg(u uint64) uint64 { return expNeg(u) }

func UptimeReward(net *proto.Network, staked uint64, answered []uint64) uint64 {
	return uptimeReward(net, staked, answered)
}

func EncodeIndexes(list []int) []byte { return encodeIndexes(list) }

func DecodeIndexes(raw []byte, end int) ([]int, error) { return decodeIndexes(raw, end) }

// MaxChangesSize is how many bytes the changes of a checkpoint may have.
const MaxChangesSize = maxChangesSize

// Crowd puts n accounts with the least keys at the newest checkpoint's frontier.
// Their events are not here; with a stake their state is, and the totals are wrong.
func (l *Ledger) Crowd(n int, staked uint64) {
	h := l.checkpoints[l.s.newest]
	var ids []peer.ID
	for i := range n {
		id := peer.ID(idPrefix + string(binary.BigEndian.AppendUint32(make([]byte, 4), uint32(i))) + string(make([]byte, keyLen-8)))
		h.changes = append(h.changes, change{id, 0})
		if staked > 0 {
			l.s.accounts[id] = &account{id: id, post: post{staked: staked}}
			ids = append(ids, id)
		}
	}
	l.s.order = append(ids, l.s.order...)
}

func (l *Ledger) DraftExpired(account peer.ID, raw []byte) (*proto.Event, error) {
	return l.draftExpired(account, raw)
}

// Share picks what a checkpoint pays: indexes into amounts of referrals and of
// accounts that were up.
func Share(epoch uint64, referral, up []uint64) (refs, ups []int) {
	list := func(amounts []uint64) (out []reward) {
		for i, v := range amounts {
			out = append(out, reward{to: peer.ID(fmt.Sprintf("%06d", i)), amount: v})
		}
		return out
	}
	places := func(rs []reward) (out []int) {
		for _, r := range rs {
			i, err := strconv.Atoi(string(r.to))
			if err != nil {
				panic(err)
			}
			out = append(out, i)
		}
		return out
	}
	a, b := share(epoch, list(referral), list(up))
	return places(a), places(b)
}

func ReferralReward(opened, epoch, before, after uint64) uint64 {
	return referralReward(opened, epoch, before, after)
}

// Paid is one lane's payment for Reputation.Next.
type Paid struct {
	Payer, Worker peer.ID
	Eligible      uint64
	Staked        bool
}

func (r Reputation) Next(net *proto.Network, account peer.ID, epoch uint64, done []Paid, wrong uint64) Reputation {
	var ws []work
	for _, p := range done {
		ws = append(ws, work{p.Payer, p.Worker, p.Eligible, p.Staked})
	}
	return r.next(net, account, epoch, ws, wrong)
}

// ScoreWithout is Score without the part that a new account must earn first.
func (r Reputation) ScoreWithout() uint64 { return r.score(0) }

func KindName(ev *proto.Event) string { return kindName(ev) }
