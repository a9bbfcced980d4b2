package node

import (
	"time"

	"go.uber.org/zap"

	"edgenet.dev/market"
)

// Activity is the log of what a node does, with a clock of its own.
type Activity struct{ a *activity }

const ActivityBurst = activityBurst

func NewActivity(log *zap.Logger, now func() time.Time) Activity {
	a := newActivity(log)
	a.now = now
	return Activity{a}
}

func (a Activity) Say(message string) { a.a.say(message) }
func (a Activity) Flush()             { a.a.flush() }

// Notes acts on so many notes of the market.
func (n *Node) Notes(count int) {
	outs := make([]market.Output, count)
	for i := range outs {
		outs[i] = market.Note{Text: "note", Peer: n.self}
	}
	n.jobs.act(n.ctx, outs)
}
