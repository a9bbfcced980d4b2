package node

import (
	"context"
	"math"

	"github.com/libp2p/go-libp2p/core/metrics"
	"golang.org/x/time/rate"
)

// bandwidth counts the bytes of all streams and holds them below a rate: libp2p
// reports within each read and write, so whoever moved bytes too fast waits
// there, and flow control slows the other side.
type bandwidth struct {
	*metrics.BandwidthCounter
	ctx   context.Context // ends all waiting
	limit *rate.Limiter
}

// Bytes that may pass at once, so that small frames do not wait.
const bandwidthBurst = 64 << 10

func newBandwidth(bytesPerSecond uint64) *bandwidth {
	b := &bandwidth{BandwidthCounter: metrics.NewBandwidthCounter(), ctx: context.Background(), limit: rate.NewLimiter(rate.Inf, bandwidthBurst)}
	b.set(bytesPerSecond)
	return b
}

// set changes the rate; 0 is without limit.
func (b *bandwidth) set(bytesPerSecond uint64) {
	if bytesPerSecond == 0 {
		b.limit.SetLimit(rate.Inf)
		return
	}
	b.limit.SetLimit(rate.Limit(bytesPerSecond))
}

func (b *bandwidth) LogSentMessage(n int64) {
	b.BandwidthCounter.LogSentMessage(n)
	b.wait(n)
}

func (b *bandwidth) LogRecvMessage(n int64) {
	b.BandwidthCounter.LogRecvMessage(n)
	b.wait(n)
}

func (b *bandwidth) wait(n int64) {
	for n > 0 {
		part := min(n, bandwidthBurst)
		if b.limit.WaitN(b.ctx, int(part)) != nil {
			return // the node ends
		}
		n -= part
	}
}

// SetBandwidth changes Config.Bandwidth at run time.
func (n *Node) SetBandwidth(bytesPerSecond uint64) { n.traffic.set(min(bytesPerSecond, math.MaxInt64)) }
