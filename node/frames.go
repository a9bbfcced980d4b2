package node

import (
	"time"

	"github.com/ipfs/go-cid"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// What travels on /task: items of both directions and how they become frames.

func refOf(t *proto.TaskRef) (proto.Ref, error) {
	job, err := proto.ToJobID(t.GetJob())
	if err != nil {
		return proto.Ref{}, err
	}
	return proto.Ref{Task: proto.TaskID{Job: job, Index: t.GetTask()}, Attempt: t.GetAttempt()}, nil
}

// maxRefs bounds lists of tasks in one frame.
const maxRefs = 4096

func refsOf(ts []*proto.TaskRef) ([]proto.Ref, error) {
	if len(ts) > maxRefs {
		return nil, proto.CodeTooLarge.Errorf("%d tasks in one frame", len(ts))
	}
	out := make([]proto.Ref, len(ts))
	for i, t := range ts {
		var err error
		if out[i], err = refOf(t); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func wireRef(r proto.Ref) *proto.TaskRef {
	return &proto.TaskRef{Job: r.Task.Job[:], Task: r.Task.Index, Attempt: r.Attempt}
}

func wireRefs(rs []proto.Ref) []*proto.TaskRef {
	out := make([]*proto.TaskRef, len(rs))
	for i, r := range rs {
		out[i] = wireRef(r)
	}
	return out
}

func receiptOf(it *proto.ResultItem) (*proto.Receipt, proto.Ref, error) {
	r := new(proto.Receipt)
	if err := goproto.Unmarshal(it.GetReceipt(), r); err != nil {
		return nil, proto.Ref{}, proto.CodeMalformed.Errorf("receipt: %v", err)
	}
	ref, err := refOf(&proto.TaskRef{Job: r.Job, Task: r.Task, Attempt: it.Attempt})
	return r, ref, err
}

// From submitter to worker.
type (
	assignItem struct{ batch *proto.AssignmentBatch }
	revealItem struct {
		ref     proto.Ref
		commits []market.Commitment
	}
	abortItem struct {
		refs []proto.Ref
		code proto.Code
	}
	votesItem struct{ abort *proto.Abort } // shows that a result lost the vote
	payItem   struct {
		voucher *proto.Voucher
		finish  bool
	}
)

// frames signs the assignments and attaches inputs. A batch whose inputs would
// not fit one frame is signed in parts.
func (a assignItem) frames(n *Node, l *lease) ([]*proto.TaskFrame, error) {
	var out []*proto.TaskFrame
	hold, err := proto.ParseCID(a.batch.Hold)
	if err != nil {
		return nil, err
	}
	rest := a.batch.Assignments
	for len(rest) > 0 {
		var inputs []*proto.Input
		size, take := 0, 0
		for _, as := range rest {
			h, err := proto.ToHash(as.InputHash)
			if err != nil {
				return nil, err
			}
			in := &proto.Input{Where: &proto.Input_Cid{Cid: h.CID().Bytes()}}
			if as.InputSize <= proto.MaxInline {
				if size += int(as.InputSize); size > proto.MaxTaskFrame/2 && take > 0 {
					break
				}
				b, err := n.blob(h)
				if err != nil {
					return nil, err
				}
				in.Where = &proto.Input_Inline{Inline: b}
			} else {
				in.Key = n.keyFor(h, l.worker)
			}
			inputs = append(inputs, in)
			take++
		}
		part := &proto.AssignmentBatch{
			Worker: a.batch.Worker, Hold: a.batch.Hold, Lane: a.batch.Lane,
			ExpiresUnixMs: a.batch.ExpiresUnixMs, Assignments: rest[:take],
		}
		rest = rest[take:]
		raw, err := n.seal(&proto.Payload{Body: &proto.Payload_Assignments{Assignments: part}})
		if err != nil {
			return nil, err
		}
		f := &proto.Assign{Batch: raw, Inputs: inputs}
		f.Hold, f.Extends = l.show(n, hold)
		out = append(out, &proto.TaskFrame{Body: &proto.TaskFrame_Assign{Assign: f}})
		if open := l.awaiting.Load(); open <= 0 { // a task may be answered and aborted
			l.awaiting.CompareAndSwap(open, 0)
			l.heard.Store(time.Now().UnixNano())
		}
		l.awaiting.Add(int64(take))
	}
	return out, nil
}

func (r revealItem) frames(*Node, *lease) ([]*proto.TaskFrame, error) {
	t := &proto.RevealTask{Task: wireRef(r.ref)}
	for _, c := range r.commits {
		t.Commits = append(t.Commits, &proto.Commitment{Hash: c.Hash[:], Worker: []byte(c.Worker)})
	}
	return one(&proto.TaskFrame{Body: &proto.TaskFrame_Reveal{Reveal: &proto.Reveal{Tasks: []*proto.RevealTask{t}}}}), nil
}

func (a abortItem) frames(_ *Node, l *lease) ([]*proto.TaskFrame, error) {
	l.awaiting.Add(-int64(len(a.refs)))
	return one(&proto.TaskFrame{Body: &proto.TaskFrame_Abort{Abort: &proto.Abort{Tasks: wireRefs(a.refs), Code: uint32(a.code)}}}), nil
}

func (v votesItem) frames(*Node, *lease) ([]*proto.TaskFrame, error) {
	return one(&proto.TaskFrame{Body: &proto.TaskFrame_Abort{Abort: v.abort}}), nil
}

func (p payItem) frames(n *Node, l *lease) ([]*proto.TaskFrame, error) {
	raw, err := n.seal(&proto.Payload{Body: &proto.Payload_Voucher{Voucher: p.voucher}})
	if err != nil {
		return nil, err
	}
	hold, err := proto.ParseCID(p.voucher.Hold)
	if err != nil {
		return nil, err
	}
	f := &proto.Pay{Voucher: raw, Finish: p.finish}
	f.Hold, f.Extends = l.show(n, hold)
	if p.finish { // asked again, it may be because the worker knows the lane no more
		delete(l.shown, hold)
	}
	return one(&proto.TaskFrame{Body: &proto.TaskFrame_Pay{Pay: f}}), nil
}

// show is a hold with its extends, for a worker that may know no account but its
// own: it has to see its certified lane before it works or says Done. What was
// shown on this stream is not sent again, until the worker says that it has no
// such lane.
func (l *lease) show(n *Node, hold cid.Cid) (*proto.CertifiedEvent, []*proto.CertifiedEvent) {
	if l.unseen.CompareAndSwap(true, false) {
		clear(l.shown)
	}
	events := n.wallet.holdEvents(hold)
	if len(events) <= l.shown[hold] {
		return nil, nil
	}
	l.shown[hold] = len(events)
	return events[0], events[1:]
}

func one(f *proto.TaskFrame) []*proto.TaskFrame { return []*proto.TaskFrame{f} }

// From worker to submitter.
type (
	acceptedItem struct{ refs, waiting []proto.Ref }
	refusedItem  struct {
		ref    proto.Ref
		code   proto.Code
		reason string
		fuel   proto.Fuel
		log    []byte
		output []byte
	}
	commitItem struct {
		ref  proto.Ref
		hash proto.Hash
	}
	resultItem struct {
		ref     proto.Ref
		receipt []byte
	}
	promisedItem struct{} // a voucher came: what is withheld may leave
	doneItem     struct {
		done *proto.Done
		most proto.Credit // the lane's cap
	}
	progressItem struct {
		ref      proto.Ref
		permille uint32
	}
)

// seal signs for this node and network.
func (n *Node) seal(p *proto.Payload) ([]byte, error) {
	return proto.Seal(n.cfg.Key, n.net.ID, p)
}

func voucherKey(hold cid.Cid, lane uint32) string { return "voucher/" + doneKey(hold, lane)[5:] }
