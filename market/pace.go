package market

import (
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"edgenet.dev/proto"
)

// What this worker knows of how long work takes here, so that it does not
// claim what its own share of a core cannot finish in time.

// pace is what a module's executions showed.
type pace struct {
	most  proto.Fuel    // of one execution
	rate  proto.Fuel    // per second that it was let run, smoothed; 0 = not known
	takes time.Duration // that an execution keeps its slot, smoothed; 0 = not known
	used  uint64
}

const (
	maxPaces = 256
	// A shorter run tells more about pipes than about the module.
	leastRun = 20 * time.Millisecond
	// builtinFuel is what a built-in module is taken to need before one was
	// seen: they go over their input a few times.
	builtinFuel = proto.ReferenceRate
)

// pace is what is known of a module; it may be nothing yet.
func (w *workside) pace(module cid.Cid) *pace {
	w.seq++
	p := w.paces[module]
	if p == nil {
		if len(w.paces) >= maxPaces {
			w.forgetPace()
		}
		p = &pace{}
		w.paces[module] = p
	}
	p.used = w.seq
	return p
}

// smoothed is a mean that follows what is new by an eighth.
func smoothed(mean, now time.Duration) time.Duration {
	if mean == 0 {
		return now
	}
	return mean + (now-mean)/8
}

// learn notes an execution that ended by itself. ran is how long the sandbox
// let it run, 0 when that is not known.
func (w *workside) learn(module cid.Cid, fuel proto.Fuel, ran time.Duration) {
	p := w.pace(module)
	p.most = max(p.most, fuel)
	if ran < leastRun || ran > 24*time.Hour {
		return
	}
	now := max(1, proto.Fuel(float64(fuel)/ran.Seconds()))
	if p.rate == 0 {
		p.rate = now
	}
	p.rate = max(1, p.rate/4*3+now/4)
}

func (w *workside) forgetPace() {
	var old cid.Cid
	least := w.seq + 1
	for m, p := range w.paces {
		if p.used < least {
			old, least = m, p.used
		}
	}
	delete(w.paces, old)
}

// share is the percent of a core that an execution gets here.
func (w *workside) share() int {
	if w.cfg.CPU <= 0 || w.cfg.CPU > 100 {
		return 100
	}
	return w.cfg.CPU
}

// late says why work with these limits cannot end in time here, "" when it can.
// What a module costs is known from its executions. No more is expected than
// the reference CPU does in the time given: a generous fuel limit, or another
// input that took long, keeps nobody from claiming who is as fast as that.
func (w *workside) late(module cid.Cid, limit proto.Fuel, wall time.Duration) string {
	if wall <= 0 {
		wall = proto.DefaultWall
	}
	limit = min(limit, proto.Fuel(wall.Seconds()*float64(proto.ReferenceRate)))
	fuel := limit
	rate := proto.ReferenceRate
	if p := w.paces[module]; p != nil && p.most > 0 {
		fuel = min(limit, p.most)
		if p.rate > 0 {
			rate = p.rate
		}
	} else if len(w.cfg.Builtin[module]) > 0 {
		fuel = min(fuel, builtinFuel)
	}
	seconds := float64(fuel) / float64(rate) * 100 / float64(w.share())
	most := proto.Stretch(wall, w.share())
	if seconds <= most.Seconds()*1.01 {
		return ""
	}
	need := time.Duration(min(seconds, 1e9) * float64(time.Second)).Round(100 * time.Millisecond)
	return fmt.Sprintf("with %d %% of a core it would take about %s here, and a try may take %s", w.share(), need, most)
}
