package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// crowd drives places by a clock of its own.
type crowd struct {
	t *testing.T
	*places
	now time.Time
	all map[peer.ID]*syncSession
}

func newCrowd(t *testing.T, most int, apart bool) *crowd {
	return &crowd{t, newPlaces(most, func(p peer.ID) bool { return p[0] == 'W' }, apart), time.Now(), map[peer.ID]*syncSession{}}
}

func (c *crowd) begins(id peer.ID, want bool) {
	c.t.Helper()
	s := newSyncSession(c.t.Context())
	s.moved(c.now)
	if got := c.take(c.now, id, s); got != want {
		c.t.Errorf("%s gets a place: %v, want %v", id, got, want)
	} else if got {
		c.all[id] = s
	}
}

func (c *crowd) ended(want ...peer.ID) {
	c.t.Helper()
	for _, id := range want {
		if s := c.all[id]; s.Err() == nil || c.of[id] == s {
			c.t.Errorf("the session of %s goes on", id)
		}
		delete(c.all, id)
	}
	for id, s := range c.all {
		if s.Err() != nil || c.of[id] != s {
			c.t.Errorf("the session of %s ended", id)
		}
	}
}

func TestPlaces(t *testing.T) {
	c := newCrowd(t, 2, true)
	c.begins("a", true)
	c.begins("a", false)
	c.now = c.now.Add(syncQuiet / 2)
	c.begins("b", true)
	c.begins("c", false)
	for i := range 8 { // witnesses need no place
		c.begins(peer.ID(fmt.Sprint("W", i)), true)
	}
	c.ended()
	c.now = c.now.Add(syncQuiet / 2)
	c.all["a"].moved(c.now)
	c.begins("c", false) // b is not quiet for long enough
	c.now = c.now.Add(syncQuiet / 2)
	c.begins("c", true)
	c.ended("b")
	c.now = c.now.Add(time.Hour)
	c.begins("b", true)
	c.ended("a")

	// Who hangs up and begins anew takes nobody's place, and loses its own.
	c = newCrowd(t, 2, true)
	c.begins("bad", true)
	c.leave(c.now, "bad", c.all["bad"], false)
	delete(c.all, "bad")
	c.begins("a", true)
	c.begins("bad", true)
	c.begins("b", true)
	c.ended("bad")
	c.now = c.now.Add(2 * syncQuiet)
	c.begins("bad", false)
	c.leave(c.now, "a", c.all["a"], true)
	delete(c.all, "a")
	c.begins("bad", true)
	c.leave(c.now, "bad", c.all["bad"], true) // came to its end this time
	delete(c.all, "bad")
	c.begins("bad", true)
	c.all["b"].moved(c.now)
	c.begins("c", false)

	// One that lost its place gives up no other.
	c = newCrowd(t, 1, true)
	c.begins("a", true)
	old := c.all["a"]
	c.now = c.now.Add(syncQuiet)
	c.begins("b", true)
	c.leave(c.now, "a", old, true)
	c.now = c.now.Add(syncFailed)
	c.begins("a", true)
	c.leave(c.now, "a", old, true)
	if c.of["a"] != c.all["a"] {
		t.Error("an old session's end took the place of a new one")
	}
}

// A witness always finds a place to join by, unless others have all.
func TestWitnessTakesAPlace(t *testing.T) {
	c := newCrowd(t, 2, false)
	c.begins("a", true)
	c.now = c.now.Add(time.Millisecond)
	c.begins("b", true)
	c.begins("W1", true)
	c.ended("a")
	c.begins("W2", true)
	c.ended("b")
	c.begins("W3", false)
	c.now = c.now.Add(syncQuiet)
	c.begins("c", false)
	c.all["W1"].moved(c.now)
	c.begins("W3", true)
	c.ended("W2")
}
