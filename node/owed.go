package node

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// A worker whose results were not all paid asks for more than it was promised when
// its lane ends, and shows the claim that it would file. The witnesses would grant
// that, so the payer does, too: the hold is closed now and not after its grace. What
// lost a vote it does not owe, and says with what.

// claimEvery is between two claims of one worker that are looked at.
const claimEvery = time.Second

// owes reports whether a worker's claim proves what it asks for with Done, and for
// how much fuel. The votes that some of its results lost go to it first: it asks
// for less when it is asked again.
func (ls *leases) owes(l *lease, hold cid.Cid, d *proto.Done, raw []byte) (proto.Fuel, bool, error) {
	if time.Since(l.judged) < claimEvery {
		return 0, false, nil
	}
	l.judged = time.Now()
	c, err := ledger.ReadClaim(raw)
	if err == nil {
		err = c.Verify(ls.n.net) // takes long, so without the ledger's lock
	}
	if err != nil {
		return 0, false, err
	}
	ls.n.wallet.mu.Lock()
	got, err := ls.n.wallet.l.Proves(c)
	ls.n.wallet.mu.Unlock()
	if err != nil {
		return 0, false, err
	}
	if !got.Hold.Equals(hold) || got.Lane != d.Lane || got.Worker != l.worker || uint64(got.Amount) < d.Amount {
		return 0, false, proto.CodeInvalidEvent.Errorf("done at %s credits with a claim for %s", proto.Credit(d.Amount), got.Amount)
	}
	votes, err := ls.lostVotes(l.worker, hold, d.Lane, raw)
	if err != nil {
		return 0, false, err
	}
	for _, a := range votes {
		l.out.push(votesItem{a})
	}
	return got.Fuel, len(votes) == 0, nil
}

// lostVotes are the votes against results that a claim counts.
func (ls *leases) lostVotes(worker peer.ID, hold cid.Cid, lane uint32, claim []byte) ([]*proto.Abort, error) {
	s, err := proto.Inspect(claim, proto.KindWorkClaim)
	if err != nil {
		return nil, err
	}
	var out []*proto.Abort
	for _, sr := range s.Payload.GetWorkClaim().GetReceipts() {
		r := new(proto.Receipt)
		if err := goproto.Unmarshal(sr.GetReceipt(), r); err != nil {
			return nil, err
		}
		id, err := proto.ToJobID(r.Job)
		if err != nil {
			return nil, err
		}
		task := proto.TaskID{Job: id, Index: r.Task}
		b, err := ls.n.kv.get(taskKey(task))
		if err != nil {
			continue // it did not end, or was removed
		}
		var rec market.TaskRecord
		if err := json.Unmarshal(b, &rec); err != nil {
			return nil, err
		}
		i := slices.IndexFunc(rec.Replicas, func(x market.ReplicaRecord) bool {
			return x.Worker == worker && x.Code == proto.CodeMinority && string(x.Output[:]) == string(r.OutputHash)
		})
		if i < 0 {
			continue
		}
		a := &proto.Abort{
			Tasks: []*proto.TaskRef{wireRef(proto.Ref{Task: task, Attempt: rec.Replicas[i].Attempt})}, Code: uint32(proto.CodeMinority),
			Hold: hold.Bytes(), Lane: lane,
		}
		err = ls.n.kv.scan(receiptPrefix(task), func(_ string, v []byte) error {
			vote := new(proto.SignedReceipt)
			if err := goproto.Unmarshal(v, vote); err != nil {
				return err
			}
			a.Votes = append(a.Votes, vote)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(a.Votes) > 0 {
			out = append(out, a)
		}
	}
	return out, nil
}
