package node

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// A job's way through the network, as the market's outputs become acts:
//
//	offer    PublishOffer ─gossip→ workers rank themselves      PublishClaim ─gossip→ submitter
//	         RequestHold: a certified hold with one lane per chosen worker
//	claim    SendAssign ─stream→ worker checks its lane         SendAccepted | SendRefused
//	execute  Fetch: module and input by hash; Execute: sandbox   SendCommit
//	verify   SendReveal, once every replica committed           SendResult with signed receipt
//	         ResultAccepted per agreeing replica, SaveTask
//	credit   SaveHold, SendPay: cumulative voucher; Settle: certified payment; SendDone releases the rest
//
// The market decides, purely; node acts. Saves of a step are on disk before act
// is called, so a crash repeats work at worst, never pay.
func (j *jobs) act(ctx context.Context, outs []market.Output) {
	n := j.n
	for _, out := range outs {
		switch o := out.(type) {
		// offer
		case market.PublishOffer:
			shard := n.shard(o.Offer)
			j.check("follow claims", n.gossip.follow(n.net.ID.ClaimsTopic(shard), "claims"))
			j.publish(ctx, n.net.ID.OffersTopic(shard), "offers", &proto.Payload{Body: &proto.Payload_Offer{Offer: o.Offer}})
		case market.PublishWithdrawal:
			j.publish(ctx, n.net.ID.OffersTopic(n.shard(o.Offer)), "offers", &proto.Payload{Body: &proto.Payload_Withdrawal{Withdrawal: o.Withdrawal}})
		case market.PublishClaim:
			j.publish(ctx, n.net.ID.ClaimsTopic(n.shard(o.Offer)), "claims", &proto.Payload{Body: &proto.Payload_Claim{Claim: o.Claim}})
		case market.RequestHold:
			n.wallet.do(func(ctx context.Context) { n.wallet.hold(ctx, o) })

		// claim and verify, submitter's side
		case market.SendAssign:
			n.leases.send(o.To, assignItem{o.Batch})
		case market.SendReveal:
			n.leases.send(o.To, revealItem{o.Ref, o.Commits})
		case market.SendAbort:
			n.leases.send(o.To, abortItem{o.Refs, o.Code})
		case market.SendPay:
			n.leases.send(o.To, payItem{o.Voucher, o.Finish})

		// claim and verify, worker's side
		case market.SendAccepted:
			n.activity.count(func(c *Counts) { c.TasksTaken += uint64(len(o.Refs)) })
			n.activity.say("tasks taken", zap.Int("tasks", len(o.Refs)), zap.Stringer("submitter", o.To), zap.Stringer("job", o.Refs[0].Task.Job))
			n.work.taken(o.To, o.Refs)
			n.work.send(o.To, acceptedItem{o.Refs, o.Waiting})
		case market.SendStarted:
			n.work.send(o.To, progressItem{o.Ref, 0})
		case market.SendRefused:
			if o.Code == proto.CodeBlocked {
				n.blocks.refused(o.To)
			}
			output, log, _, _ := n.work.result(execKey{o.To, o.Ref}) // of one that ran
			n.work.forget(o.To, o.Ref)
			n.work.send(o.To, refusedItem{o.Ref, o.Code, o.Reason, o.Fuel, log, output[:min(len(output), proto.MaxLostOutput)]})
		case market.SendCommit:
			n.work.send(o.To, commitItem{o.Ref, o.Hash})
		case market.SendResult:
			n.work.send(o.To, resultItem{o.Ref, o.Receipt})
		case market.SendDone:
			n.work.send(o.To, doneItem{o.Done, o.Cap})

		// execute
		case market.Fetch:
			n.work.fetch(o)
		case market.Execute:
			n.work.execute(o)
		case market.HaltExecution:
			n.work.halt(o.From, o.Ref, o.Halt)
		case market.StopExecution:
			n.work.stop(o.From, o.Ref)
		case market.Forget:
			n.work.forget(o.From, o.Ref)

		// credit
		case market.Settle:
			n.wallet.do(func(ctx context.Context) { n.wallet.settle(ctx, o) })

		case market.ResultOutvoted:
			if r, ok := j.pending.take(o.Worker, o.Ref); ok {
				n.evidence.file(r.receipt)
			}
		case market.ResultDropped:
			j.pending.take(o.Worker, o.Ref)
		case market.SaveJob:
			if o.Record.State.Final() {
				j.jobEnded(o.Record)
				wake(j.ended)
			}
		case market.SaveTask:
			n.activity.count(func(c *Counts) { c.countTask(o.Record) })
		case market.JobChanged:
			j.changed(o.Job)
		case market.Note:
			n.activity.say("market", zap.String("note", o.Text), zap.Stringer("code", o.Code), zap.String("peer", peerText(o.Peer)), zap.Stringer("task", o.Ref))
		}
	}
}

