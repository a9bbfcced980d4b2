//go:build !js

package api

import (
	"cmp"
	"context"
	"math"
	"time"

	"connectrpc.com/connect"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

type taskServer struct{ *server }

func (s taskServer) Submit(ctx context.Context, req *connect.Request[api.SubmitRequest]) (*connect.Response[api.SubmitReply], error) {
	spec, err := jobSpec(req.Msg)
	if err != nil {
		return nil, failure(err)
	}
	quote, err := s.node.Quote(spec)
	if err != nil {
		return nil, failure(err)
	}
	reply := &api.SubmitReply{
		Module: quote.Module.String(), MaxCost: uint64(quote.Worst), Hold: uint64(quote.Hold), TaskCost: uint64(quote.Task),
		MaxCredits: uint64(quote.Budget), Price: uint64(quote.Price),
	}
	if !req.Msg.DryRun {
		id, err := s.node.Start(ctx, spec)
		if err != nil {
			return nil, failure(err)
		}
		reply.Job = id.String()
	}
	return connect.NewResponse(reply), nil
}

// jobSpec checks what the wire type cannot say; the node checks the rest.
func jobSpec(m *api.SubmitRequest) (node.JobSpec, error) {
	var none node.JobSpec
	priority, err := proto.ParsePriority(m.Priority)
	if err != nil {
		return none, proto.CodeMalformed.Errorf("%v", err)
	}
	switch {
	case m.Type == "" && len(m.Module) == 0:
		return none, proto.CodeMalformed.Errorf("a job needs a task type or a module")
	case m.Type != "" && len(m.Module) > 0:
		return none, proto.CodeMalformed.Errorf("a job has a task type or a module, not both")
	case len(m.Inputs) == 0:
		return none, proto.CodeMalformed.Errorf("a job needs at least one input; an empty one counts")
	case len(m.Inputs) > proto.MaxTasks:
		return none, proto.CodeTooLarge.Errorf("%d tasks in one job, at most %d", len(m.Inputs), proto.MaxTasks)
	case m.Redundancy > proto.MaxRedundancy:
		return none, proto.CodeMalformed.Errorf("redundancy %d, want 1 to %d", m.Redundancy, proto.MaxRedundancy)
	case max(m.TimeoutMs, m.RunTimeoutMs, m.QueueTimeoutMs) > math.MaxInt64/uint64(time.Millisecond):
		return none, proto.CodeMalformed.Errorf("timeout of %d ms is too long", max(m.TimeoutMs, m.RunTimeoutMs, m.QueueTimeoutMs))
	case len(m.Label) > proto.MaxLabel:
		return none, proto.CodeTooLarge.Errorf("label of %d bytes, at most 64", len(m.Label))
	}
	return node.JobSpec{
		Type: proto.CanonicalType(m.Type), Module: m.Module, Inputs: m.Inputs,
		Options: market.Options{
			Priority:   priority,
			Redundancy: int(m.Redundancy),
			MaxCredits: proto.Credit(m.MaxCredits),
			Timeout:    proto.Millis(m.TimeoutMs),
			Run:        proto.Millis(m.RunTimeoutMs),
			Queue:      proto.Millis(m.QueueTimeoutMs),
			Fuel:       proto.Fuel(m.FuelLimit),
			Memory:     m.MemoryLimit,
			Label:      m.Label,
		},
	}, nil
}

func (s taskServer) List(_ context.Context, req *connect.Request[api.ListRequest]) (*connect.Response[api.ListReply], error) {
	limit := int(min(req.Msg.Limit, maxList))
	if limit == 0 {
		limit = maxList
	}
	reply := new(api.ListReply)
	for _, v := range s.node.Jobs() {
		if req.Msg.State != "" && req.Msg.State != string(v.Record.State) {
			continue
		}
		if len(reply.Jobs) == limit {
			break
		}
		v.Lost = nil
		reply.Jobs = append(reply.Jobs, s.jobMessage(v, nil))
	}
	return connect.NewResponse(reply), nil
}

func (s taskServer) Get(ctx context.Context, req *connect.Request[api.GetRequest]) (*connect.Response[api.Job], error) {
	v, tasks, err := s.job(req.Msg.Job)
	if err != nil {
		return nil, failure(err)
	}
	m := s.jobMessage(v, tasks)
	m.Waiting = cmp.Or(m.Waiting, s.node.Unanswered(ctx, v.Record.Job.ID))
	logs := 0
	for i, t := range tasks {
		if logs == maxLostLogs {
			break
		}
		log := s.node.LostLog(t.ID)
		if len(log) == 0 {
			continue
		}
		m.TaskInfo[i].LostLog = log[max(0, len(log)-maxLostLog):]
		logs++
	}
	return connect.NewResponse(m), nil
}

// What Get shows of logs: Results has them whole.
const (
	maxLostLogs = 16
	maxLostLog  = 4 << 10
)

func (s taskServer) job(prefix string) (market.JobView, []market.TaskView, error) {
	id, err := s.node.FindJob(prefix)
	if err != nil {
		return market.JobView{}, nil, err
	}
	return s.node.Job(id)
}

func (s taskServer) Cancel(ctx context.Context, req *connect.Request[api.CancelRequest]) (*connect.Response[api.CancelReply], error) {
	id, err := s.node.FindJob(req.Msg.Job)
	if err != nil {
		return nil, failure(err)
	}
	if err := s.node.Cancel(ctx, id); err != nil {
		return nil, failure(err)
	}
	v, _, err := s.node.Job(id)
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(&api.CancelReply{State: string(v.Record.State)}), nil
}

func (s taskServer) Watch(ctx context.Context, req *connect.Request[api.GetRequest], out *connect.ServerStream[api.Job]) error {
	id, err := s.node.FindJob(req.Msg.Job)
	if err != nil {
		return failure(err)
	}
	silent := "" // which witnesses do not answer, as it was found last
	for {
		changed := s.node.Changed(id) // before Job, or a change between the two is missed
		v, tasks, err := s.node.Job(id)
		if err != nil {
			return failure(err)
		}
		if v.Record.State.Final() {
			return out.Send(s.jobMessage(v, tasks))
		}
		m := s.jobMessage(v, nil)
		if silent != "" { // the hold may have come
			silent = s.node.Unanswered(ctx, id)
		}
		m.Waiting = cmp.Or(m.Waiting, silent)
		if err := out.Send(m); err != nil {
			return err
		}
		// Peers come and go, and witnesses fall silent, without a change of the job.
		for same := true; same; {
			select {
			case <-changed:
				same = false
			case <-time.After(waitingLook):
				v, _, err := s.node.Job(id)
				silent = s.node.Unanswered(ctx, id)
				same = err == nil && cmp.Or(s.node.WaitingFor(v), silent) == m.Waiting
			case <-ctx.Done():
				return failure(ctx.Err())
			}
		}
		select { // a job of 10,000 tasks changes faster than anyone reads
		case <-time.After(watchPause):
		case <-ctx.Done():
			return failure(ctx.Err())
		}
	}
}

func (s taskServer) Results(ctx context.Context, req *connect.Request[api.GetRequest], out *connect.ServerStream[api.TaskResult]) error {
	_, tasks, err := s.job(req.Msg.Job)
	if err != nil {
		return failure(err)
	}
	for _, t := range tasks {
		if !t.State.Final() {
			continue
		}
		r, err := s.node.Result(t.ID)
		if err != nil {
			return failure(err)
		}
		m, err := resultMessage(r)
		if err != nil {
			return failure(err)
		}
		if err := out.Send(m); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return failure(ctx.Err())
		}
	}
	return nil
}

