package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
	"edgenet.dev/test/daemon"
)

// payer is a stranger with an account. It knows its own chain only.
type payer struct {
	*stranger
	l       *ledger.Ledger
	id      peer.ID
	witness peer.ID
}

// hold is a certified hold with one lane.
type hold struct {
	id    cid.Cid
	event *proto.CertifiedEvent
}

// payer opens the account of a stranger's key, which the genesis grants
// something.
func (t *Target) payer(ctx context.Context, s *stranger) (*payer, error) {
	l, err := ledger.Open(t.network(), mem.New())
	if err != nil {
		return nil, err
	}
	if err := s.meet(ctx, t.Witness); err != nil {
		return nil, err
	}
	p := &payer{stranger: s, l: l, id: s.ID(), witness: t.Witness.ID}
	if got := s.account; got != nil {
		return got, nil // tried before
	}
	open := new(proto.Open)
	for _, r := range l.Receivables(p.id) {
		open.Sources = append(open.Sources, &proto.Source{Event: r.Source.Event, Index: r.Source.Index, Amount: r.Source.Amount})
	}
	if _, err := p.certify(ctx, open); err != nil {
		return nil, fmt.Errorf("open an attacker's account: %w", err)
	}
	s.account = p
	return p, nil
}

// certify makes the account's next event and has the network's only witness
// certify it.
func (p *payer) certify(ctx context.Context, body any) (*ledger.Certified, error) {
	ev, err := p.l.Draft(p.id, p.l.Epoch(), uint64(time.Now().UnixMilli()), body)
	if err != nil {
		return nil, err
	}
	raw, err := p.seal(&proto.Payload{Body: &proto.Payload_Event{Event: ev}})
	if err != nil {
		return nil, err
	}
	talk, err := ledger.NewProposal(p.l, raw, ledger.AuthorConfig{Sign: p.seal})
	if err != nil {
		return nil, err
	}
	for {
		if c, err, ok := talk.Result(); ok {
			return c, err
		}
		if err := p.say(ctx, talk); err != nil {
			return nil, err
		}
	}
}

// say sends the proposal on a stream of its own and hears the witness until
// there is a result, or it has been silent for a while.
func (p *payer) say(ctx context.Context, talk *ledger.Proposal) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	s, err := p.open(ctx, p.witness, "vote")
	if err != nil {
		return err
	}
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	send := func(outs []ledger.Output) error {
		for _, o := range outs {
			if o, ok := o.(ledger.Send); ok {
				if err := proto.WriteFrame(s, o.Frame, proto.MaxVoteFrame); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := send(talk.Tick(time.Now().Add(time.Minute))); err != nil {
		return err
	}
	for in := frames(s, proto.MaxVoteFrame); ; {
		if _, _, ok := talk.Result(); ok {
			return nil
		}
		var f proto.VoteFrame
		if err := in.Read(&f); err != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil // say it again
			}
			return err
		}
		outs, err := talk.Handle(time.Now(), p.witness, &f)
		if err != nil {
			return err
		}
		if err := send(outs); err != nil {
			return err
		}
	}
}

// hold sets most aside for a worker, until a deadline.
func (p *payer) hold(ctx context.Context, worker peer.ID, most proto.Credit, deadline time.Time) (hold, error) {
	c, err := p.certify(ctx, &proto.Hold{
		Job: random16(), Budget: uint64(most + most/50 + 2), DeadlineUnixMs: uint64(deadline.UnixMilli()),
		Lanes: []*proto.Lane{{Worker: []byte(worker), Cap: uint64(most)}},
	})
	if err != nil {
		return hold{}, fmt.Errorf("an attacker's hold: %w", err)
	}
	return hold{c.ID, c.Wire}, nil
}

// link is a /task stream to a worker.
type link struct {
	p      *payer
	s      network.Stream
	worker peer.ID
	in     *proto.FrameReader
}

func (p *payer) link(ctx context.Context, worker *daemon.Node) (*link, error) {
	if err := p.meet(ctx, worker); err != nil {
		return nil, err
	}
	s, err := p.open(ctx, worker.ID, "task")
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { s.Reset() })
	return &link{p: p, s: s, worker: worker.ID, in: frames(s, proto.MaxTaskFrame)}, nil
}

