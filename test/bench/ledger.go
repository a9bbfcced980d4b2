package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	store "edgenet.dev/ledger/store/pebble"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox/modules"
	"edgenet.dev/test/daemon"
)

// ledgerSpeed: how fast one core checks and unites certified events, against
// the bare signature checks in them, and how fast they reach the disk, against
// raw pebble with the same bytes.
func (b bench) ledgerSpeed(context.Context) ([]row, error) {
	const events = 4000
	net, set, err := certifiedEvents(events)
	if err != nil {
		return nil, err
	}
	validated, bare, err := validation(net, set)
	if err != nil {
		return nil, err
	}
	ours, raw, err := ingest(net, set)
	if err != nil {
		return nil, err
	}
	return []row{
		{
			Name: "events_validated_per_s_core", Value: validated, Unit: "events/s",
			Baseline: fmt.Sprintf("%.0f with nothing but its 4 Ed25519 checks", bare), Goal: ">= 0.8 of it",
		},
		{
			Name: "ingest_over_pebble", Value: ours / raw, Unit: "ratio",
			Baseline: fmt.Sprintf("%.0f events/s in raw pebble batches of %d, synced", raw, ingestBatch), Goal: ">= 0.5",
		},
	}, nil
}

// certifiedEvents makes a chain of transfers of a network of four witnesses.
func certifiedEvents(n int) (*proto.Network, []*proto.CertifiedEvent, error) {
	key := func(i int) (crypto.PrivKey, peer.ID, error) {
		seed := proto.HashOf(fmt.Appendf(nil, "bench %d", i))
		k, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
		if err != nil {
			return nil, "", err
		}
		id, err := peer.IDFromPrivateKey(k)
		return k, id, err
	}
	g := &proto.Genesis{Name: "bench", Nonce: make([]byte, 16)}
	var witnesses []crypto.PrivKey
	for i := range 4 {
		k, id, err := key(i)
		if err != nil {
			return nil, nil, err
		}
		witnesses = append(witnesses, k)
		g.Witnesses = append(g.Witnesses, []byte(id))
	}
	payer, from, err := key(4)
	if err != nil {
		return nil, nil, err
	}
	_, to, err := key(5)
	if err != nil {
		return nil, nil, err
	}
	g.Grants = []*proto.Grant{{Account: []byte(from), Amount: uint64(1000 * proto.OneCredit)}}
	raw, err := goproto.Marshal(g)
	if err != nil {
		return nil, nil, err
	}
	net, err := proto.ParseGenesis(raw)
	if err != nil {
		return nil, nil, err
	}
	l, err := ledger.Open(net, mem.New())
	if err != nil {
		return nil, nil, err
	}
	var out []*proto.CertifiedEvent
	for i := range n {
		var body any = &proto.Transfer{To: []byte(to), Amount: 1}
		if i == 0 {
			body = &proto.Open{}
		}
		ev, err := l.Draft(from, 0, 1_700_000_000_000, body)
		if err != nil {
			return nil, nil, err
		}
		raw, err := proto.Seal(payer, net.ID, &proto.Payload{Body: &proto.Payload_Event{Event: ev}})
		if err != nil {
			return nil, nil, err
		}
		s, err := proto.Inspect(raw, proto.KindEvent)
		if err != nil {
			return nil, nil, err
		}
		cert := new(proto.Certificate)
		for _, k := range witnesses[:net.Quorum()] {
			c, err := proto.Seal(k, net.ID, &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{
				Slot: ledger.AccountSlot(from, ev.Seq), Id: s.ID.Bytes(),
			}}})
			if err != nil {
				return nil, nil, err
			}
			cert.Commits = append(cert.Commits, c)
		}
		wire := &proto.CertifiedEvent{Event: raw, Certificate: cert}
		if _, err := l.Add(wire); err != nil {
			return nil, nil, err
		}
		out = append(out, wire)
	}
	return net, out, nil
}

// validation times Add from the bytes as received, and the bare checks of as
// many signatures over messages of the same length.
func validation(net *proto.Network, set []*proto.CertifiedEvent) (ours, bare float64, err error) {
	l, err := ledger.Open(net, mem.New())
	if err != nil {
		return 0, 0, err
	}
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		return 0, 0, err
	}
	msg := make([]byte, len(set[0].Event))
	sig := ed25519.Sign(priv, msg)
	var tOurs, tBare time.Duration
	const step = 250 // in turns, so that a busy machine slows both
	for at := 0; at < len(set); at += step {
		part := set[at:min(at+step, len(set))]
		start := time.Now()
		added, err := l.Add(part...)
		tOurs += time.Since(start)
		if err != nil || len(added) != len(part) {
			return 0, 0, fmt.Errorf("%d of %d events added: %w", len(added), len(part), err)
		}
		start = time.Now()
		for range part {
			for range 1 + net.Quorum() {
				if !ed25519.Verify(pub, msg, sig) {
					return 0, 0, errors.New("a signature does not match")
				}
			}
		}
		tBare += time.Since(start)
	}
	n := float64(len(set))
	return n / tOurs.Seconds(), n / tBare.Seconds(), nil
}

