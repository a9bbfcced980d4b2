package node

import (
	"fmt"

	"edgenet.dev/proto"
)

// What a task said that gave no result: log and output of its newest lost try, as its
// worker sent it. Nobody agreed on it and no receipt names it, so it is for
// people to read and for nothing else.

func lostPrefix(id proto.JobID) string { return "lost/" + id.String() + "/" }

func lostKey(t proto.TaskID) string { return fmt.Sprintf("%s%05d", lostPrefix(t.Job), t.Index) }

// LostLog is the log of the newest try of a task that ran and brought no
// result, at most proto.MaxLog bytes of any kind; nil when there is none, or the
// task has a result.
func (n *Node) LostLog(t proto.TaskID) []byte {
	b, err := n.kv.get(lostKey(t))
	if err != nil {
		return nil // a log is a courtesy
	}
	return b
}

func lostOutputPrefix(id proto.JobID) string { return "lost-output/" + id.String() + "/" }

func lostOutputKey(t proto.TaskID) string {
	return fmt.Sprintf("%s%05d", lostOutputPrefix(t.Job), t.Index)
}

// LostOutput is the start of what that try wrote to stdout, at most
// proto.MaxLostOutput bytes, like LostLog.
func (n *Node) LostOutput(t proto.TaskID) []byte {
	b, err := n.kv.get(lostOutputKey(t))
	if err != nil {
		return nil
	}
	return b
}

// lost is what is stored for the newest lost try of a task; without text of its
// own it takes away what an older one said.
func lost(t proto.TaskID, log, output []byte) []write {
	ws := []write{{lostKey(t), log}, {lostOutputKey(t), output}}
	for i := range ws {
		if len(ws[i].value) == 0 {
			ws[i].value = nil
		}
	}
	return ws
}
