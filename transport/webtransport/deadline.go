package webtransport

import (
	"sync"
	"time"
)

// deadline is a point in time that can be waited for and moved while waited
// for. The zero value never comes.
type deadline struct {
	mu      sync.Mutex
	round   uint64 // counts calls of set, so that a late timer does nothing
	timer   *time.Timer
	reached chan struct{}
	past    bool
}

// set moves the deadline; the zero time removes it.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.round++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.past {
		d.past, d.reached = false, nil
	}
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.reach()
		return
	}
	round := d.round
	d.timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.round == round {
			d.reach()
		}
	})
}

func (d *deadline) reach() {
	d.past = true
	if d.reached == nil {
		d.reached = make(chan struct{})
	}
	close(d.reached)
}

// passed tells whether the deadline has come.
func (d *deadline) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.past
}

// wait returns a channel that is closed when the deadline comes. After a set
// that follows the end of a wait, ask for a new one.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reached == nil {
		d.reached = make(chan struct{})
	}
	return d.reached
}