// ingestBatch is how many events arrive at once.
const ingestBatch = 64

// recorder keeps the batches that a ledger writes.
type recorder struct {
	ledger.Store
	batches [][]ledger.Record
}

func (r *recorder) Append(batch ...ledger.Record) error {
	r.batches = append(r.batches, batch)
	return r.Store.Append(batch...)
}

// ingest times checked events into a store on disk, rules and durability
// included, and then the very same records in raw pebble batches.
func ingest(net *proto.Network, set []*proto.CertifiedEvent) (ours, raw float64, err error) {
	dir, err := os.MkdirTemp("", "edgenet-bench-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(filepath.Join(dir, "ours"))
	if err != nil {
		return 0, 0, err
	}
	defer s.Close()
	db, err := pebble.Open(filepath.Join(dir, "raw"), &pebble.Options{MemTableSize: 4 << 20, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	rec := &recorder{Store: s}
	l, err := ledger.Open(net, rec)
	if err != nil {
		return 0, 0, err
	}
	var checked []*ledger.Certified
	for _, w := range set {
		c, err := ledger.Verify(net, w)
		if err != nil {
			return 0, 0, err
		}
		checked = append(checked, c)
	}
	var tOurs, tRaw time.Duration
	for at := 0; at < len(checked); at += ingestBatch {
		rec.batches = nil
		start := time.Now()
		if _, err := l.AddVerified(nil, checked[at:min(at+ingestBatch, len(checked))]...); err != nil {
			return 0, 0, err
		}
		tOurs += time.Since(start)
		start = time.Now()
		for _, records := range rec.batches {
			b := db.NewBatch()
			for _, r := range records {
				if err := b.Set(r.Key, r.Value, nil); err != nil {
					return 0, 0, err
				}
			}
			if err := b.Commit(pebble.Sync); err != nil {
				return 0, 0, err
			}
		}
		tRaw += time.Since(start)
	}
	n := float64(len(checked))
	return n / tOurs.Seconds(), n / tRaw.Seconds(), nil
}

// quiet is a logger for the baseline.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

// ledgerBytes: what a task leaves in the set that every node holds: the
// certified events of its job, from hold to last settlement, read off the
// payer's disk after the job.
func (b bench) ledgerBytes(ctx context.Context) (rows []row, err error) {
	n, err := b.running(ctx, three())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	payer := n.Node("submitter")
	input, err := modules.Encode(proto.TypeText, []byte("one tiny task"))
	if err != nil {
		return nil, err
	}
	tasks := b.batch / 4
	req := &api.SubmitRequest{Type: proto.TypeText, Redundancy: 2, MaxCredits: uint64(grant / 2), TimeoutMs: 600_000, FuelLimit: 100_000_000}
	for range tasks {
		req.Inputs = append(req.Inputs, input)
	}
	r, err := daemon.Call(ctx, payer.Tasks.Submit, req)
	if err != nil {
		return nil, err
	}
	for done := false; !done; {
		j, err := daemon.Call(ctx, payer.Tasks.List, &api.ListRequest{Limit: 1})
		if err != nil {
			return nil, err
		}
		balance, err := daemon.Call(ctx, payer.Wallet.Balance, new(api.BalanceRequest))
		if err != nil {
			return nil, err
		}
		switch top := j.Jobs[0]; top.State {
		case "done":
			if int(top.Verified) != tasks {
				return nil, fmt.Errorf("job %s: %d of %d tasks verified", r.Job, top.Verified, tasks)
			}
			done = balance.Held == 0 // the session is settled
		case "failed", "cancelled", "expired":
			return nil, fmt.Errorf("job %s %s: %s\n%s", r.Job, top.State, top.Reason, n.Logs(4000))
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	payer.Terminate(10 * time.Second)
	s, err := store.Open(filepath.Join(payer.Dir, "ledger"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	l, err := ledger.Open(n.Network, s)
	if err != nil {
		return nil, err
	}
	size, events := 0, 0
	for _, id := range l.Accounts() {
		for _, c := range l.History(id, 1<<20) {
			if c.Event.GetOpen() == nil {
				size += goproto.Size(c.Wire)
				events++
			}
		}
	}
	return []row{{
		Name: "bytes_per_task", Value: float64(size) / float64(tasks), Unit: "B",
		Baseline: fmt.Sprintf("%d certified events for %d tasks on 2 workers, redundancy 2", events, tasks), Goal: "no target; falls with the batch",
	}}, nil
}
