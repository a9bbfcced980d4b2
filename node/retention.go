package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// What a node keeps of jobs that are over: their records, inputs, results and
// receipts, until they are too old or together too large. Jobs that are not
// over, or still owe something to a worker, stay whatever the bounds say, and
// so does what a worker has not been paid for: that is in other tables.

const (
	retainEvery = time.Hour
	retainPause = 30 * time.Second // at least, between two passes
)

// keptJob is a job that is over.
type keptJob struct {
	id      proto.JobID
	created time.Time
	size    uint64 // bytes of everything stored for it
}

// beyond picks the jobs to remove: those that are older than keep, then the
// oldest until the rest fits limit. Zero is no bound.
func beyond(list []keptJob, now time.Time, keep time.Duration, limit uint64) (out []proto.JobID) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b keptJob) int {
		return cmp.Or(a.created.Compare(b.created), slices.Compare(a.id[:], b.id[:]))
	})
	var total uint64
	for _, j := range list {
		total += j.size
	}
	for _, j := range list {
		if (keep == 0 || now.Sub(j.created) <= keep) && (limit == 0 || total <= limit) {
			break
		}
		out = append(out, j.id)
		total -= j.size
	}
	return out
}

// retain removes what is beyond the bounds, at the start, after jobs ended, and
// every hour.
func (j *jobs) retain(ctx context.Context) {
	keep, limit := j.n.cfg.KeepJobs, j.n.cfg.MaxState
	if keep == 0 && limit == 0 {
		return
	}
	sizes := map[proto.JobID]uint64{} // of jobs that are over, which do not change
	for {
		if err := j.retainOnce(time.Now(), keep, limit, sizes); err != nil && ctx.Err() == nil {
			j.n.log.Error("remove old jobs", zap.Error(err))
		}
		select {
		case <-time.After(retainPause):
		case <-ctx.Done():
			return
		}
		select {
		case <-j.ended:
		case <-time.After(retainEvery):
		case <-ctx.Done():
			return
		}
	}
}

