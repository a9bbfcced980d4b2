package attack

import (
	"fmt"
	"time"
)

// What an attack may cost those who are attacked. A machine that is busy with
// other things is no attack: a slow job counts only when it takes seconds.
const (
	mostRatio    = 3
	soonEnough   = time.Second
	mostPercent  = 20
	spareMemory  = 24 << 20 // a garbage collector's, before the growth counts
	spareStorage = 8 << 20  // honest jobs write, too
)

// Excess are the costs of the attack above what it may cost: honest jobs that
// take more than three times as long as before, or a daemon whose memory or
// disk grew by more than a fifth. Unlike Broken it depends on the machine, so
// it is for measurements beside each other.
func (r Report) Excess() (out []string) {
	if r.Quiet.P99 > 0 && r.Under.P99 > max(mostRatio*r.Quiet.P99, soonEnough) {
		out = append(out, fmt.Sprintf("honest jobs took %s in 99 of 100 cases, %s without the attack", r.Under.P99, r.Quiet.P99))
	}
	return append(out, r.Before.growth(r.After)...)
}

func (u Usage) growth(after Usage) (out []string) {
	if after.RSS > u.RSS+u.RSS*mostPercent/100+spareMemory {
		out = append(out, fmt.Sprintf("a daemon's memory grew from %d to %d bytes", u.RSS, after.RSS))
	}
	if after.Disk > u.Disk+u.Disk*mostPercent/100+spareStorage {
		out = append(out, fmt.Sprintf("a daemon's disk grew from %d to %d bytes", u.Disk, after.Disk))
	}
	return out
}

// Growth is of memory over a series of attacks, from the start of the first that
// is given to the end of the last. The disk keeps the ledger of honest jobs, so
// it is compared attack by attack only.
func Growth(series []Report) []string {
	if len(series) == 0 {
		return nil
	}
	first, last := series[0].Before, series[len(series)-1].After
	first.Disk, last.Disk = 0, 0
	return first.growth(last)
}
