package node

import (
	"context"
	"io"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// Inputs and modules that a worker does not have come before their execution
// gets a slot. A submitter that serves them slowly or never holds places of its
// own only, and those not for long.

const (
	inputFetches   = 1024             // at once, of all submitters: of as many as the market has places for
	inputFetchesOf = 4                // of one; others of its own wait
	fetchTurn      = 30 * time.Second // before one gives its place to a submitter with more at stake

	fetchRate = 32 << 10 // bytes a second after the grace, on average
)

// fetchGrace is for the first byte, and what a pause may last at the beginning;
// tests have another one.
var fetchGrace = 30 * time.Second

// fetchWait is how long an execution waits for others of its submitter to be
// fetched before it is refused as busy; tests have another one.
var fetchWait = time.Minute

var errAwaited = proto.CodeBusy.Errorf("too many inputs are awaited")

var errDropped = proto.CodeFetch.Errorf("the input was dropped: too many assignments at once")

// fetch brings module and input of an execution here and tells the market. It
// ends with the execution.
func (w *work) fetch(o market.Fetch) {
	k := execKey{o.From, o.Ref}
	ctx, cancel := context.WithCancel(w.n.ctx)
	w.mu.Lock()
	e := w.execs[k]
	if e != nil {
		e.cancel = cancel
	}
	w.mu.Unlock()
	w.n.goDo(func(context.Context) {
		defer cancel()
		err := error(errDropped)
		if e != nil {
			err = w.bring(ctx, k, e, o.Assignment)
		}
		in := market.Fetched{From: k.from, Ref: k.ref}
		if err != nil {
			in.Code, in.Reason = proto.CodeOf(err), proto.Clip(err.Error(), 200)
		}
		w.mu.Lock()
		stopped := e != nil && w.execs[k] != e
		w.mu.Unlock()
		if !stopped {
			w.n.jobs.post(in)
		}
	})
}

// bring waits for a place among its submitter's fetches and fetches.
func (w *work) bring(ctx context.Context, k execKey, e *execution, a *proto.Assignment) error {
	waits, stop := context.WithTimeout(ctx, fetchWait)
	place, ok := w.fetching.take(waits, k.from, w.siteOf(k.from), nil)
	stop()
	if !ok {
		return errAwaited
	}
	defer w.fetching.leave(place)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(place, func() { cancel(errAwaited) })()
	_, err := w.module(ctx, k.from, a)
	if err == nil {
		err = w.input(ctx, k, e, a)
	}
	if err != nil && context.Cause(ctx) == errAwaited {
		err = errAwaited
	}
	return err
}

// input fetches an execution's input, unless that came with its assignment.
func (w *work) input(ctx context.Context, k execKey, e *execution, a *proto.Assignment) error {
	if !e.input.cid.Defined() {
		return nil
	}
	want, err := proto.ToHash(a.InputHash)
	if err != nil {
		return err
	}
	h, err := proto.CIDHash(e.input.cid)
	if err != nil {
		return err
	}
	if h != want {
		return proto.CodeInputHash.Errorf("the input's CID is not the one assigned")
	}
	kept := 0
	body, err := w.n.fetchPaced(ctx, k.from, h, e.input.key, proto.MaxInput, func(n int) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.execs[k] != e {
			return context.Canceled
		}
		if !w.bytes(k.from, n) {
			return proto.CodeBusy.Errorf("its inputs take too much memory here")
		}
		kept += n
		return nil
	})
	if err == nil {
		err = isInput(body, a)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil || w.execs[k] != e {
		w.bytes(k.from, -kept)
		return err
	}
	e.input.inline, e.input.cid = body, cid.Undef // counted as it came
	return nil
}

// isInput checks that body is the input assigned.
func isInput(body []byte, a *proto.Assignment) error {
	want, err := proto.ToHash(a.InputHash)
	if err != nil {
		return err
	}
	if proto.HashOf(body) != want || uint64(len(body)) != a.InputSize {
		return proto.CodeInputHash.Errorf("the input is not the one assigned")
	}
	return nil
}

// fetchPaced asks from for the blob with hash h of at most limit bytes, as long
// as it comes at the least rate. count is asked before bytes are kept.
func (n *Node) fetchPaced(ctx context.Context, from peer.ID, h proto.Hash, key []byte, limit uint64, count func(int) error) ([]byte, error) {
	if b, err := n.blob(h); err == nil {
		return b, count(len(b))
	}
	slow := proto.CodeFetch.Errorf("blob %s from %s: it came slower than %d KiB a second", h.CID(), from, fetchRate>>10)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &paced{count: count, began: time.Now()} // once it is served
	p.timer = time.AfterFunc(fetchGrace, func() { cancel(slow) })
	defer p.timer.Stop()
	var body []byte
	err := n.readBlob(ctx, from, h, key, 0, limit, p.waits, func(r io.Reader) (err error) {
		p.from = r
		body, err = io.ReadAll(p)
		return err
	})
	switch {
	case p.refused != nil:
		return nil, p.refused
	case err != nil && context.Cause(ctx) == slow:
		return nil, slow
	case err != nil:
		return nil, err
	case proto.HashOf(body) != h:
		return nil, mismatch(from, h)
	}
	return body, nil
}

// paced passes bytes on and puts off the end of its patience with each.
type paced struct {
	from    io.Reader
	count   func(int) error
	began   time.Time
	timer   *time.Timer
	read    int64
	refused error
}

// waits starts its patience anew: the other side serves others first.
func (p *paced) waits() {
	p.began = time.Now()
	p.timer.Reset(fetchGrace)
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.from.Read(b)
	if p.refused = p.count(n); p.refused != nil {
		return 0, p.refused
	}
	p.read += int64(n)
	p.timer.Reset(time.Until(p.began.Add(fetchGrace + time.Duration(p.read)*time.Second/fetchRate)))
	return n, err
}
