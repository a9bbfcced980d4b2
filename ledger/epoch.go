package ledger

import (
	"time"

	"edgenet.dev/proto"
)

// Epochs is what a witness's agreement asks about checkpoint slots, answered
// from its ledger: a Checkpoints. An epoch lasts its length from the time in
// the checkpoint before it. That time is its proposer's, and witnesses prepare
// it only near their own clocks, so that a bad proposer shifts an epoch by a
// quarter of its length and the shifts do not add up.
type Epochs struct{ l *Ledger }

// NewEpochs answers for a ledger, under the lock that guards it.
func NewEpochs(l *Ledger) *Epochs { return &Epochs{l} }

var _ Checkpoints = (*Epochs)(nil)

func (e *Epochs) length() time.Duration {
	return e.l.net.Epoch()
}

// Due implements Checkpoints. The first epoch ends at once.
func (e *Epochs) Due() (epoch uint64, at time.Time) {
	n := e.l.s.newest
	if h := e.l.checkpoints[n]; h != nil {
		at = proto.UnixMs(h.Body.TimeUnixMs).Add(e.length())
	}
	return n + 1, at
}

// Draft implements Checkpoints.
func (e *Epochs) Draft(now time.Time) (c *proto.Checkpoint, changes []byte, ok bool) {
	epoch, at := e.Due()
	if now.Before(at) {
		return nil, nil, false
	}
	c, changes, err := e.l.DraftCheckpoint(epoch)
	if err != nil { // changes of an earlier one have yet to come
		return nil, nil, false
	}
	c.TimeUnixMs = uint64(max(0, now.UnixMilli()))
	return c, changes, true
}

// Valid implements Checkpoints.
func (e *Epochs) Valid(now time.Time, c *proto.Checkpoint, changes []byte) error {
	if len(changes) > 0 {
		e.l.KeepChanges(changes)
	}
	// An epoch that would end in the far future would be the last one, so this
	// counts in every round.
	if c.GetEpoch() == e.l.s.newest+1 && !e.l.s.off.has(guardClock) {
		_, at := e.Due()
		ended := proto.UnixMs(c.GetTimeUnixMs())
		if slack := e.length() / 4; ended.Before(at) || ended.After(now.Add(slack)) || now.Add(slack).Before(at) {
			return proto.CodeInvalidEvent.Errorf("checkpoint %d: the epoch ends at %s, here it is %s", c.GetEpoch(), ended.UTC(), now.UTC())
		}
	}
	err := e.l.checkBody(&CheckpointHeader{Body: c})
	if proto.CodeOf(err) == proto.CodeMissing {
		return proto.CodeNotFinal.Errorf("%v", err)
	}
	return err
}

// Certified implements Checkpoints. A forgotten checkpoint is nil and true.
func (e *Epochs) Certified(epoch uint64) (*proto.CertifiedEvent, bool) {
	if h := e.l.checkpoints[epoch]; h != nil {
		return &proto.CertifiedEvent{Event: h.Wire.Checkpoint, Certificate: h.Wire.Certificate}, true
	}
	return nil, epoch <= e.l.s.newest
}

// Install implements Checkpoints.
func (e *Epochs) Install(own []Record, body, changes []byte, cert *proto.Certificate) error {
	_, err := e.l.AddCheckpoint(&proto.CertifiedCheckpoint{Checkpoint: body, Certificate: cert, Changes: changes}, own...)
	return err
}