// save makes one commit of everything that outs want to survive, durable where
// money depends on it.
func (j *jobs) save(outs []market.Output) error {
	var writes []write
	commit := j.n.kv.lazily
	for _, out := range outs {
		var w write
		var err error
		switch o := out.(type) {
		case market.SaveJob:
			w, err = record(jobKey(o.Record.Job.ID), o.Record)
		case market.SaveTask:
			w, err = record(taskKey(o.Record.ID), o.Record)
			if len(resultOf(o.Record).Workers) > 0 {
				writes = append(writes, lost(o.Record.ID, nil, nil)...) // its result has a log of its own
			}
		case market.SaveLost:
			writes = append(writes, lost(o.Task, o.Log, o.Output)...)
			continue
		case market.SaveHold:
			w, err = record(holdKey(o.Record.Hold), o.Record)
			if o.Record.Closed {
				w.value = nil
			}
		case market.SaveCost:
			w, err = record(costKey(o.Record.Module), o.Record)
			if o.Record.Runs == 0 {
				w.value = nil
			}
		case market.SaveStanding:
			w, err = record(standingKey(o.Record.Worker), o.Record)
			if o.Record.Kept == 0 && o.Record.Broken == 0 {
				w.value = nil
			}
		case market.SaveWorth:
			w, err = record(worthKey(o.Record), o.Record)
			if o.Record.TookMs == 0 {
				w.value = nil
			}
			writes = append(writes, w)
			if err != nil {
				return err
			}
			continue
		case market.ResultAccepted:
			var kept []write
			kept, err = j.keepResult(o.Ref, o.Worker)
			writes = append(writes, kept...)
		}
		if err != nil {
			return err
		}
		if w.key != "" {
			writes = append(writes, w)
		}
		if len(writes) > 0 {
			commit = j.n.kv.commit
		}
	}
	if len(writes) == 0 {
		return nil
	}
	j.blobs.RLock() // results bring blobs
	defer j.blobs.RUnlock()
	for _, w := range writes {
		j.begun.note(w.key)
	}
	if err := commit(writes); err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	return nil
}

func record(key string, v any) (write, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return write{}, fmt.Errorf("record %s: %w", key, err)
	}
	return write{key, b}, nil
}

func holdKey(hold cid.Cid) string { return "hold/" + hold.String() }

func costKey(module cid.Cid) string { return "cost/" + module.String() }

func worthKey(r market.WorthRecord) string {
	switch {
	case r.Payer != "":
		return "worth/" + r.Payer.String()
	case r.Module.Defined():
		return "worth/" + r.Module.String()
	}
	return "worth/all"
}

func standingKey(worker peer.ID) string { return "standing/" + worker.String() }

func jobKey(id proto.JobID) string { return "job/" + id.String() }

func taskKey(t proto.TaskID) string { return fmt.Sprintf("task/%s/%05d", t.Job, t.Index) }

func (n *Node) shard(o *proto.Offer) uint32 {
	c, err := proto.ParseCID(o.Module)
	if err != nil {
		c = proto.Hash{}.CID()
	}
	return proto.Shard(o.Type, c, n.net.Genesis.Shards)
}

// publish signs and gossips. Failing is not final: the market offers again.
func (j *jobs) publish(ctx context.Context, topic, kind string, p *proto.Payload) {
	raw, err := proto.Seal(j.n.cfg.Key, j.n.net.ID, p)
	if err == nil {
		err = j.n.gossip.publish(ctx, topic, kind, raw)
	}
	j.check("publish to "+kind, err)
}

func (j *jobs) check(what string, err error) {
	if err != nil && j.n.ctx.Err() == nil {
		j.n.log.Warn(what, zap.Error(err))
	}
}

func peerText(p peer.ID) string {
	if p == "" {
		return ""
	}
	return p.String()
}