func (s taskServer) Why(ctx context.Context, req *connect.Request[api.GetRequest]) (*connect.Response[api.WhyReply], error) {
	id, err := s.node.FindJob(req.Msg.Job)
	if err != nil {
		return nil, failure(err)
	}
	lines, err := s.node.Why(id)
	if err != nil {
		return nil, failure(err)
	}
	if line := s.node.Unanswered(ctx, id); line != "" {
		lines = append([]string{line + "."}, lines...)
	}
	return connect.NewResponse(&api.WhyReply{Lines: lines}), nil
}

func (s taskServer) Remove(ctx context.Context, req *connect.Request[api.RemoveRequest]) (*connect.Response[api.RemoveReply], error) {
	id, err := s.node.FindJob(req.Msg.Job)
	if err == nil {
		err = s.node.Remove(ctx, id)
	}
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(&api.RemoveReply{Job: id.String()}), nil
}

func (s taskServer) jobMessage(v market.JobView, tasks []market.TaskView) *api.Job {
	m := jobMessage(v, tasks)
	m.Waiting = s.node.WaitingFor(v)
	return m
}

func jobMessage(v market.JobView, tasks []market.TaskView) *api.Job {
	j := v.Record.Job
	m := &api.Job{
		Id:            j.ID.String(),
		Type:          j.Type,
		Module:        j.Module.String(),
		Label:         j.Options.Label,
		State:         string(v.Record.State),
		Tasks:         uint32(len(j.Inputs)),
		Done:          uint32(v.Done),
		Failed:        uint32(v.Failed),
		Verified:      uint32(v.Verified),
		Running:       uint32(v.Running),
		Redundancy:    uint32(j.Options.Redundancy),
		Fuel:          uint64(v.Fuel),
		Cost:          uint64(v.Cost),
		MaxCredits:    uint64(j.Options.MaxCredits),
		CreatedUnixMs: unixMs(j.Created),
		UpdatedUnixMs: unixMs(v.Updated),
		Code:          codeName(v.Record.Code),
		Reason:        v.Record.Reason,
		Priority:      j.Options.Priority.String(),
		Settled:       v.Settled,

		TimeoutMs: uint64(j.Options.Timeout.Milliseconds()), RunTimeoutMs: uint64(j.Options.Run.Milliseconds()),
		QueueTimeoutMs: uint64(j.Options.Queue.Milliseconds()), LostTries: uint64(v.LostTries),
	}
	for _, l := range v.Lost {
		m.Lost = append(m.Lost, &api.LostTry{
			Task: l.Task, Worker: l.Worker.String(), Code: codeName(l.Code), Reason: l.Reason, Times: uint32(l.Times), TimeUnixMs: unixMs(l.At),
		})
	}
	for _, t := range tasks {
		m.TaskInfo = append(m.TaskInfo, taskMessage(t))
	}
	return m
}