func (j *jobs) retainOnce(now time.Time, keep time.Duration, limit uint64, sizes map[proto.JobID]uint64) error {
	var list []keptJob
	err := j.n.kv.scan("job/", func(key string, b []byte) error {
		var rec market.JobRecord
		if err := json.Unmarshal(b, &rec); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		id := rec.Job.ID
		if v, err := j.n.view(id); err != nil || !rec.State.Final() || !v.Settled {
			return nil
		}
		size, known := sizes[id]
		if !known {
			parts, err := j.n.partsOf(rec)
			if err != nil {
				return err
			}
			size = uint64(len(b)) + parts.size
			sizes[id] = size
		}
		list = append(list, keptJob{id, rec.Job.Created, size})
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range beyond(list, now, keep, limit) {
		switch err := j.n.remove(id); {
		case err != nil:
			return err
		default:
			delete(sizes, id)
			j.n.activity.say("job removed", zap.Stringer("job", id))
		}
	}
	return nil
}

// parts are the records and blobs of one job.
type parts struct {
	keys  []string // of tasks and receipts
	blobs map[proto.Hash]bool
	size  uint64
}

// partsOf finds everything that is stored for a job.
func (n *Node) partsOf(rec market.JobRecord) (parts, error) {
	p := parts{blobs: map[proto.Hash]bool{}}
	blobsOfJob(rec, p.blobs)
	id := rec.Job.ID.String()
	err := n.kv.scan(jobTasks(rec.Job.ID), func(key string, b []byte) error {
		p.keys, p.size = append(p.keys, key), p.size+uint64(len(b))
		return blobsOfTask(b, p.blobs)
	})
	if err != nil {
		return p, err
	}
	err = n.kv.scan("receipt/"+id+"/", func(key string, b []byte) error {
		p.keys, p.size = append(p.keys, key), p.size+uint64(len(b))
		var sr proto.SignedReceipt
		var r proto.Receipt // each replica's own log is kept
		if err := goproto.Unmarshal(b, &sr); err != nil {
			return err
		}
		if err := goproto.Unmarshal(sr.Receipt, &r); err != nil {
			return err
		}
		for _, raw := range [][]byte{r.OutputHash, r.LogHash} {
			if h, err := proto.ToHash(raw); err == nil {
				p.blobs[h] = true
			}
		}
		return nil
	})
	if err != nil {
		return p, err
	}
	err = n.kv.scan(lostPrefix(rec.Job.ID), func(key string, b []byte) error {
		p.keys, p.size = append(p.keys, key), p.size+uint64(len(b))
		return nil
	})
	if err != nil {
		return p, err
	}
	for h := range p.blobs {
		if b, err := n.kv.get(blobKey(h)); err == nil {
			p.size += uint64(len(b))
		}
	}
	return p, nil
}

func blobsOfJob(rec market.JobRecord, into map[proto.Hash]bool) {
	for _, in := range rec.Job.Inputs {
		into[in.Hash] = true
	}
	if h, err := proto.CIDHash(rec.Job.Module); err == nil {
		into[h] = true
	}
}

func blobsOfTask(raw []byte, into map[proto.Hash]bool) error {
	var t market.TaskRecord
	if err := json.Unmarshal(raw, &t); err != nil {
		return err
	}
	into[t.Output], into[t.Log] = true, true
	for _, r := range t.Replicas {
		into[r.Output] = true
	}
	return nil
}

// Remove forgets a job that is over and settled, with its inputs and results.
func (n *Node) Remove(ctx context.Context, id proto.JobID) error {
	if err := n.isReady(); err != nil {
		return err
	}
	v, err := n.view(id)
	if err != nil {
		return err
	}
	switch {
	case !v.Record.State.Final():
		return proto.CodeNotFinal.Errorf("job %s is %s; cancel it first, or wait until it is over", id, v.Record.State)
	case !v.Settled:
		return proto.CodeNotFinal.Errorf("job %s is %s and its workers are not all paid yet; remove it once 'settled' is yes", id, v.Record.State)
	}
	return n.remove(id)
}

// remove deletes a job's records and those of its blobs that no other job has.
// The market forgets the job first: should the process end in between, the
// records are there and the job is back at the next start.
func (n *Node) remove(id proto.JobID) error {
	if err := n.tell(n.ctx, market.Remove{Job: id}); err != nil {
		return err
	}
	n.jobs.mu.Lock()
	_, stays := n.jobs.m.Job(id)
	n.jobs.mu.Unlock()
	if stays {
		return proto.CodeNotFinal.Errorf("job %s is not settled", id)
	}
	n.jobs.blobs.Lock() // no other job may begin to use one of the blobs
	defer n.jobs.blobs.Unlock()
	b, err := n.kv.get(jobKey(id))
	if err != nil {
		return fmt.Errorf("job %s: %w", id, err)
	}
	var rec market.JobRecord
	if err := json.Unmarshal(b, &rec); err != nil {
		return fmt.Errorf("job %s: %w", id, err)
	}
	p, err := n.partsOf(rec)
	if err != nil {
		return fmt.Errorf("job %s: %w", id, err)
	}
	used := map[proto.Hash]bool{}
	err = n.kv.scan("job/", func(key string, b []byte) error {
		if key == jobKey(id) {
			return nil
		}
		var other market.JobRecord
		if err := json.Unmarshal(b, &other); err != nil {
			return err
		}
		blobsOfJob(other, used)
		return nil
	})
	if err == nil {
		own := jobTasks(id)
		err = n.kv.scan("task/", func(key string, b []byte) error {
			if len(key) > len(own) && key[:len(own)] == own {
				return nil
			}
			return blobsOfTask(b, used)
		})
	}
	if err != nil {
		return fmt.Errorf("what other jobs use: %w", err)
	}
	writes := []write{{jobKey(id), nil}}
	for _, key := range p.keys {
		writes = append(writes, write{key, nil})
	}
	for h := range p.blobs {
		if !used[h] {
			writes = append(writes, write{blobKey(h), nil})
		}
	}
	if err := n.kv.commit(writes); err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	return nil
}

func jobTasks(id proto.JobID) string { return "task/" + id.String() + "/" }
