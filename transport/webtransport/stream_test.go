package webtransport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pool "github.com/libp2p/go-buffer-pool"
	"github.com/libp2p/go-libp2p/core/network"
	"pgregory.net/rapid"
)

// fakeSource gives out what a test feeds it, when it feeds it.
type fakeSource struct {
	mu      sync.Mutex
	waiting func([]byte, error)
	queue   []func(func([]byte, error))
	stopped []network.StreamErrorCode
	pulls   int
}

func (f *fakeSource) pull(done func([]byte, error)) {
	f.mu.Lock()
	f.pulls++
	if f.waiting != nil {
		panic("two pulls at a time")
	}
	if len(f.queue) == 0 {
		f.waiting = done
		f.mu.Unlock()
		return
	}
	next := f.queue[0]
	f.queue = f.queue[1:]
	f.mu.Unlock()
	next(done)
}

func (f *fakeSource) cancel(code network.StreamErrorCode) { f.stopped = append(f.stopped, code) }

func (f *fakeSource) feed(b []byte, err error) {
	var chunk []byte
	if b != nil {
		chunk = pool.Get(len(b))
		copy(chunk, b)
	}
	f.mu.Lock()
	done := f.waiting
	f.waiting = nil
	if done == nil {
		f.queue = append(f.queue, func(done func([]byte, error)) { done(chunk, err) })
	}
	f.mu.Unlock()
	if done != nil {
		done(chunk, err)
	}
}

// fakeSink collects; it has room for a chunk each time accept is called.
type fakeSink struct {
	mu      sync.Mutex
	got     []byte
	waiting func(error)
	free    int // chunks that are accepted at once
	closed  int
	aborted []network.StreamErrorCode
}

func (f *fakeSink) push(b []byte, done func(error)) {
	f.mu.Lock()
	if f.waiting != nil {
		panic("two pushes at a time")
	}
	if f.closed > 0 {
		panic("push after close")
	}
	if len(b) > maxChunk {
		panic("chunk too large")
	}
	f.got = append(f.got, b...)
	if f.free > 0 {
		f.free--
		f.mu.Unlock()
		done(nil)
		return
	}
	f.waiting = done
	f.mu.Unlock()
}

func (f *fakeSink) close()                             { f.mu.Lock(); f.closed++; f.mu.Unlock() }
func (f *fakeSink) abort(code network.StreamErrorCode) { f.aborted = append(f.aborted, code) }

func (f *fakeSink) accept(err error) bool {
	f.mu.Lock()
	done := f.waiting
	f.waiting = nil
	f.mu.Unlock()
	if done != nil {
		done(err)
	}
	return done != nil
}

type pipe struct {
	*stream
	src  *fakeSource
	dst  *fakeSink
	gone int
}

func newPipe() *pipe {
	p := &pipe{src: &fakeSource{}, dst: &fakeSink{}}
	p.stream = newStream(p.src, p.dst, func() { p.gone++ })
	return p
}

func TestReadDeadlineLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe()
		b := make([]byte, 3)
		start := time.Now()
		p.SetReadDeadline(start.Add(time.Second))
		if _, err := p.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		p.src.feed([]byte("hello"), nil) // for the pull of the Read that gave up
		if _, err := p.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read after the deadline: %v", err)
		}
		p.SetReadDeadline(time.Time{})
		p.src.feed(nil, io.EOF)
		got, err := io.ReadAll(p)
		if string(got) != "hello" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		if p.src.pulls != 2 {
			t.Fatalf("%d pulls", p.src.pulls)
		}
	})
}

func TestDeadlineMovesWhileReadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe()
		start := time.Now()
		took := func(f func()) time.Duration {
			done := make(chan error)
			go func() { _, err := p.Read(make([]byte, 1)); done <- err }()
			synctest.Wait()
			f()
			if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			d := time.Since(start)
			start = time.Now()
			return d
		}
		p.SetReadDeadline(start.Add(time.Hour))
		if d := took(func() { p.SetReadDeadline(start.Add(time.Second)) }); d != time.Second {
			t.Errorf("sooner: %v", d)
		}
		p.SetReadDeadline(start.Add(time.Second))
		if d := took(func() { p.SetReadDeadline(start.Add(time.Hour)) }); d != time.Hour {
			t.Errorf("later: %v", d)
		}
		p.SetReadDeadline(time.Time{})
		if d := took(func() { p.SetReadDeadline(start.Add(-1)) }); d != 0 {
			t.Errorf("past: %v", d)
		}
	})
}

// A peer that does not read stops the writer after two chunks; the deadline
// ends the wait, and what was counted is what goes.
func TestWriteDeadlineAndBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe()
		data := bytes.Repeat([]byte("0123456789"), 100_000)
		start := time.Now()
		p.SetWriteDeadline(start.Add(time.Second))
		n, err := p.Write(data)
		if n != 2*maxChunk || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Fatalf("%d bytes, %v, after %v", n, err, time.Since(start))
		}
		p.SetWriteDeadline(time.Time{})
		done := make(chan error)
		go func() {
			_, err := p.Write(data[n:])
			p.CloseWrite()
			done <- err
		}()
		for range 50 {
			synctest.Wait()
			p.dst.accept(nil)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p.dst.got, data) || p.dst.closed != 1 {
			t.Fatalf("%d bytes of %d went, closed %d times", len(p.dst.got), len(data), p.dst.closed)
		}
	})
}

func TestCloseFlushesAndCountsOnce(t *testing.T) {
	p := newPipe()
	p.Write([]byte("a"))
	p.Write([]byte("bc")) // waits for the first
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if p.dst.closed != 0 {
		t.Fatal("closed before the bytes went")
	}
	if p.gone != 0 {
		t.Fatal("gone before the bytes went")
	}
	p.dst.accept(nil)
	p.dst.accept(nil)
	if string(p.dst.got) != "abc" || p.dst.closed != 1 || len(p.src.stopped) != 1 || p.gone != 1 {
		t.Fatalf("%q, closed %d, stopped %d, gone %d", p.dst.got, p.dst.closed, len(p.src.stopped), p.gone)
	}
	p.Close()
	p.Reset()
	p.fail(io.ErrClosedPipe)
	if p.dst.closed != 1 || len(p.dst.aborted) != 0 || len(p.src.stopped) != 1 || p.gone != 1 {
		t.Fatal("a closed stream closes again")
	}
}

func TestResetEndsReadAndWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe()
		errs := make(chan error, 2)
		go func() { _, err := p.Read(make([]byte, 1)); errs <- err }()
		go func() { _, err := p.Write(make([]byte, 10*maxChunk)); errs <- err }()
		synctest.Wait()
		p.ResetWithError(7)
		for range 2 {
			var e *network.StreamError
			if err := <-errs; !errors.As(err, &e) || e.ErrorCode != 7 || e.Remote || !errors.Is(err, network.ErrReset) {
				t.Errorf("%v", err)
			}
		}
		if len(p.dst.aborted) != 1 || p.dst.aborted[0] != 7 || len(p.src.stopped) != 1 || p.gone != 1 {
			t.Errorf("aborted %v, stopped %v, gone %d", p.dst.aborted, p.src.stopped, p.gone)
		}
		// The browser settles what was under way.
		p.dst.accept(errors.New("aborted"))
		p.src.feed([]byte("late"), nil)
		if n, err := p.Read(make([]byte, 4)); n != 0 || err == nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
		if err := p.CloseWrite(); err == nil {
			t.Error("CloseWrite after a reset says nothing")
		}
		if len(p.dst.got) > 2*maxChunk {
			t.Error("writes after a reset")
		}
	})
}