func taskMessage(t market.TaskView) *api.TaskInfo {
	m := &api.TaskInfo{
		Index: t.ID.Index, State: string(t.State), Code: codeName(t.Code), Verified: t.Verified,
		Fuel: uint64(t.Fuel), OutputHash: hashName(t.Output), Cost: uint64(t.Cost),
	}
	for _, r := range t.Replicas {
		state := string(r.State)
		switch {
		case r.Trial:
			state = "trial"
		case r.Partial:
			state = "partial"
		}
		m.Replicas = append(m.Replicas, &api.ReplicaInfo{
			Worker: r.Worker.String(), State: state, Fuel: uint64(r.Fuel), OutputHash: hashName(r.Output),
			Agreed: r.Agreed, Paid: uint64(r.Paid), Code: codeName(r.Code), Attempt: r.Attempt,
		})
	}
	return m
}

func resultMessage(r *market.Result) (*api.TaskResult, error) {
	m := &api.TaskResult{
		Index: r.Task.Index, State: string(r.State), Status: r.Status.String(), ExitCode: r.ExitCode,
		Output: r.Output, Log: r.Log, Fuel: uint64(r.Fuel), Cost: uint64(r.Cost), Verified: r.Verified,
		Code: codeName(r.Code), Reason: r.Reason,
	}
	for _, w := range r.Workers {
		m.Workers = append(m.Workers, w.String())
	}
	for _, receipt := range r.Receipts {
		b, err := goproto.Marshal(receipt)
		if err != nil {
			return nil, err
		}
		m.Receipts = append(m.Receipts, b)
	}
	return m, nil
}

func codeName(c proto.Code) string {
	if c == proto.CodeOK {
		return ""
	}
	return c.String()
}

func hashName(h proto.Hash) string {
	if h.IsZero() {
		return ""
	}
	return h.String()
}

func unixMs(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMilli())
}
