package market

import (
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// LostTry is an execution of a job's task that was refused, gave nothing or
// gave a result that was not taken.
type LostTry struct {
	Task   uint32
	Worker peer.ID
	Code   proto.Code
	Reason string
	Times  int       // this worker said the same of this task so often
	At     time.Time // the last time
}

func (l LostTry) String() string {
	s := fmt.Sprintf("Task %d was lost on worker %s", l.Task, l.Worker)
	if l.Times > 1 {
		s += fmt.Sprintf(" %d times", l.Times)
	}
	return fmt.Sprintf("%s: %s: %s.", s, l.Code, l.Reason)
}

// maxLostTries are kept of a job, the newest ones.
const maxLostTries = 32

// noteLost keeps a lost try of r for whoever asks why.
func (j *job) noteLost(r *replica, code proto.Code, reason string, now time.Time) {
	j.lostTries++
	at := -1
	for i, l := range j.lost {
		if l.Task == r.task.index && l.Worker == r.lease.worker && l.Code == code {
			at = i
			break
		}
	}
	try := LostTry{Task: r.task.index, Worker: r.lease.worker, Code: code, Reason: reason, Times: 1, At: now}
	if at >= 0 {
		try.Times += j.lost[at].Times
	} else if len(j.lost) >= maxLostTries {
		at = 0
	}
	kept := j.lost
	if at >= 0 {
		kept = slices.Concat(j.lost[:at], j.lost[at+1:])
	}
	j.lost = append(kept[:len(kept):len(kept)], try) // a new list: views hold the old one
}

// whyLost lists the lost tries, oldest first.
func (j *job) whyLost() []string {
	var out []string
	told := 0
	for _, l := range j.lost {
		told += l.Times
	}
	if more := j.lostTries - told; more > 0 {
		out = append(out, fmt.Sprintf("%d older tries were lost.", more))
	}
	for _, l := range j.lost {
		out = append(out, l.String())
	}
	return out
}
