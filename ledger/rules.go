package ledger

import (
	"fmt"
	"unicode/utf8"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Bounds of one event and of one hold.
const (
	MaxSources   = 64   // of a Receive or Open
	MaxLanes     = 64   // of a Hold or Extend
	MaxPays      = 64   // of a Settle; Done envelopes fill an event earlier, see SplitSettle
	MaxHoldLanes = 1024 // of a hold after all its Extends
	MaxExtends   = 1024 // of a hold, so that its record is bounded
	MaxMemo      = 140  // bytes
	// maxAmount bounds every amount in an event. No supply can reach it, and
	// sums of a few thousand amounts stay far from overflow.
	maxAmount = 1 << 53
	// epochLead is how far an event's epoch may be ahead of the newest
	// certified checkpoint.
	epochLead = 2
	// maxEpoch and maxSeq keep sums of epochs and seqs far from overflow.
	maxEpoch = 1 << 40
	maxSeq   = 1 << 48
	// MaxAuthorEvent is the largest payload in bytes of an event that the
	// account's owner makes. Those of witnesses carry proofs and may be as
	// large as proto.KindEvent allows.
	MaxAuthorEvent = 4 << 10
)

// validate checks what needs nothing but the event itself and returns the
// account.
func validate(ev *proto.Event) (peer.ID, error) {
	account, err := proto.ParsePeer(ev.GetAccount())
	if err != nil {
		return "", err
	}
	if ev.Post == nil {
		return "", proto.CodeMalformed.Errorf("no post state")
	}
	if ev.Seq == 0 && len(ev.Prev) != 0 {
		return "", proto.CodeInvalidEvent.Errorf("seq 0 has a prev")
	}
	if ev.Seq > 0 {
		if _, err := proto.ParseCID(ev.Prev); err != nil {
			return "", err
		}
	}
	if ev.Seq > maxSeq || ev.Epoch > maxEpoch {
		return "", proto.CodeInvalidEvent.Errorf("seq %d or epoch %d is beyond all sense", ev.Seq, ev.Epoch)
	}
	if n := len(ev.Post.Slashed); n%8 != 0 || n > 8*maxOffences {
		return "", proto.CodeInvalidEvent.Errorf("post state lists %d bytes of offences", n)
	}
	if _, ok := ev.Body.(*proto.Event_Open); !ok && ev.Seq == 0 && ev.GetVoid() == nil {
		return "", proto.CodeInvalidEvent.Errorf("%s at seq 0, where Open belongs", kindName(ev))
	}
	return account, validateBody(account, ev)
}

func validateBody(account peer.ID, ev *proto.Event) error {
	switch b := ev.Body.(type) {
	case *proto.Event_Open:
		o := b.Open
		if err := optionalPeer(o.GetRecoveryKey()); err != nil {
			return err
		}
		if err := optionalPeer(o.GetReferrer()); err != nil {
			return err
		}
		if string(o.GetReferrer()) == string(account) {
			return proto.CodeInvalidEvent.Errorf("an account cannot refer itself")
		}
		return validateSources(o.GetSources(), 0)
	case *proto.Event_Transfer:
		to, err := proto.ParsePeer(b.Transfer.GetTo())
		if err != nil {
			return err
		}
		if to == account {
			return proto.CodeInvalidEvent.Errorf("a transfer to the account itself")
		}
		if n := len(b.Transfer.Memo); n > MaxMemo || !utf8.ValidString(b.Transfer.Memo) {
			return proto.CodeInvalidEvent.Errorf("memo of %d bytes, want at most %d of UTF-8", n, MaxMemo)
		}
		return validAmount(b.Transfer.Amount)
	case *proto.Event_Receive:
		return validateSources(b.Receive.GetSources(), 1)
	case *proto.Event_Hold:
		h := b.Hold
		if _, err := proto.ToJobID(h.GetJob()); err != nil {
			return err
		}
		if h.DeadlineUnixMs == 0 {
			return proto.CodeInvalidEvent.Errorf("hold without a deadline")
		}
		if err := validAmount(h.Budget); err != nil {
			return err
		}
		return validateLanes(h.Lanes)
	case *proto.Event_Extend:
		x := b.Extend
		if _, err := proto.ParseCID(x.GetHold()); err != nil {
			return err
		}
		if x.Budget == 0 && x.DeadlineUnixMs == 0 && len(x.Lanes) == 0 {
			return proto.CodeInvalidEvent.Errorf("extend changes nothing")
		}
		if x.Budget > maxAmount {
			return validAmount(x.Budget)
		}
		return validateLanes(x.Lanes)
	case *proto.Event_Settle:
		return validateSettle(b.Settle)
	case *proto.Event_Stake:
		return validAmount(b.Stake.GetAmount())
	case *proto.Event_Unstake:
		return validAmount(b.Unstake.GetAmount())
	case *proto.Event_Withdraw:
		return validAmount(b.Withdraw.GetAmount())
	case *proto.Event_Rotate:
		return validateRotate(b.Rotate)
	case *proto.Event_Close:
		if b.Close == nil || len(b.Close.Payouts) > MaxHoldLanes {
			return proto.CodeInvalidEvent.Errorf("close with %d payouts", len(b.Close.GetPayouts()))
		}
		_, err := proto.ParseCID(b.Close.Hold)
		return err
	case *proto.Event_Slash:
		if b.Slash == nil {
			return proto.CodeInvalidEvent.Errorf("slash without evidence")
		}
		return nil
	case *proto.Event_Void:
		if b.Void == nil {
			return proto.CodeInvalidEvent.Errorf("void without a reason")
		}
		return nil
	}
	return proto.CodeInvalidEvent.Errorf("no body that this version knows")
}

func validateSettle(s *proto.Settle) error {
	if _, err := proto.ParseCID(s.GetHold()); err != nil {
		return err
	}
	if len(s.Pays) > MaxPays {
		return proto.CodeInvalidEvent.Errorf("%d payments, at most %d", len(s.Pays), MaxPays)
	}
	if len(s.Pays) == 0 && !s.Final {
		return proto.CodeInvalidEvent.Errorf("settle changes nothing")
	}
	seen := make(map[uint32]bool, len(s.Pays))
	for _, p := range s.Pays {
		if p == nil || seen[p.Lane] {
			return proto.CodeInvalidEvent.Errorf("lane %d is paid twice", p.GetLane())
		}
		seen[p.Lane] = true
		if p.Fuel > uint64(maxCumulativeFuel) {
			return proto.CodeInvalidEvent.Errorf("lane %d: fuel %d, at most %d", p.Lane, p.Fuel, maxCumulativeFuel)
		}
	}
	return nil
}

const maxCumulativeFuel = uint64(1) << 62

func validateSources(sources []*proto.Source, least int) error {
	if len(sources) < least || len(sources) > MaxSources {
		return proto.CodeInvalidEvent.Errorf("%d sources, want %d to %d", len(sources), least, MaxSources)
	}
	seen := make(map[point]bool, len(sources))
	for _, s := range sources {
		p, err := pointOf(s)
		if err != nil {
			return err
		}
		if seen[p] {
			return proto.CodeInvalidEvent.Errorf("source %s/%d is named twice", p.source.CID(), p.index)
		}
		seen[p] = true
		if s.Bonus > maxAmount {
			return validAmount(s.Bonus)
		}
		if err := validAmount(s.Amount); err != nil {
			return err
		}
	}
	return nil
}

func validateLanes(lanes []*proto.Lane) error {
	if len(lanes) > MaxLanes {
		return proto.CodeInvalidEvent.Errorf("%d lanes, at most %d", len(lanes), MaxLanes)
	}
	seen := make(map[peer.ID]bool, len(lanes))
	for _, l := range lanes {
		w, err := proto.ParsePeer(l.GetWorker())
		if err != nil {
			return err
		}
		if seen[w] {
			return proto.CodeInvalidEvent.Errorf("two lanes for %s", w)
		}
		seen[w] = true
		if err := optionalPeer(l.Payee); err != nil {
			return err
		}
		if err := validAmount(l.Cap); err != nil {
			return err
		}
	}
	return nil
}

func validAmount(v uint64) error {
	if v == 0 || v > maxAmount {
		return proto.CodeInvalidEvent.Errorf("amount of %d microcredits, want 1 to %d", v, uint64(maxAmount))
	}
	return nil
}

func optionalPeer(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := proto.ParsePeer(b)
	return err
}

func pointOf(s *proto.Source) (point, error) {
	c, err := proto.ParseCID(s.GetEvent())
	if err != nil {
		return point{}, err
	}
	h, err := proto.CIDHash(c)
	return point{h, s.Index}, err
}

// hasUnknown reports fields outside the schema. Two versions must not both
// call an event effective and disagree about what it does.
func hasUnknown(p *proto.Payload) bool {
	var walk func(m protoreflect.Message) bool
	walk = func(m protoreflect.Message) bool {
		if len(m.GetUnknown()) > 0 {
			return true
		}
		found := false
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			if f.Message() == nil {
				return true
			}
			if f.IsList() {
				for i := range v.List().Len() {
					found = found || walk(v.List().Get(i).Message())
				}
			} else {
				found = walk(v.Message())
			}
			return !found
		})
		return found
	}
	return walk(p.ProtoReflect())
}

