package ledger

import (
	"fmt"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// maxLaneRefs bounds the lanes in one live ProofRequest.
const maxLaneRefs = 256

// Report answers a live ProofRequest from the state as it is now: for light
// clients, which count what several witnesses say. A request that asks for too
// much is CodeTooLarge; a light ledger knows nothing of others, CodeNotFound.
func (l *Ledger) Report(q *proto.ProofRequest) (*proto.ProofReply, error) {
	account, err := proto.ParsePeer(q.GetAccount())
	switch {
	case err != nil:
		return nil, fmt.Errorf("report: %w", err)
	case l.s.light != "":
		return nil, proto.CodeNotFound.Errorf("report: a light ledger has one account only")
	case len(q.Lanes) > maxLaneRefs:
		return nil, proto.CodeTooLarge.Errorf("report: %d lanes, at most %d", len(q.Lanes), maxLaneRefs)
	}
	r := &proto.AccountReport{Next: l.next(account)}
	out := &proto.ProofReply{Report: r}
	if h := l.checkpoints[l.s.newest]; h != nil && l.s.newest > q.Epoch {
		out.Checkpoint = &proto.CertifiedCheckpoint{Checkpoint: h.Wire.Checkpoint, Certificate: h.Wire.Certificate}
	}
	for _, x := range l.Receivables(account) {
		at, err := pointOf(x.Source)
		if err != nil {
			return nil, err
		}
		v := l.s.points[at]
		r.Payables = append(r.Payables, &proto.Payable{
			Source: x.Source.Event, Index: at.index, Amount: v.amount, Eligible: v.eligible, From: []byte(v.from),
			Memo: l.noteOf(at).memo, Kind: l.noteOf(at).kind,
		})
		if len(r.Payables) == MaxSources {
			break
		}
	}
	for _, ref := range q.Lanes {
		st := new(proto.LaneState)
		if id, err := proto.ParseCID(ref.GetHold()); err == nil {
			if h := l.hold(id); h != nil && uint64(ref.Lane) < uint64(len(h.lanes)) {
				x := h.lanes[ref.Lane]
				*st = proto.LaneState{
					Known: true, DeadlineUnixMs: h.deadline, Paid: uint64(x.Paid), Fuel: uint64(x.Fuel), Done: x.Done, Closed: h.closed,
					Worker: []byte(x.Worker),
				}
			}
		}
		r.Lanes = append(r.Lanes, st)
	}
	a := l.s.accounts[account]
	if a == nil {
		return out, nil
	}
	size := goproto.Size(out)
	chain := a.chain
	if len(chain) > 0 && q.Next > chain[0].Seq {
		chain = chain[min(q.Next-chain[0].Seq, uint64(len(chain))):]
	}
	for _, c := range chain {
		if size += goproto.Size(c.Wire) + 8; size > syncFill && len(out.Events) > 0 { // one fits beside all the rest
			break
		}
		out.Events = append(out.Events, c.Wire)
	}
	return out, nil
}

// said is one witness's AccountReport, read.
type said struct {
	payables map[point]receivable
	notes    map[point]note
	lanes    map[laneRef]laneReport
}

type laneRef struct {
	hold proto.Hash
	lane uint32
}

type laneReport struct {
	known, done, closed bool
	deadline            uint64
	paid, fuel          uint64
	worker              peer.ID
}

// readReport checks an AccountReport's sizes and shapes. asked are the lanes of
// the request.
func readReport(r *proto.AccountReport, account peer.ID, asked []laneRef) (*said, error) {
	if len(r.Payables) > MaxSources || len(r.Lanes) != len(asked) {
		return nil, proto.CodeMalformed.Errorf("report: %d payables, %d lanes of %d", len(r.Payables), len(r.Lanes), len(asked))
	}
	out := &said{payables: map[point]receivable{}, notes: map[point]note{}, lanes: map[laneRef]laneReport{}}
	for _, p := range r.Payables {
		at, err := pointOf(&proto.Source{Event: p.GetSource(), Index: p.GetIndex()})
		if err == nil {
			err = validAmount(p.Amount)
		}
		if err == nil {
			err = optionalPeer(p.From)
		}
		if err == nil && len(p.Memo) > MaxMemo {
			err = proto.CodeTooLarge.Errorf("a memo of %d bytes", len(p.Memo))
		}
		if err != nil || p.Eligible > p.Amount {
			return nil, proto.CodeMalformed.Errorf("report: a payable: %v", err)
		}
		out.notes[at] = note{p.Kind, p.Memo}
		out.payables[at] = receivable{to: account, from: peer.ID(p.From), amount: p.Amount, eligible: p.Eligible}
	}
	for i, s := range r.Lanes {
		if err := optionalPeer(s.GetWorker()); err != nil {
			return nil, proto.CodeMalformed.Errorf("report: a lane: %v", err)
		}
		out.lanes[asked[i]] = laneReport{
			s.GetKnown(), s.GetDone(), s.GetClosed(), s.GetDeadlineUnixMs(), s.GetPaid(), s.GetFuel(), peer.ID(s.GetWorker()),
		}
	}
	return out, nil
}
