package webtransport

import (
	"errors"
	"os"
	"sync"
)

// maxBacklog bounds what a WebSocket has received and nobody has read. Its API
// cannot slow the peer down, but honest peers are slowed by yamux' windows far
// below this.
const maxBacklog = 32 << 20

var errBacklog = errors.New("the peer sends more than is read")

// backlog queues received messages and gives them out as a stream of bytes.
type backlog struct {
	reading  sync.Mutex
	arrived  chan struct{}
	deadline deadline

	mu    sync.Mutex
	queue [][]byte
	size  int
	err   error
}

func newBacklog() *backlog { return &backlog{arrived: make(chan struct{}, 1)} }

// put adds a message, which belongs to the backlog from now on.
func (q *backlog) put(b []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil || len(b) == 0 {
		return q.err
	}
	if q.size+len(b) > maxBacklog {
		return errBacklog
	}
	q.queue = append(q.queue, b)
	q.size += len(b)
	wake(q.arrived)
	return nil
}

// end makes Read fail with err after what is queued; with drop at once.
func (q *backlog) end(err error, drop bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
	if drop {
		q.queue, q.size = nil, 0
	}
	wake(q.arrived)
}

// Read is net.Conn's.
func (q *backlog) Read(p []byte) (int, error) {
	q.reading.Lock()
	defer q.reading.Unlock()
	for {
		if q.deadline.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		q.mu.Lock()
		if len(q.queue) > 0 {
			n := copy(p, q.queue[0])
			q.size -= n
			if q.queue[0] = q.queue[0][n:]; len(q.queue[0]) == 0 {
				q.queue[0] = nil
				if q.queue = q.queue[1:]; len(q.queue) == 0 {
					q.queue = nil
				}
			}
			q.mu.Unlock()
			return n, nil
		}
		err := q.err
		q.mu.Unlock()
		if err != nil || len(p) == 0 {
			return 0, err
		}
		select {
		case <-q.arrived:
		case <-q.deadline.wait():
		}
	}
}