// effect is what an event does when its prev and sources are effective.
type effect struct {
	post   post
	burned uint64
	fee    uint64  // the part of burned that is a settlement's fee
	minted uint64  // bonus
	worked uint64  // microcredits of work that the bonus was for
	claims []point // receivables of the account that it takes
	gives  []give  // receivables that it makes
	hold   *hold   // hold that it makes or changes
}

// give is a receivable to be. eligible is the part of amount that paid for
// work at the base price: what a bonus can be claimed for.
type give struct {
	index            uint32
	to               peer.ID
	amount, eligible uint64
	worker           peer.ID // of a lane
}

// delta applies the rule of the event's kind to the state before it. The
// event was validated, and its prev is the account's head. Missing sources
// give a *missingError; every other error is final.
func (t *tx) delta(account peer.ID, ev *proto.Event) (effect, error) {
	a := t.account(account)
	e := effect{post: a.post, burned: t.net.Genesis.EventCost}
	if ev.Epoch < a.epoch && !t.base.off.has(guardEpoch) {
		return e, proto.CodeInvalidEvent.Errorf("epoch %d is before %d", ev.Epoch, a.epoch)
	}
	e.post.advance(account, ev.Seq, ev.Epoch)
	if madeByWitness(ev) {
		e.burned = 0
		err := t.witnessDelta(account, ev, &e)
		return e, err
	}
	if err := t.mayAct(ev, &e.post); err != nil {
		return e, err
	}
	var spend uint64 // leaves avail, for whatever purpose
	var err error
	switch b := ev.Body.(type) {
	case *proto.Event_Open:
		e.post.flags &^= flagUnopened
		e.post.recoveryKey = string(b.Open.RecoveryKey)
		if e.burned, err = sum(e.burned, t.net.Genesis.OpeningCost); err == nil {
			err = t.claim(account, ev.Epoch, b.Open.Sources, &e)
		}
	case *proto.Event_Receive:
		err = t.claim(account, ev.Epoch, b.Receive.Sources, &e)
	case *proto.Event_Transfer:
		spend = b.Transfer.Amount
		if spend < t.net.Genesis.MinTransfer {
			err = proto.CodeInvalidEvent.Errorf("amount %s is below the least transfer of %s credits",
				proto.Credit(spend), proto.Credit(t.net.Genesis.MinTransfer))
		}
		e.gives = []give{{0, peer.ID(b.Transfer.To), spend, 0, ""}}
	case *proto.Event_Hold:
		spend = b.Hold.Budget
		e.hold, err = newHold(t.net, account, b.Hold)
		e.post.held, err = sumOr(err, e.post.held, spend)
	case *proto.Event_Extend:
		spend = b.Extend.Budget
		e.hold, err = t.extend(account, b.Extend)
		e.post.held, err = sumOr(err, e.post.held, spend)
	case *proto.Event_Settle:
		err = t.settle(account, b.Settle, &e)
	case *proto.Event_Stake:
		spend = b.Stake.Amount
		e.post.staked, err = sum(e.post.staked, spend)
	case *proto.Event_Unstake:
		err = e.unstake(b.Unstake.Amount, ev.Epoch)
	case *proto.Event_Withdraw:
		err = t.withdraw(b.Withdraw.Amount, ev.Epoch, &e)
	case *proto.Event_Rotate:
		err = t.rotate(account, ev, &e)
		if err == nil && b.Rotate.Recovery && !t.base.off.has(guardRecoveryCost) {
			e.burned = e.post.payRotate(e.burned)
			return e, nil
		}
	default:
		err = proto.CodeInvalidEvent.Errorf("%s is not supported yet", kindName(ev))
	}
	if err != nil {
		return e, err
	}
	// A settlement's fee comes from the hold, the rest from avail.
	cost := e.burned - e.fee
	need, err := sum(spend, cost)
	if err != nil {
		return e, err
	}
	if e.post.avail < need {
		return e, proto.CodeInsufficient.Errorf("need %s credits, have %s available", proto.Credit(need), proto.Credit(e.post.avail))
	}
	e.post.avail -= need
	return e, nil
}

