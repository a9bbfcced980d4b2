package node

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// The clock protocol: whoever opens a stream is told what time it is here.
// Epochs and the deadlines of holds are judged by clocks, so an operator wants
// to know whether his own is right. Nothing else reads the answer.

const (
	clockTimeout = 3 * time.Second
	maxClock     = 64 // bytes of the frame
)

func (n *Node) serveClock(s network.Stream) {
	s.SetDeadline(time.Now().Add(clockTimeout))
	if err := proto.WriteFrame(s, &proto.ClockReply{UnixUs: uint64(max(0, time.Now().UnixMicro()))}, maxClock); err != nil {
		s.Reset()
		return
	}
	s.Close()
}

// askClock measures how far p's clock is ahead of this one, to within half the
// time that the answer took.
func (n *Node) askClock(ctx context.Context, p peer.ID) (offset, rtt time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	s, err := n.stream(ctx, p, "clock")
	if err != nil {
		return 0, 0, err
	}
	defer s.Reset() // a no-op once both sides closed
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	s.CloseWrite()
	began := time.Now() // the connection may be new; only the answer counts
	var reply proto.ClockReply
	if err := frames(s, maxClock).Read(&reply); err != nil {
		return 0, 0, err
	}
	rtt = time.Since(began)
	there := time.UnixMicro(int64(min(reply.UnixUs, 1<<52)))
	return there.Sub(began.Add(rtt / 2)), rtt, nil
}

// Median of some offsets; false when there are none.
func Median(offsets []time.Duration) (time.Duration, bool) {
	if len(offsets) == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(offsets))
	return sorted[len(sorted)/2], true
}
