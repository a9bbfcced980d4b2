package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
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
		size, known := sizes[id]
		if !known {
			if v, err := j.n.view(id); err != nil || !rec.State.Final() || !v.Settled {
				return nil
			}
			parts, err := j.n.partsOf(rec)
			if err != nil {
				return err
			}
			size = uint64(len(b)) + parts.size + j.n.sizeOf(parts.blobs)
			sizes[id] = size
		}
		list = append(list, keptJob{id, rec.Job.Created, size})
		return nil
	})
	if err != nil {
		return err
	}
	old := beyond(list, now, keep, limit)
	if len(old) == 0 {
		return nil
	}
	r, err := j.beginRemoval()
	if err != nil {
		return err
	}
	defer r.end()
	for _, id := range old {
		if err := r.remove(id); err != nil && proto.CodeOf(err) != proto.CodeNotFound { // its owner was faster
			return err
		}
		delete(sizes, id)
		j.n.activity.say("job removed", zap.Stringer("job", id))
	}
	return nil
}

// refs counts the records that name a blob.
type refs map[proto.Hash]int

// parts are the records and blobs of one job.
type parts struct {
	keys  []string // of tasks and receipts
	blobs refs
	size  uint64 // of the records, in bytes
}

// partsOf finds everything that is stored for a job.
func (n *Node) partsOf(rec market.JobRecord) (parts, error) {
	p := parts{blobs: refs{}}
	p.blobs.job(rec)
	for prefix, count := range map[string]func([]byte) error{
		jobTasks(rec.Job.ID):                   p.blobs.task,
		"receipt/" + rec.Job.ID.String() + "/": p.blobs.receipt,
		lostPrefix(rec.Job.ID):                 func([]byte) error { return nil }, // no blobs
		lostOutputPrefix(rec.Job.ID):           func([]byte) error { return nil },
	} {
		err := n.kv.scan(prefix, func(key string, b []byte) error {
			p.keys, p.size = append(p.keys, key), p.size+uint64(len(b))
			return count(b)
		})
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// sizeOf is what blobs take in the store, in bytes.
func (n *Node) sizeOf(blobs refs) (size uint64) {
	for h := range blobs {
		if b, err := n.kv.get(blobKey(h)); err == nil {
			size += uint64(len(b))
		}
	}
	return size
}

func (r refs) job(rec market.JobRecord) {
	for _, in := range rec.Job.Inputs {
		r[in.Hash]++
	}
	if h, err := proto.CIDHash(rec.Job.Module); err == nil {
		r[h]++
	}
}

func (r refs) task(raw []byte) error {
	var t market.TaskRecord
	if err := json.Unmarshal(raw, &t); err != nil {
		return err
	}
	r[t.Output]++
	r[t.Log]++
	for _, rep := range t.Replicas {
		r[rep.Output]++
	}
	return nil
}

// receipt counts what one replica delivered: each one's own log is kept.
func (r refs) receipt(raw []byte) error {
	var sr proto.SignedReceipt
	var rc proto.Receipt
	if err := goproto.Unmarshal(raw, &sr); err != nil {
		return err
	}
	if err := goproto.Unmarshal(sr.Receipt, &rc); err != nil {
		return err
	}
	for _, b := range [][]byte{rc.OutputHash, rc.LogHash} {
		if h, err := proto.ToHash(b); err == nil {
			r[h]++
		}
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
	r, err := n.jobs.beginRemoval()
	if err != nil {
		return err
	}
	defer r.end()
	return r.remove(id)
}

// blobUses notes the keys of blobs that jobs begin to use while a removal counts.
type blobUses struct {
	mu   sync.Mutex
	keys map[string]bool // nil while nothing is removed
}

func (u *blobUses) note(keys ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.keys == nil {
		return
	}
	for _, key := range keys {
		u.keys[key] = true
	}
}

func (u *blobUses) reset(keys map[string]bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.keys = keys
}

func (u *blobUses) has(key string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.keys[key]
}

// removal deletes jobs that were over and settled before it began, so that none
// of their records changes meanwhile.
type removal struct {
	j     *jobs
	blobs refs // of all records
}

// beginRemoval counts who uses which blob, once for all jobs that go. That takes
// long in a large store, so the market goes on meanwhile: what it begins to use
// is noted, and stays. The caller ends what it began.
func (j *jobs) beginRemoval() (*removal, error) {
	j.removing.Lock()
	r := &removal{j: j, blobs: refs{}}
	j.blobs.Lock() // jobs that are being stored now get their records first, and are counted
	j.begun.reset(map[string]bool{})
	j.blobs.Unlock()
	for table, count := range map[string]func([]byte) error{
		"job/": func(b []byte) error {
			var rec market.JobRecord
			if err := json.Unmarshal(b, &rec); err != nil {
				return err
			}
			r.blobs.job(rec)
			return nil
		},
		"task/":    r.blobs.task,
		"receipt/": r.blobs.receipt,
	} {
		if err := j.n.kv.scan(table, func(_ string, b []byte) error { return count(b) }); err != nil {
			r.end()
			return nil, fmt.Errorf("what jobs use: %w", err)
		}
	}
	return r, nil
}

func (r *removal) end() {
	r.j.begun.reset(nil)
	r.j.removing.Unlock()
}

// remove deletes a job's records and those of its blobs that no other job has.
// The market forgets the job first: should the process end in between, the
// records are there and the job is back at the next start.
func (r *removal) remove(id proto.JobID) error {
	j, n := r.j, r.j.n
	if err := n.tell(n.ctx, market.Remove{Job: id}); err != nil {
		return err
	}
	j.mu.Lock()
	_, stays := j.m.Job(id)
	j.mu.Unlock()
	if stays {
		return proto.CodeNotFinal.Errorf("job %s is not settled", id)
	}
	b, err := n.kv.get(jobKey(id))
	if errors.Is(err, errNoKey) {
		return proto.CodeNotFound.Errorf("job %s is not known to this node", id)
	}
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
	writes := []write{{jobKey(id), nil}}
	for _, key := range p.keys {
		writes = append(writes, write{key, nil})
	}
	j.blobs.Lock() // no other job may begin to use one of the blobs
	defer j.blobs.Unlock()
	for h, own := range p.blobs {
		if r.blobs[h] <= own && !j.begun.has(blobKey(h)) {
			writes = append(writes, write{blobKey(h), nil}, write{moduleKey(h), nil})
		}
	}
	if err := n.kv.commit(writes); err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	for h, own := range p.blobs {
		r.blobs[h] -= own
	}
	return nil
}

func jobTasks(id proto.JobID) string { return "task/" + id.String() + "/" }