// mayAct checks that the owner may make an event of this kind now.
func (t *tx) mayAct(ev *proto.Event, p *post) error {
	_, open := ev.Body.(*proto.Event_Open)
	switch {
	case open != (ev.Seq == 0 || p.flags&flagUnopened != 0):
		return proto.CodeInvalidEvent.Errorf("Open is an account's first event and comes once")
	case p.frozen() && !ev.GetRotate().GetRecovery() && !t.base.off.has(guardFreeze):
		return proto.CodeInvalidEvent.Errorf("the account is frozen until its recovery key makes a Rotate")
	}
	return nil
}

// witnessDelta applies what witnesses make. It costs the account nothing.
func (t *tx) witnessDelta(account peer.ID, ev *proto.Event, e *effect) error {
	unopened := ev.Seq == 0 || e.post.flags&flagUnopened != 0
	switch b := ev.Body.(type) {
	case *proto.Event_Void:
		if unopened {
			e.post.flags |= flagUnopened
		}
		return t.void(account, ev, e)
	case *proto.Event_Slash:
		if unopened {
			return proto.CodeInvalidEvent.Errorf("the account is not opened")
		}
		return t.slash(account, b.Slash, e)
	case *proto.Event_Close:
		return t.close(account, b.Close, e)
	}
	return proto.CodeInvalidEvent.Errorf("%s is not made by witnesses", kindName(ev))
}

