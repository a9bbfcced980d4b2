package node

import (
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/market"
	"edgenet.dev/node/blocklist"
	"edgenet.dev/proto"
)

// blocks are what the operator refuses to deal with: package blocklist has what
// there can be. A tab's list is empty.
type blocks struct {
	n    *Node
	list atomic.Pointer[blocklist.List]
	file blockFile
}

// peer is the entry that blocks a peer.
func (b *blocks) peer(id peer.ID) (blocklist.Entry, bool) { return b.list.Load().Peer(id) }

// address is the entry that blocks an address. Of a peer behind a relay that is
// the relay's.
func (b *blocks) address(a ma.Multiaddr) (blocklist.Entry, bool) {
	list := b.list.Load()
	if list == nil {
		return blocklist.Entry{}, false
	}
	ip, ok := ipOf(a)
	if !ok {
		return blocklist.Entry{}, false
	}
	return list.Address(ip)
}

// author counts and tells a message of a blocked peer, whoever passed it on. What
// the ledger holds of that peer's account is not among them.
func (b *blocks) author(id peer.ID) bool {
	_, blocked := b.peer(id)
	if blocked {
		b.count(blocklist.Peer)
	}
	return blocked
}

// turnedAway counts what the market refused.
func (b *blocks) turnedAway(submitter bool) {
	kind := blocklist.Module
	if submitter {
		kind = blocklist.Submitter
	}
	b.count(kind)
}

func (b *blocks) count(kind blocklist.Kind) {
	b.n.activity.count(func(c *Counts) { c.Blocked[kind]++ })
}

// work is what the market keeps the worker from.
func (b *blocks) work() market.Blocked {
	submitters, modules := b.list.Load().Work()
	return market.Blocked{Submitters: submitters, Modules: modules}
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
