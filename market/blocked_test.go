package market

import (
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// aloud is what the last Step says beside refusals.
func (b *bench) aloud() (stopped []proto.Ref, claims int) {
	for _, o := range b.outs {
		switch o := o.(type) {
		case StopExecution:
			stopped = append(stopped, o.Ref)
		case PublishClaim:
			claims++
		}
	}
	return stopped, claims
}

func offerOf(name string, module cid.Cid) *proto.Offer {
	id := proto.HashOf([]byte(name))
	return &proto.Offer{
		Id: id[:16], Module: module.Bytes(), MeterVersion: proto.MeterVersion, Tasks: 1, FuelLimit: 1_000_000, MemoryLimit: 2 << 20,
		PriceCap: 1_000_000, Redundancy: 1, SlotsWanted: 1, WorkersWanted: 1, DeadlineUnixMs: uint64(simStart.Add(time.Hour).UnixMilli()), Round: 1,
		Priority: uint32(proto.PriorityNormal),
	}
}

// What the operator blocks is not claimed and not taken, under an earlier lease
// either; what waits is given back and what runs is stopped. Others' work goes on.
func TestBlockedWorkIsTurnedAway(t *testing.T) {
	w := Worker{Enabled: true, Slots: 3, InFlight: 16, Custom: true}
	other := proto.CIDOf([]byte("another module"))
	with := func(m cid.Cid) func(*proto.Assignment) { return func(a *proto.Assignment) { a.Module = m.Bytes() } }
	for name, x := range map[string]struct {
		blocked Blocked
		why     string
	}{
		"submitter": {Blocked{Submitters: map[peer.ID]bool{simPeer(1): true}}, "the operator of this worker blocks this submitter"},
		"module":    {Blocked{Modules: map[cid.Cid]bool{scenarioModule: true}}, "the operator of this worker blocks this module"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, w)
			bad, good := simPeer(1), simPeer(2)
			b.step(OfferSeen{From: bad, Offer: offerOf("before", scenarioModule)})
			if _, claims := b.aloud(); claims != 1 {
				t.Fatal("the offer is not claimed though nothing is blocked")
			}
			b.assign(good, 1, false, with(other))
			refs := b.assign(bad, 3, false, nil) // two run, one waits
			refs = append(refs, b.assign(bad, 1, true, nil)...)
			if len(b.running) != 3 || b.m.Waiting() != 2 {
				t.Fatalf("%d run, %d wait", len(b.running), b.m.Waiting())
			}
			w := w
			w.Blocked = x.blocked
			b.step(WorkerSettings{w})
			stopped, _ := b.aloud()
			slices.SortFunc(stopped, func(p, q proto.Ref) int { return int(p.Task.Index) - int(q.Task.Index) })
			if b.refused[bad][proto.CodeBlocked] != 4 || !slices.Equal(stopped, []proto.Ref{refs[0], refs[1], refs[3]}) || b.m.Busy() != 1 || b.m.Waiting() != 0 {
				t.Errorf("refused %v, stopped %v, %d run, %d wait", b.refused[bad], stopped, b.m.Busy(), b.m.Waiting())
			}
			b.assign(bad, 1, false, nil)
			if r, ok := b.outs[0].(SendRefused); b.refused[bad][proto.CodeBlocked] != 5 || !ok || r.Reason != x.why {
				t.Errorf("an assignment of later: refused %v, %+v", b.refused[bad], b.outs)
			}
			b.step(OfferSeen{From: bad, Offer: offerOf("after", scenarioModule)})
			if _, claims := b.aloud(); claims != 0 || b.m.work.why != x.why {
				t.Errorf("an offer of later: %d claims, because %q", claims, b.m.work.why)
			}
			b.step(OfferSeen{From: good, Offer: offerOf("good", other)})
			if _, claims := b.aloud(); claims != 1 {
				t.Errorf("another's offer is not claimed: %s", b.m.work.why)
			}
			b.assign(good, 1, false, with(other))
			if b.m.Busy() != 2 || len(b.refused[good]) != 0 {
				t.Errorf("%d run, refused %v of another's", b.m.Busy(), b.refused[good])
			}
			w.Blocked = Blocked{}
			b.step(WorkerSettings{w})
			b.assign(bad, 1, false, nil)
			if b.m.Busy() != 3 {
				t.Error("what is not blocked any more is not taken")
			}
		})
	}
}
