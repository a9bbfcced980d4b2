package webtransport

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	pool "github.com/libp2p/go-buffer-pool"
	"github.com/libp2p/go-libp2p/core/network"
)

// maxChunk is the most that goes to the browser in one piece, and the most
// that waits in Go for the piece before it.
const maxChunk = 64 << 10

var errWriteClosed = errors.New("write on closed stream")

// source is the readable half of a browser's stream. Its methods return at
// once. A pull after cancel is told an error.
type source interface {
	// pull asks for bytes. done is called exactly once, on any goroutine, even
	// before pull returns: with a pooled buffer that the callee gives back, or
	// with an error, io.EOF after the last byte. One pull at a time.
	pull(done func(chunk []byte, err error))
	cancel(code network.StreamErrorCode)
}

// sink is the writable half. Its methods return at once. A push after abort is
// told an error.
type sink interface {
	// push hands bytes over and keeps no reference. done is called exactly
	// once, on any goroutine, when there is room for more. One push at a time.
	push(b []byte, done func(error))
	close() // sends the end of the stream; nothing is being pushed
	abort(code network.StreamErrorCode)
}

// stream is a libp2p stream over a source and a sink. It needs no goroutine:
// whoever completes a pull or a push moves it on.
type stream struct {
	src  source
	dst  sink
	gone func() // called once, when both halves have ended

	mu sync.Mutex

	reading sync.Mutex // held by the one Read that waits
	arrived chan struct{}
	chunk   []byte // pooled
	unread  []byte // what is left of chunk
	pulling bool
	rerr    error // why no more bytes come
	rtime   deadline

	writing sync.Mutex // held by the one Write that waits
	room    chan struct{}
	queue   []byte // pooled; goes when the push in flight is done
	pushing bool
	closing bool  // the end follows what is queued
	werr    error // why no more bytes go
	wended  bool
	wtime   deadline
}

var _ network.MuxedStream = (*stream)(nil)

