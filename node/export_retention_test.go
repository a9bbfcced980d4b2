package node

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// Retain makes one pass with these bounds.
func (n *Node) Retain(keep time.Duration, limit uint64) error {
	return n.jobs.retainOnce(time.Now(), keep, limit, map[proto.JobID]uint64{})
}

// StoredKeys counts the records of the state store.
func (n *Node) StoredKeys() (count int) {
	for _, table := range []string{"job/", "task/", "receipt/", "blob/"} {
		_ = n.kv.scan(table, func(string, []byte) error { count++; return nil })
	}
	return count
}

// HasBlob reports whether the state store has b.
func (n *Node) HasBlob(b []byte) bool {
	_, err := n.kv.get(blobKey(proto.HashOf(b)))
	return err == nil
}

// Evicted stores a job of an earlier run that is over, as the market leaves it
// when it holds too many: one task, paid from hold.
func (n *Node) Evicted(id proto.JobID, hold cid.Cid, inputs ...[]byte) error {
	job := market.JobRecord{Job: market.Job{ID: id, Type: "text", Inputs: make([]market.InputRef, len(inputs))}, State: market.Done}
	for i, in := range inputs {
		job.Job.Inputs[i] = market.InputRef{Hash: proto.HashOf(in), Size: uint64(len(in))}
		if err := n.putBlob(proto.HashOf(in), in); err != nil {
			return err
		}
	}
	task := market.TaskRecord{ID: proto.TaskID{Job: id}, State: market.Done, Replicas: []market.ReplicaRecord{
		{Worker: n.self, State: market.Done, Agreed: true, Paid: 7, Hold: hold, LaneAmount: 7, LaneUpto: 1},
	}}
	return n.keepRecords(map[string]any{jobKey(id): job, taskKey(task.ID): task})
}

// Watched is a node, not running yet, that says what its removals do.
type Watched struct {
	*Node
	Scans  map[string]int // of whole tables, by the table
	Locked bool           // the market could not save during one
	During func()         // called once, after the jobs were counted
}

func NewWatched(cfg Config) (*Watched, error) {
	n, err := New(cfg)
	if err != nil {
		return nil, err
	}
	w := &Watched{Node: n, Scans: map[string]int{}}
	n.kv = &watchedKV{n.kv, w}
	return w, nil
}

type watchedKV struct {
	kv
	w *Watched
}

func (k *watchedKV) scan(prefix string, fn func(string, []byte) error) error {
	j := k.w.jobs
	if j.removing.TryLock() { // no removal is under way
		j.removing.Unlock()
		return k.kv.scan(prefix, fn)
	}
	k.w.Scans[prefix]++
	err := k.kv.scan(prefix, func(key string, b []byte) error {
		if !j.blobs.TryRLock() {
			k.w.Locked = true
		} else {
			j.blobs.RUnlock()
		}
		return fn(key, b)
	})
	if prefix == "job/" && k.w.During != nil {
		k.w.During()
	}
	return err
}

// CountTask counts the record of a task as the market saves it.
func CountTask(recs ...market.TaskRecord) Counts {
	c := newCounts()
	for _, rec := range recs {
		c.countTask(rec)
	}
	return c
}

// KeepHold stores an open hold, or forgets it.
func (n *Node) KeepHold(hold cid.Cid, job proto.JobID, open bool) error {
	if !open {
		return n.kv.commit([]write{{holdKey(hold), nil}})
	}
	return n.keepRecords(map[string]any{holdKey(hold): market.HoldRecord{Hold: hold, Job: job}})
}

func (n *Node) keepRecords(recs map[string]any) error {
	for key, v := range recs {
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if err := n.kv.commit([]write{{key, b}}); err != nil {
			return err
		}
	}
	return nil
}
