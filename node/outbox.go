package node

import (
	"context"
	"sync"
)

// outbox is an ordered queue between the market loop, which must not block,
// and the goroutine that writes a stream. A peer that does not read what it
// asks for overflows it, and is cut off.
type outbox[T any] struct {
	mu     sync.Mutex
	items  []T
	closed bool
	wake   chan struct{}
}

func newOutbox[T any]() *outbox[T] { return &outbox[T]{wake: make(chan struct{}, 1)} }

// maxOutbox is far above what the market has in flight with one peer.
const maxOutbox = 1 << 16

// push reports false once the outbox is closed, which an overflow does.
func (o *outbox[T]) push(v T) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.items) >= maxOutbox {
		o.closed, o.items = true, nil
	}
	if o.closed {
		return false
	}
	o.items = append(o.items, v)
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return true
}

// pull waits for items and takes all of them; nil means ctx ended or close.
func (o *outbox[T]) pull(ctx context.Context) []T {
	for {
		o.mu.Lock()
		items, closed := o.items, o.closed
		o.items = nil
		o.mu.Unlock()
		if len(items) > 0 {
			return items
		}
		if closed {
			return nil
		}
		select {
		case <-o.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

func (o *outbox[T]) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take returns what is queued now, without waiting.
func (o *outbox[T]) take() []T {
	o.mu.Lock()
	defer o.mu.Unlock()
	items := o.items
	o.items = nil
	return items
}