func newStream(src source, dst sink, gone func()) *stream {
	return &stream{src: src, dst: dst, gone: gone, arrived: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Read returns bytes as soon as there are some. A deadline that passes while
// it waits takes nothing away: what arrives later waits for the next Read.
func (s *stream) Read(p []byte) (int, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	for {
		if s.rtime.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		s.mu.Lock()
		switch {
		case len(s.unread) > 0:
			n := copy(p, s.unread)
			if s.unread = s.unread[n:]; len(s.unread) == 0 {
				s.dropChunk()
			}
			s.mu.Unlock()
			return n, nil
		case s.rerr != nil:
			err := s.rerr
			s.mu.Unlock()
			return 0, err
		case len(p) == 0:
			s.mu.Unlock()
			return 0, nil
		}
		ask := !s.pulling
		s.pulling = true
		s.mu.Unlock()
		if ask {
			s.src.pull(s.pulled)
			continue
		}
		select {
		case <-s.arrived:
		case <-s.rtime.wait():
		}
	}
}

func (s *stream) pulled(chunk []byte, err error) {
	s.mu.Lock()
	s.pulling = false
	if s.rerr != nil || len(chunk) == 0 { // nobody reads any more, or nothing came
		pool.Put(chunk)
	} else {
		s.chunk, s.unread = chunk, chunk
	}
	ended := err != nil && s.endRead(err)
	s.mu.Unlock()
	wake(s.arrived)
	s.done(ended)
}

// dropChunk gives the buffer back; mu is held.
func (s *stream) dropChunk() {
	if s.chunk != nil {
		pool.Put(s.chunk)
	}
	s.chunk, s.unread = nil, nil
}

// endRead and endWrite record why a half ended and tell whether that was the
// last half; mu is held.
func (s *stream) endRead(err error) bool {
	if s.rerr != nil {
		return false
	}
	s.rerr = err
	return s.wended
}

func (s *stream) endWrite(err error) bool {
	if s.werr == nil {
		s.werr = err
	}
	if s.queue != nil {
		pool.Put(s.queue)
		s.queue = nil
	}
	if s.wended {
		return false
	}
	s.wended = true
	return s.rerr != nil
}

func (s *stream) done(last bool) {
	if last {
		s.rtime.set(time.Time{})
		s.wtime.set(time.Time{})
		if s.gone != nil {
			s.gone()
		}
	}
}

// Write returns when p has been handed to the browser or is next in line
// there: while one chunk is under way at most one more waits, so a slow peer
// blocks it. After a deadline n says how much of p went.
func (s *stream) Write(p []byte) (n int, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	for {
		if s.wtime.passed() {
			return n, os.ErrDeadlineExceeded
		}
		s.mu.Lock()
		if s.werr != nil {
			defer s.mu.Unlock()
			return n, s.werr
		}
		if len(p) == 0 {
			s.mu.Unlock()
			return n, nil
		}
		if !s.pushing {
			k := min(len(p), maxChunk)
			s.pushing = true
			s.mu.Unlock()
			s.dst.push(p[:k], s.pushed)
			n, p = n+k, p[k:]
			continue
		}
		if k := min(len(p), maxChunk-len(s.queue)); k > 0 {
			if len(s.queue)+k > cap(s.queue) {
				s.grow(len(s.queue) + k)
			}
			s.queue = append(s.queue, p[:k]...)
			n, p = n+k, p[k:]
			s.mu.Unlock()
			continue
		}
		s.mu.Unlock()
		select {
		case <-s.room:
		case <-s.wtime.wait():
		}
	}
}

// grow makes room in the queue for size bytes; mu is held.
func (s *stream) grow(size int) {
	b := append(pool.Get(size)[:0], s.queue...)
	if s.queue != nil {
		pool.Put(s.queue)
	}
	s.queue = b
}

func (s *stream) pushed(err error) {
	s.mu.Lock()
	s.pushing = false
	var ended bool
	switch {
	case err != nil:
		ended = s.endWrite(err)
	case s.wended:
	case len(s.queue) > 0:
		b := s.queue
		s.queue, s.pushing = nil, true
		s.mu.Unlock()
		s.dst.push(b, s.pushed)
		pool.Put(b)
		wake(s.room)
		return
	case s.closing:
		ended = s.endWrite(errWriteClosed)
		s.mu.Unlock()
		s.dst.close()
		s.done(ended)
		return
	}
	s.mu.Unlock()
	wake(s.room)
	s.done(ended)
}

// CloseWrite sends what was written and then the end of the stream. It does
// not wait for either. It is an error after a reset.
func (s *stream) CloseWrite() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	if s.werr != nil {
		defer s.mu.Unlock()
		return s.werr
	}
	s.closing = true
	s.werr = errWriteClosed // for Write; what is queued still goes
	if s.pushing {
		s.mu.Unlock()
		wake(s.room)
		return nil
	}
	ended := s.endWrite(errWriteClosed)
	s.mu.Unlock()
	s.dst.close()
	wake(s.room)
	s.done(ended)
	return nil
}

// CloseRead tells the peer to stop sending and ends a Read that waits.
func (s *stream) CloseRead() error {
	s.stopReading(network.StreamNoError)
	return nil
}

func (s *stream) stopReading(code network.StreamErrorCode) {
	s.mu.Lock()
	open := s.rerr == nil
	ended := s.endRead(&network.StreamError{ErrorCode: code})
	s.rerr = &network.StreamError{ErrorCode: code} // also in place of io.EOF
	s.dropChunk()
	s.mu.Unlock()
	if open {
		s.src.cancel(code)
	}
	wake(s.arrived)
	s.done(ended)
}

// Close sends what was written and ends both halves.
func (s *stream) Close() error {
	s.CloseRead()
	return s.CloseWrite()
}

// Reset drops what was not sent and aborts both halves.
func (s *stream) Reset() error { return s.ResetWithError(network.StreamNoError) }

// ResetWithError is Reset with a code for the peer. go-libp2p's own
// WebTransport ignores it.
func (s *stream) ResetWithError(code network.StreamErrorCode) error {
	s.stopReading(code)
	s.mu.Lock()
	open := !s.wended
	s.werr = &network.StreamError{ErrorCode: code}
	ended := s.endWrite(s.werr)
	s.mu.Unlock()
	if open {
		s.dst.abort(code)
	}
	wake(s.room)
	s.done(ended)
	return nil
}

// fail ends both halves because the connection did; the browser has ended its
// halves itself. Bytes that arrived before can still be read.
func (s *stream) fail(err error) {
	s.mu.Lock()
	r := s.endRead(err)
	w := s.endWrite(err)
	s.mu.Unlock()
	wake(s.arrived)
	wake(s.room)
	s.done(r || w)
}

func (s *stream) SetDeadline(t time.Time) error {
	s.rtime.set(t)
	s.wtime.set(t)
	return nil
}

func (s *stream) SetReadDeadline(t time.Time) error {
	s.rtime.set(t)
	return nil
}

func (s *stream) SetWriteDeadline(t time.Time) error {
	s.wtime.set(t)
	return nil
}

var _ io.ReadWriteCloser = (*stream)(nil)
