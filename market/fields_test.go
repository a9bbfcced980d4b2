package market

import (
	"testing"
	"time"

	"edgenet.dev/proto/fieldtest"
)

// A hold that was saved and restored is the same when it is saved again.
func TestNoFieldOfAHoldIsLost(t *testing.T) {
	fieldtest.Carried(t, func(r HoldRecord) HoldRecord {
		r.Closed = false
		m, err := New(Config{Self: simPeer(1)})
		if err != nil {
			t.Fatal(err)
		}
		m.now = time.Unix(0, 0)
		m.restoreHolds([]HoldRecord{r}, nil)
		return m.byHold[r.Hold].record(false)
	}, map[string]string{"Closed": "a closed hold is not restored"}, map[string]string{"Closed": "a closed hold is not restored"})
}
