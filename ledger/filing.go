package ledger

import (
	"fmt"
	"time"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Filing brings a worker's claim to the witnesses, until a quorum of them
// keeps it: so many that an honest quorum of lists cannot miss it. It shares
// the ledger's lock and reads no clock.
type Filing struct {
	l       *Ledger
	cfg     AuthorConfig
	id      cid.Cid
	frame   *proto.VoteFrame
	hold    cid.Cid
	kept    map[peer.ID]proto.Credit
	refused map[peer.ID]error
	resend  time.Time
	pause   time.Duration
}

// NewFiling files raw, a marshalled Envelope of WorkClaim, which CheckClaim
// should have found good. cfg.Sign is not used.
func NewFiling(l *Ledger, raw []byte, cfg AuthorConfig) (*Filing, error) {
	s, err := openSigned(l.net.ID, raw, proto.KindWorkClaim)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	hold, err := proto.ParseCID(s.Payload.GetWorkClaim().GetHold())
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	cfg = cfg.withDefaults()
	return &Filing{
		l: l, cfg: cfg, id: s.ID, hold: hold, frame: &proto.VoteFrame{Body: &proto.VoteFrame_WorkClaim{WorkClaim: raw}},
		kept: map[peer.ID]proto.Credit{}, refused: map[peer.ID]error{}, resend: atOnce, pause: cfg.Resend,
	}, nil
}

// Next is when Tick has something to do: at once in the beginning, never once
// there is a Result.
func (f *Filing) Next() time.Time {
	if _, ok := f.Result(); ok {
		return time.Time{}
	}
	return f.resend
}

// Tick sends the claim to the witnesses that have not answered.
func (f *Filing) Tick(now time.Time) []Output {
	if next := f.Next(); next.IsZero() || now.Before(next) {
		return nil
	}
	f.resend = now.Add(f.pause)
	f.pause = min(2*f.pause, 8*f.cfg.Resend)
	var to []peer.ID
	for _, w := range f.l.net.Witnesses {
		if _, ok := f.kept[w]; !ok {
			to = append(to, w)
		}
	}
	return []Output{Send{to, f.frame}}
}

// Handle takes a witness's answer; other frames are ignored.
func (f *Filing) Handle(_ time.Time, from peer.ID, frame *proto.VoteFrame) {
	r := frame.GetClaimReply()
	if r == nil || !f.l.net.IsWitness(from) || string(r.Claim) != string(f.id.Bytes()) {
		return
	}
	switch code := proto.Code(r.Code); code {
	case proto.CodeOK:
		f.kept[from] = proto.Credit(r.Amount)
		delete(f.refused, from)
	case proto.CodeNotFinal, proto.CodeBusy, proto.CodeFetch, proto.CodeRateLimited, proto.CodeInternal:
		// The witness will know more, or have more time, later.
	default:
		if _, ok := f.kept[from]; !ok {
			f.refused[from] = code.Errorf("%s", proto.Clip(r.Reason, 256))
		}
	}
}

// Result is known once a quorum of witnesses keeps the claim, or the hold is
// closed without: then, and when so many refuse that an honest one is among
// them, there is an error that carries a code.
func (f *Filing) Result() (err error, ok bool) {
	if len(f.kept) >= f.l.net.Quorum() {
		return nil, true
	}
	if len(f.refused) > f.l.net.F() {
		for _, w := range f.l.net.Witnesses {
			if err := f.refused[w]; err != nil {
				return err, true
			}
		}
	}
	if h := f.l.hold(f.hold); h != nil && h.closed {
		return proto.CodeExpired.Errorf("claim: hold %s is closed", f.hold), true
	}
	return nil, false
}
