//go:build !js

package node

import (
	"slices"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/market"
	"edgenet.dev/node/blocklist"
	"edgenet.dev/proto"
)

// blocks are what the operator refuses to deal with: package blocklist has what
// there can be, blockfile.go where it is kept, and gater.go how connections end.
type blocks struct {
	n    *Node
	list atomic.Pointer[blocklist.List]
	file blockFile
}

func newBlocks(n *Node) (*blocks, error) {
	b := &blocks{n: n}
	return b, b.open()
}

// peer is the entry that blocks a peer.
func (b *blocks) peer(id peer.ID) (blocklist.Entry, bool) { return b.list.Load().Peer(id) }

// address is the entry that blocks an address. Of a peer behind a relay that is
// the relay's.
func (b *blocks) address(a ma.Multiaddr) (blocklist.Entry, bool) {
	ip, ok := ipOf(a)
	if !ok {
		return blocklist.Entry{}, false
	}
	return b.list.Load().Address(ip)
}

// hides reports whether a peer is blocked.
func (b *blocks) hides(id peer.ID) bool {
	_, blocked := b.peer(id)
	return blocked
}

// mutes counts and tells a message of a blocked peer, whoever passed it on. What
// the ledger holds of that peer's account is not among them.
func (b *blocks) mutes(id peer.ID) bool {
	if !b.hides(id) {
		return false
	}
	b.count(blocklist.Peer)
	return true
}

// heard counts an offer that the market turns away.
func (b *blocks) heard(s *proto.Signed) {
	o := s.Payload.GetOffer()
	if o == nil || !b.n.worker().Enabled {
		return
	}
	submitters, modules := b.list.Load().Work()
	if submitters[s.Signer] {
		b.count(blocklist.Submitter)
	} else if module, err := proto.ParseCID(o.Module); err == nil && modules[module] {
		b.count(blocklist.Module)
	}
}

// refused counts an assignment that the market refused.
func (b *blocks) refused(submitter peer.ID) {
	kind := blocklist.Module
	if submitters, _ := b.list.Load().Work(); submitters[submitter] {
		kind = blocklist.Submitter
	}
	b.count(kind)
}

func (b *blocks) count(kind blocklist.Kind) {
	b.n.activity.count(func(c *Counts) { c.Blocked[string(kind)]++ })
}

// work is what the market keeps the worker from.
func (b *blocks) work() market.Blocked {
	submitters, modules := b.list.Load().Work()
	return market.Blocked{Submitters: submitters, Modules: modules}
}

// without leaves out who is not dialled.
func (b *blocks) without(cs []candidate) []candidate {
	return slices.DeleteFunc(cs, func(c candidate) bool { return b.refusal(c.ID, c.Addrs...) != nil })
}

// refusal says why a peer is not dialled at these addresses, nil when it is. None
// at all are not looked at.
func (b *blocks) refusal(id peer.ID, addrs ...ma.Multiaddr) error {
	if e, ok := b.peer(id); ok {
		return proto.CodeBlocked.Errorf("%s", e.Sentence())
	}
	var first blocklist.Entry
	for _, a := range addrs {
		e, ok := b.address(a)
		if !ok {
			return nil
		}
		first = e
	}
	if len(addrs) == 0 {
		return nil
	}
	return proto.CodeBlocked.Errorf("%s has no address beside %s: %s", id, addrs[0], first.Sentence())
}