// claim takes receivables. An unclaimed point is in the state exactly when
// its event is effective and its owner has not taken it.
func (t *tx) claim(account peer.ID, epoch uint64, sources []*proto.Source, e *effect) error {
	var lacking []proto.Hash
	b := bonus{epoch: epoch}
	for _, s := range sources {
		p, err := pointOf(s)
		if err != nil {
			return err
		}
		r, ok := t.receivable(p)
		if !ok && t.event(p.source) == nil && !t.base.rewarded[p.source] { // a pruned event's points are still there
			lacking = append(lacking, p.source)
			continue
		}
		switch {
		case !ok:
			return proto.CodeInvalidEvent.Errorf("source %s/%d does not exist or is claimed", p.source.CID(), p.index)
		case r.to != account:
			return proto.CodeInvalidEvent.Errorf("source %s/%d belongs to %s", p.source.CID(), p.index, r.to)
		case r.amount != s.Amount:
			return proto.CodeInvalidEvent.Errorf("source %s/%d holds %s credits, not %s",
				p.source.CID(), p.index, proto.Credit(r.amount), proto.Credit(s.Amount))
		}
		e.claims = append(e.claims, p)
		if e.post.avail, err = sum(e.post.avail, r.amount); err != nil {
			return err
		}
		if err := t.claimBonus(&b, s.Bonus, r.eligible, e); err != nil {
			return fmt.Errorf("bonus of source %s/%d: %w", p.source.CID(), p.index, err)
		}
	}
	if lacking != nil {
		return &missingError{lacking}
	}
	return nil
}

// sum adds amounts that stay below 2^53 in any valid state.
func sum(a, b uint64) (uint64, error) {
	if a > maxAmount || b > maxAmount-a {
		return 0, proto.CodeInvalidEvent.Errorf("amounts add up to more than 2^53 microcredits")
	}
	return a + b, nil
}

func sumOr(err error, a, b uint64) (uint64, error) {
	if err != nil {
		return 0, err
	}
	return sum(a, b)
}

// missingError names events that are not effective here yet.
type missingError struct{ ids []proto.Hash }

func (m *missingError) Error() string {
	return "event " + m.ids[0].CID().String() + " is not known here as certified"
}

// Unwrap gives the error its wire code.
func (m *missingError) Unwrap() error { return proto.CodeNotFinal.Err() }
