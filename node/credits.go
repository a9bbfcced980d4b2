package node

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// The credits topic: what the witnesses certified, and evidence of misconduct.
// Each element has one witness that publishes it first; the others follow, one
// after the other, as long as gossip did not bring it back to them, and at the
// very last the author.

// Bounds of one message of the topic.
const (
	maxGossipEvents      = 64
	maxGossipCheckpoints = 4
	maxGossipEvidence    = 8
	// Longer changes of a checkpoint are left for reconciliation.
	maxGossipChanges = 16 << 10
)

const (
	creditsFlush = 100 * time.Millisecond // between two messages; decisions.md: an event within 200 ms
	creditsTurn  = 300 * time.Millisecond // until the next witness publishes
)

// certifiedItem is an element that waits to be published.
type certifiedItem struct {
	hash proto.Hash
	at   time.Time
	// One of them:
	event      *proto.CertifiedEvent
	checkpoint *proto.CertifiedCheckpoint
	evidence   []byte
}

func (x certifiedItem) size() int {
	switch {
	case x.event != nil:
		return goproto.Size(x.event) + 4
	case x.checkpoint != nil:
		return goproto.Size(x.checkpoint) + 4
	}
	return len(x.evidence) + 4
}

// turn is how long self waits for others to publish an element. Who is no
// witness has the last turn: it publishes nothing unless all of them are gone.
func turn(witnesses []peer.ID, self peer.ID, hash proto.Hash) time.Duration {
	n := len(witnesses)
	i := slices.Index(witnesses, self)
	if i < 0 {
		return time.Duration(n) * creditsTurn
	}
	first := int(binary.BigEndian.Uint64(hash[:8]) % uint64(n))
	return time.Duration((i+n-first)%n) * creditsTurn
}

func (w *wallet) turn(hash proto.Hash) time.Duration {
	return turn(w.n.net.Witnesses, w.n.self, hash)
}

func (w *wallet) publishLater(now time.Time, c *ledger.Certified) {
	if h, err := proto.CIDHash(c.ID); err == nil {
		w.certified.push(certifiedItem{hash: h, at: now.Add(w.turn(h)), event: c.Wire})
	}
}

// checkpointed publishes a checkpoint that this witness saw certified. Call
// with mu held.
func (w *wallet) checkpointed(now time.Time, wire *proto.CertifiedEvent) {
	s, err := proto.Inspect(wire.Event, proto.KindCheckpoint)
	if err != nil {
		return
	}
	wake(w.epochs)
	wake(w.moved)
	h, err := proto.CIDHash(s.ID)
	known, ok := w.l.Checkpoint(s.Payload.GetCheckpoint().GetEpoch())
	if err != nil || !ok {
		return
	}
	out := &proto.CertifiedCheckpoint{Checkpoint: known.Wire.Checkpoint, Certificate: known.Wire.Certificate}
	if len(known.Wire.Changes) <= maxGossipChanges {
		out.Changes = known.Wire.Changes
	}
	w.certified.push(certifiedItem{hash: h, at: now.Add(w.turn(h)), checkpoint: out})
}

// accuse brings evidence to all witnesses and to the credits topic. Call with
// mu held.
func (w *wallet) accuse(now time.Time, e *proto.Evidence) ([]ledger.Output, error) {
	raw, err := ledger.NewEvidence(w.n.net, e.First, e.Second)
	if err != nil { // no offence that others could check
		w.n.log.Warn("evidence", zap.Error(err))
		return nil, nil
	}
	h := proto.HashOf(raw)
	if w.n.gossip.passed.Contains(h) {
		return nil, nil
	}
	ordered := new(proto.Evidence)
	if err := goproto.Unmarshal(raw, ordered); err != nil {
		return nil, err
	}
	env, err := w.n.seal(&proto.Payload{Body: &proto.Payload_Evidence{Evidence: ordered}})
	if err != nil {
		return nil, err
	}
	w.certified.push(certifiedItem{hash: h, at: now.Add(w.turn(h)), evidence: env})
	return []ledger.Output{ledger.Send{To: w.n.net.Witnesses, Frame: evidenceFrame(env)}}, nil
}

