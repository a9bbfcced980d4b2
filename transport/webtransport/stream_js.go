package webtransport

import (
	"io"
	"sync"
	"syscall/js"

	pool "github.com/libp2p/go-buffer-pool"
	"github.com/libp2p/go-libp2p/core/network"
)

var (
	uint8Array  = js.Global().Get("Uint8Array")
	arrayBuffer = js.Global().Get("ArrayBuffer")
)

// memory keeps ArrayBuffers for reads and writes. Reads begin with small ones,
// because a Read that waits holds its buffer and most streams are idle.
type memory struct {
	size, keep int
	mu         sync.Mutex
	idle       []js.Value
}

var (
	small = &memory{size: 4 << 10, keep: 64}
	large = &memory{size: maxChunk, keep: 16}
)

func (m *memory) take() js.Value {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.idle); n > 0 {
		b := m.idle[n-1]
		m.idle = m.idle[:n-1]
		return b
	}
	return arrayBuffer.New(m.size)
}

func (m *memory) give(b js.Value) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.idle) < m.keep && b.Get("byteLength").Int() == m.size {
		m.idle = append(m.idle, b)
	}
}

// openStream takes both halves of a WebTransportBidirectionalStream. aborting
// is told how many aborts began (1) and were done (-1).
func openStream(v js.Value, gone func(), aborting func(int)) (*stream, error) {
	src := &readable{memory: small}
	half := v.Get("readable")
	reader, err := call(half, "getReader", map[string]any{"mode": "byob"})
	if err == nil {
		src.byob = true
	} else if reader, err = call(half, "getReader"); err != nil { // an engine without byte streams
		return nil, err
	}
	src.reader = reader
	writer, err := call(v.Get("writable"), "getWriter")
	if err != nil {
		return nil, err
	}
	return newStream(src, &writable{writer: writer, aborting: aborting}, gone), nil
}

// abandon resets a stream that nobody uses.
func abandon(v js.Value) {
	ignore(v.Get("readable").Call("cancel"))
	ignore(v.Get("writable").Call("abort"))
}

type readable struct {
	reader js.Value
	byob   bool // the browser fills our buffers instead of its own
	memory *memory
}

func (r *readable) pull(done func([]byte, error)) {
	var promise js.Value
	var err error
	m := r.memory
	if r.byob {
		promise, err = call(r.reader, "read", uint8Array.New(m.take()))
	} else {
		promise, err = call(r.reader, "read")
	}
	if err != nil {
		done(nil, streamError(err))
		return
	}
	then(promise, func(v js.Value, err error) {
		if err != nil {
			done(nil, streamError(err))
			return
		}
		var chunk []byte
		if data := v.Get("value"); data.Truthy() {
			if n := data.Get("byteLength").Int(); n > 0 {
				chunk = pool.Get(n)
				js.CopyBytesToGo(chunk, data)
				if n == m.size && m == small {
					r.memory = large
				}
			}
			if r.byob {
				m.give(data.Get("buffer"))
			}
		}
		if v.Get("done").Bool() {
			err = io.EOF
		}
		done(chunk, err)
	})
}

func (r *readable) cancel(code network.StreamErrorCode) {
	if promise, err := call(r.reader, "cancel", resetReason(code)); err == nil {
		ignore(promise)
	}
}

type writable struct {
	writer   js.Value
	aborting func(int)
}

func (w *writable) push(b []byte, done func(error)) {
	m := large
	if len(b) <= small.size {
		m = small
	}
	buffer := m.take()
	view := uint8Array.New(buffer, 0, len(b))
	js.CopyBytesToJS(view, b)
	promise, err := call(w.writer, "write", view)
	if err != nil {
		done(streamError(err))
		return
	}
	// The promise is kept when the browser took the chunk and its queue has
	// room again: that is the writer's back-pressure, and from then on the
	// buffer is ours.
	then(promise, func(_ js.Value, err error) {
		if err != nil {
			done(streamError(err))
			return
		}
		m.give(buffer)
		done(nil)
	})
}

func (w *writable) close() {
	if promise, err := call(w.writer, "close"); err == nil {
		ignore(promise)
	}
}

func (w *writable) abort(code network.StreamErrorCode) {
	w.aborting(1)
	promise, err := call(w.writer, "abort", resetReason(code))
	if err != nil {
		w.aborting(-1)
		return
	}
	then(promise, func(js.Value, error) { w.aborting(-1) })
}

// resetReason carries the code to the peer where the engine's WebTransportError
// takes it; the constructor's form differs between engines, and undefined
// stands for code 0.
func resetReason(code network.StreamErrorCode) js.Value {
	class := js.Global().Get("WebTransportError")
	if code == 0 || !class.Truthy() {
		return js.Undefined()
	}
	for _, args := range [][]any{
		{"reset", map[string]any{"source": "stream", "streamErrorCode": uint32(code)}},
		{map[string]any{"message": "reset", "streamErrorCode": uint32(code)}},
	} {
		v, err := construct(class, args...)
		if err != nil {
			continue
		}
		if c := v.Get("streamErrorCode"); c.Type() == js.TypeNumber && c.Float() == float64(code) {
			return v
		}
	}
	return js.Undefined()
}