func TestHalvesAreIndependent(t *testing.T) {
	p := newPipe()
	p.dst.free = 100
	p.src.feed([]byte("x"), nil)
	p.CloseWrite()
	if _, err := p.Write([]byte("y")); err == nil {
		t.Error("write after CloseWrite")
	}
	b := make([]byte, 2)
	if n, err := p.Read(b); n != 1 || err != nil {
		t.Errorf("read after CloseWrite: %d, %v", n, err)
	}
	if p.gone != 0 {
		t.Error("gone with one half open")
	}
	p.CloseRead()
	if _, err := p.Read(b); err == nil || err == io.EOF {
		t.Errorf("read after CloseRead: %v", err)
	}
	if p.gone != 1 {
		t.Errorf("gone %d times", p.gone)
	}

	p = newPipe()
	p.dst.free = 100
	p.CloseRead()
	if n, err := p.Write([]byte("y")); n != 1 || err != nil {
		t.Errorf("write after CloseRead: %d, %v", n, err)
	}
	remote := &network.StreamError{Remote: true, ErrorCode: 3}
	p = newPipe()
	p.src.feed([]byte("first"), nil)
	p.src.feed(nil, remote)
	got, err := io.ReadAll(p)
	if string(got) != "first" || !errors.Is(err, remote) {
		t.Errorf("%q, %v", got, err)
	}
	p.Write([]byte("a"))
	p.dst.accept(remote)
	if _, err := p.Write([]byte("b")); !errors.Is(err, remote) {
		t.Errorf("write after the peer stopped: %v", err)
	}
}

// Whatever the sizes and however late the browser is, both directions carry
// the same bytes.
func TestStreamCarries(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 3*maxChunk).Draw(r, "data")
		in, out := newPipe(), newPipe()
		rest := data
		for len(rest) > 0 {
			k := rapid.IntRange(1, min(len(rest), 2*maxChunk)).Draw(r, "write")
			out.SetWriteDeadline(time.Now().Add(-1))
			out.SetWriteDeadline(time.Time{})
			done := make(chan error, 1)
			go func() { _, err := out.Write(rest[:k]); done <- err }()
			for over := false; !over; {
				select {
				case err := <-done:
					if err != nil {
						r.Fatal(err)
					}
					over = true
				default:
					out.dst.accept(nil)
					runtime.Gosched() // js has one thread
				}
			}
			rest = rest[k:]
		}
		out.CloseWrite()
		for out.dst.accept(nil) {
		}
		if !bytes.Equal(out.dst.got, data) || out.dst.closed != 1 {
			r.Fatalf("%d of %d bytes went, closed %d", len(out.dst.got), len(data), out.dst.closed)
		}
		for rest = data; len(rest) > 0; {
			k := rapid.IntRange(1, len(rest)).Draw(r, "chunk")
			in.src.feed(rest[:k], nil)
			rest = rest[k:]
		}
		in.src.feed(nil, io.EOF)
		var got []byte
		b := make([]byte, rapid.IntRange(1, 70_000).Draw(r, "read"))
		for {
			n, err := in.Read(b)
			got = append(got, b[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				r.Fatal(err)
			}
		}
		if !bytes.Equal(got, data) {
			r.Fatalf("%d of %d bytes came", len(got), len(data))
		}
	})
}

func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newBacklog()
		b := make([]byte, 3)
		q.deadline.set(time.Now().Add(time.Second))
		if _, err := q.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		q.deadline.set(time.Time{})
		go func() {
			for i := range 5 {
				q.put(fmt.Appendf(nil, "message %d,", i))
			}
			q.end(io.EOF, false)
		}()
		got, err := io.ReadAll(q)
		if err != nil || string(got) != "message 0,message 1,message 2,message 3,message 4," {
			t.Fatalf("%q, %v", got, err)
		}
		q = newBacklog()
		for range maxBacklog / (1 << 20) {
			if err := q.put(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.put([]byte{1}); !errors.Is(err, errBacklog) {
			t.Fatalf("a peer fills memory: %v", err)
		}
		if n, err := q.Read(b); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		if err := q.put([]byte{1}); err != nil {
			t.Fatal(err)
		}
		q.end(errBacklog, true)
		if _, err := q.Read(b); !errors.Is(err, errBacklog) {
			t.Fatal(err)
		}
	})
}