func evidenceFrame(raw []byte) *proto.VoteFrame {
	return &proto.VoteFrame{Body: &proto.VoteFrame_Evidence{Evidence: raw}}
}

// flush is what waits for the topic.
type flush struct {
	waiting []certifiedItem
	open    time.Time // from when on the next message may go
}

// due takes what is to be published now, and tells when to look again: zero
// when there is nothing to wait for.
func (f *flush) due(now time.Time, passed func(proto.Hash) bool) (ready []certifiedItem, next time.Time) {
	if now.Before(f.open) {
		return nil, f.open
	}
	rest := f.waiting[:0]
	for _, x := range f.waiting {
		switch {
		case passed(x.hash): // somebody else was first
		case x.at.After(now):
			rest = append(rest, x)
			if next.IsZero() || x.at.Before(next) {
				next = x.at
			}
		default:
			ready = append(ready, x)
		}
	}
	clear(f.waiting[len(rest):])
	f.waiting = rest
	if len(ready) > 0 {
		f.open = now.Add(creditsFlush)
	}
	return ready, next
}

// gossipCertified publishes an event at once when the topic was quiet, and
// then in batches: a burst costs few messages.
func (w *wallet) gossipCertified(ctx context.Context) {
	var f flush
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-w.certified.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		f.waiting = append(f.waiting, w.certified.take()...)
		ready, next := f.due(time.Now(), w.n.gossip.passed.Contains)
		for len(ready) > 0 {
			batch, rest := cutBatch(ready)
			if err := w.publish(ctx, batch); err != nil && ctx.Err() == nil {
				w.n.log.Warn("gossip certified events", zap.Error(err))
			}
			ready = rest
		}
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// cutBatch takes the elements that fit one gossip message.
func cutBatch(items []certifiedItem) (batch, rest []certifiedItem) {
	size, checkpoints, evidence := 0, 0, 0
	for i, x := range items {
		size += x.size()
		if x.checkpoint != nil {
			checkpoints++
		}
		if x.evidence != nil {
			evidence++
		}
		if i > 0 && (size > proto.MaxGossip || i == maxGossipEvents || checkpoints > maxGossipCheckpoints || evidence > maxGossipEvidence) {
			return items[:i], items[i:]
		}
	}
	return items, nil
}

func (w *wallet) publish(ctx context.Context, batch []certifiedItem) error {
	m := new(proto.CertifiedEvents)
	for _, x := range batch {
		switch {
		case x.event != nil:
			m.Events = append(m.Events, x.event)
		case x.checkpoint != nil:
			m.Checkpoints = append(m.Checkpoints, x.checkpoint)
		default:
			m.Evidence = append(m.Evidence, x.evidence)
		}
		w.n.gossip.passed.Add(x.hash, struct{}{})
	}
	raw, err := goproto.Marshal(m)
	if err != nil {
		return err
	}
	return w.n.gossip.publish(ctx, w.n.net.ID.CreditsTopic(), "credits", raw)
}

// credits takes in one message of the topic and reports whether something in
// it is new to gossip here.
func (g *gossip) credits(data []byte) (fresh bool, err error) {
	var batch proto.CertifiedEvents
	if err := goproto.Unmarshal(data, &batch); err != nil {
		return false, proto.CodeMalformed.Errorf("credits: %v", err)
	}
	n := len(batch.Events) + len(batch.Checkpoints) + len(batch.Evidence)
	if n == 0 || n > maxGossipEvents || len(batch.Checkpoints) > maxGossipCheckpoints || len(batch.Evidence) > maxGossipEvidence {
		return false, proto.CodeTooLarge.Errorf("credits: %d elements, want 1 to %d", n, maxGossipEvents)
	}
	var hashes []proto.Hash
	note := func(h proto.Hash, err error) error {
		hashes = append(hashes, h)
		fresh = fresh || !g.passed.Contains(h)
		return err
	}
	for _, e := range batch.Events {
		s, err := proto.Inspect(e.GetEvent(), proto.KindEvent)
		if err != nil {
			return false, err
		}
		if err := note(proto.CIDHash(s.ID)); err != nil {
			return false, err
		}
	}
	for _, c := range batch.Checkpoints {
		s, err := proto.Inspect(c.GetCheckpoint(), proto.KindCheckpoint)
		if err != nil {
			return false, err
		}
		if err := note(proto.CIDHash(s.ID)); err != nil {
			return false, err
		}
	}
	for _, raw := range batch.Evidence {
		s, err := proto.Inspect(raw, proto.KindEvidence)
		if err != nil {
			return false, err
		}
		// The reporter's envelope says nothing: equal evidence is one element.
		e, err := goproto.MarshalOptions{Deterministic: true}.Marshal(s.Payload.GetEvidence())
		if err := note(proto.HashOf(e), err); err != nil {
			return false, err
		}
	}
	if !fresh {
		return false, nil
	}
	// Checkpoints first: events may wait for them.
	err = g.n.wallet.absorbCheckpoints(batch.Checkpoints)
	if err == nil {
		err = g.n.wallet.absorb(batch.Events)
	}
	if err == nil {
		err = g.n.wallet.absorbEvidence(batch.Evidence)
	}
	if faulty(err) {
		return false, err // the bytes are at fault
	}
	if err != nil { // our disk is: not the sender's fault, and not all is checked
		g.n.log.Error("keep certified events", zap.Error(err))
		return false, nil
	}
	for _, h := range hashes {
		g.passed.Add(h, struct{}{})
	}
	return true, nil
}

// absorbCheckpoints takes in certified checkpoints from gossip.
func (w *wallet) absorbCheckpoints(list []*proto.CertifiedCheckpoint) error {
	for _, c := range list {
		w.mu.Lock()
		fresh, err := w.l.AddCheckpoint(c)
		var gap bool
		if e := w.l.Epoch(); e > 1 && e-1 > w.l.Base() {
			_, before := w.l.Checkpoint(e - 1)
			gap = !before
		}
		w.mu.Unlock()
		if err != nil {
			return err
		}
		if fresh {
			w.newEpoch()
		}
		if gap {
			w.n.sync.soon()
		}
	}
	return nil
}

// newEpoch wakes who waits for checkpoints.
func (w *wallet) newEpoch() {
	wake(w.epochs)
	wake(w.income)
	wake(w.moved)
	if w.witness != nil {
		wake(w.due)
	}
}

// absorbEvidence checks evidence from gossip; a witness acts on it.
func (w *wallet) absorbEvidence(list [][]byte) error {
	for _, raw := range list {
		s, err := proto.Unseal(w.n.net.ID, raw, proto.KindEvidence)
		if err != nil {
			return err
		}
		body, err := goproto.MarshalOptions{Deterministic: true}.Marshal(s.Payload.GetEvidence())
		if err != nil {
			return err
		}
		offence, err := ledger.CheckEvidence(w.n.net, body)
		if err != nil {
			return err
		}
		w.n.log.Warn("evidence of two votes or events for one place", zap.Stringer("by", offence.Account), zap.Stringer("reported by", s.Signer))
		if w.witness == nil {
			continue
		}
		if err := w.heard(w.n.self, evidenceFrame(raw)); err != nil {
			return err
		}
	}
	return nil
}

// prune moves the base of the store behind the newest checkpoint whenever
// there is a new one.
func (w *wallet) prune(ctx context.Context) {
	wake(w.epochs)
	for {
		select {
		case <-w.epochs:
		case <-ctx.Done():
			return
		}
		w.mu.Lock()
		moved, err := w.l.Prune(w.n.cfg.KeepEpochs, w.keeps()...)
		w.mu.Unlock()
		switch {
		case proto.CodeOf(err) == proto.CodeMissing:
			w.n.log.Debug("nothing pruned yet", zap.Error(err))
			w.n.sync.soon()
		case err != nil:
			w.n.log.Error("prune the ledger", zap.Error(err))
		case moved:
			w.n.log.Debug("ledger pruned", zap.Uint64("base", w.base()))
		}
	}
}

// keeps are the accounts whose events stay.
func (w *wallet) keeps() []peer.ID {
	out := []peer.ID{w.n.self}
	if p := w.n.worker().Payee; p != "" && p != w.n.self {
		out = append(out, p)
	}
	return out
}

func (w *wallet) base() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.l.Base()
}
