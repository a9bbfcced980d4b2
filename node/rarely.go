package node

import (
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p/core/peer"
)

// rarely says of each peer's failures which to log: the 1st, 2nd, 4th, 8th, … A
// peer decides how often it fails, and must not fill the log.
type rarely struct{ of *lru.Cache[peer.ID, uint64] }

const maxRarely = 1024

func newRarely() rarely {
	of, _ := lru.New[peer.ID, uint64](maxRarely) // it fails for sizes below 1 only
	return rarely{of}
}

// tell counts one more failure of a peer. times are all so far.
func (r rarely) tell(id peer.ID) (times uint64, ok bool) {
	times, _ = r.of.Get(id)
	times++
	r.of.Add(id, times)
	return times, times&(times-1) == 0
}