// hear calls got with what the worker says until the stream or ctx ends.
func (k *link) hear(ctx context.Context, got func(*proto.TaskFrame) error) error {
	for {
		var f proto.TaskFrame
		if err := k.in.Read(&f); err != nil {
			if ctx.Err() != nil || err == io.EOF {
				return nil
			}
			return err
		}
		if err := got(&f); err != nil {
			return err
		}
	}
}

// deaf takes what the worker says and does nothing about it.
func (k *link) deaf(ctx context.Context) {
	_ = k.hear(ctx, func(*proto.TaskFrame) error { return nil })
}

// work is a task as an attacker assigns it.
type work struct {
	job     []byte
	index   uint32
	module  cid.Cid
	input   []byte
	by      *proto.Input // nil = inline
	size    uint64       // of an input that is not inline
	fuel    proto.Fuel
	wall    time.Duration
	k       uint32
	attempt uint32
}

// text is the smallest honest-looking work.
func text(job []byte, i int) work {
	b, _ := modules.Lookup(proto.TypeText)
	in, err := modules.Encode(proto.TypeText, fmt.Appendf(nil, "word %d", i))
	if err != nil {
		panic(err) // the same few bytes each time
	}
	return work{job: job, index: uint32(i), module: b.ID, input: in, fuel: 60_000_000, wall: 10 * time.Minute, k: 1}
}

// batch signs assignments under a hold.
func (k *link) batch(h hold, worker peer.ID, expires time.Time, list []work) ([]byte, []*proto.Input, error) {
	b := &proto.AssignmentBatch{Worker: []byte(worker), Hold: h.id.Bytes(), ExpiresUnixMs: uint64(expires.UnixMilli())}
	var inputs []*proto.Input
	for _, w := range list {
		hash, size := proto.HashOf(w.input), uint64(len(w.input))
		in := &proto.Input{Where: &proto.Input_Inline{Inline: w.input}}
		if w.by != nil {
			in, size = w.by, w.size
		}
		inputs = append(inputs, in)
		b.Assignments = append(b.Assignments, &proto.Assignment{
			Job: w.job, Task: w.index, Replicas: w.k, Module: w.module.Bytes(), MeterVersion: proto.MeterVersion,
			InputHash: hash[:], InputSize: size, Price: uint64(proto.OneCredit), FuelLimit: uint64(w.fuel),
			MemoryLimit: proto.DefaultMemory, OutputLimit: proto.MaxOutput, WallMs: uint64(w.wall.Milliseconds()), Attempt: w.attempt + 1,
		})
	}
	raw, err := k.p.seal(&proto.Payload{Body: &proto.Payload_Assignments{Assignments: b}})
	return raw, inputs, err
}

// assign sends one batch of at most 64 tasks.
func (k *link) assign(h hold, expires time.Time, list []work) error {
	raw, inputs, err := k.batch(h, k.worker, expires, list)
	if err != nil {
		return err
	}
	return k.send(h, raw, inputs)
}

// send sends a signed batch, with the hold that it is under.
func (k *link) send(h hold, raw []byte, inputs []*proto.Input) error {
	return proto.WriteFrame(k.s, &proto.TaskFrame{Body: &proto.TaskFrame_Assign{Assign: &proto.Assign{Batch: raw, Inputs: inputs, Hold: h.event}}}, proto.MaxTaskFrame)
}

// lanes asks the witness what a hold has paid.
func (p *payer) lanes(ctx context.Context, h hold) (*proto.LaneState, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s, err := p.open(ctx, p.witness, "proof")
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	if err := proto.WriteFrame(s, &proto.ProofRequest{Account: []byte(p.id), Live: true, Lanes: []*proto.LaneRef{{Hold: h.id.Bytes()}}}, proto.MaxVoteFrame); err != nil {
		return nil, err
	}
	var r proto.ProofReply
	if err := frames(s, proto.MaxVoteFrame).Read(&r); err != nil {
		return nil, err
	}
	if len(r.Report.GetLanes()) != 1 {
		return nil, fmt.Errorf("the witness reports %d lanes: %s", len(r.Report.GetLanes()), proto.Code(r.Code))
	}
	return r.Report.Lanes[0], nil
}
