// Package blocklist is what the operator of a node refuses to deal with: peers,
// subnets, submitters and modules; and the text file in which that is kept.
package blocklist

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
)

// Kind says what an entry keeps away.
type Kind string

// Kinds of entries.
const (
	Peer      Kind = "peer"      // a peer id: no connection, nothing it says is heard, no work of it and none for it
	Subnet    Kind = "subnet"    // addresses: no connection to or from them
	Submitter Kind = "submitter" // an account, which is a peer id: no work of it
	Module    Kind = "module"    // a CID, or a built-in task type: it is not executed
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{Peer, Subnet, Submitter, Module} }

const (
	// MaxEntries bounds a list.
	MaxEntries = 10_000
	// MaxReason bounds an entry's reason in bytes.
	MaxReason = 200
)

// Entry is one thing that is refused. New makes a valid one.
type Entry struct {
	Kind   Kind
	Value  string // in the one form that it is compared in
	Since  time.Time
	Until  time.Time // zero: for good
	Reason string
}

func (e Entry) String() string { return string(e.Kind) + " " + e.Value }

// Sentence says of what an entry names that it is blocked, and how that ends.
func (e Entry) Sentence() string {
	text := e.String() + " is blocked by this node's operator"
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	if !e.Until.IsZero() {
		text += " until " + e.Until.Format(time.RFC3339)
	}
	return text + "; 'edgenetd block rm " + e.String() + "' ends that"
}

// Pairs are what the audit log says of a new entry.
func (e Entry) Pairs() []string {
	pairs := []string{"kind", string(e.Kind), "value", e.Value, "reason", e.Reason}
	if !e.Until.IsZero() {
		pairs = append(pairs, "until", e.Until.UTC().Format(time.RFC3339))
	}
	return pairs
}

// New makes an entry of a value as people write it. The kind "" follows from the
// value; a peer id is a peer then.
func New(kind Kind, value string) (Entry, error) {
	value = strings.TrimSpace(value)
	if kind == "" {
		for _, k := range Kinds() {
			if e, err := New(k, value); err == nil {
				return e, nil
			}
		}
		return Entry{}, proto.CodeMalformed.Errorf("%q is no peer id, no address or subnet, no module's CID and no task type", value)
	}
	out, err := canonical(kind, value)
	if err != nil {
		return Entry{}, proto.CodeMalformed.Errorf("%v", err)
	}
	return Entry{Kind: kind, Value: out}, nil
}

func canonical(kind Kind, value string) (string, error) {
	switch kind {
	case Peer, Submitter:
		id, err := peer.Decode(value)
		if err == nil {
			_, err = proto.ParsePeer([]byte(id))
		}
		if err != nil {
			return "", fmt.Errorf("%q is no peer id such as 12D3KooW…", value)
		}
		return id.String(), nil
	case Subnet:
		p, err := prefix(value)
		if err != nil {
			return "", err
		}
		return p.String(), nil
	case Module:
		if _, ok := modules.Lookup(value); ok {
			return proto.CanonicalType(value), nil
		}
		c, err := moduleOf(value)
		if err != nil {
			return "", err
		}
		return c.String(), nil
	}
	return "", fmt.Errorf("%q is no kind of entry; there are peer, subnet, submitter and module", kind)
}

func prefix(value string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(value)
	if err != nil {
		ip, err := netip.ParseAddr(value)
		if err != nil || ip.Zone() != "" {
			return p, fmt.Errorf("%q is no address or subnet such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/48", value)
		}
		p = netip.PrefixFrom(ip, ip.BitLen())
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return p, fmt.Errorf("%q is written as IPv6 and is IPv4", value)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// moduleOf is the CID of a built-in type's module, or the CID that value is.
func moduleOf(value string) (cid.Cid, error) {
	if b, ok := modules.Lookup(value); ok {
		return b.ID, nil
	}
	c, err := cid.Decode(value)
	if err == nil {
		_, err = proto.CIDHash(c)
	}
	if err != nil {
		return cid.Undef, fmt.Errorf("%q is no module's CID, as 'edgenetd module check' prints it, and no task type; there are %s", value, strings.Join(modules.Types(), ", "))
	}
	return c, nil
}

// checkReason refuses what does not fit on a line.
func checkReason(reason string) error {
	switch {
	case len(reason) > MaxReason:
		return fmt.Errorf("a reason of %d bytes; want at most %d", len(reason), MaxReason)
	case !utf8.ValidString(reason) || strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("the reason has characters that cannot be printed")
	}
	return nil
}

// List answers what is blocked. It never changes; a nil one blocks nothing.
type List struct {
	entries    []Entry
	peers      map[peer.ID]Entry
	submitters map[peer.ID]bool // blocked peers, too
	modules    map[cid.Cid]bool
	subnets    map[netip.Prefix]Entry
	bits       map[bool][]int // lengths of prefixes in subnets; of IPv4 when true
	next       time.Time
}

// Of makes a list of those entries that are in force now. All must be valid.
func Of(entries []Entry, now time.Time) *List {
	l := &List{
		peers: map[peer.ID]Entry{}, submitters: map[peer.ID]bool{}, modules: map[cid.Cid]bool{},
		subnets: map[netip.Prefix]Entry{}, bits: map[bool][]int{},
	}
	for _, e := range entries {
		if e.over(now) {
			continue
		}
		if !e.Until.IsZero() && (l.next.IsZero() || e.Until.Before(l.next)) {
			l.next = e.Until
		}
		l.entries = append(l.entries, e)
		switch e.Kind {
		case Peer, Submitter:
			id, err := peer.Decode(e.Value)
			if err != nil {
				continue
			}
			l.submitters[id] = true
			if e.Kind == Peer {
				l.peers[id] = e
			}
		case Subnet:
			p, err := prefix(e.Value)
			if err != nil {
				continue
			}
			l.subnets[p] = e
			if b := l.bits[p.Addr().Is4()]; !slices.Contains(b, p.Bits()) {
				l.bits[p.Addr().Is4()] = append(b, p.Bits())
			}
		case Module:
			if c, err := moduleOf(e.Value); err == nil {
				l.modules[c] = true
			}
		}
	}
	return l
}

func (e Entry) over(now time.Time) bool { return !e.Until.IsZero() && !now.Before(e.Until) }

// Entries are those in force, in the order of the file.
func (l *List) Entries() []Entry {
	if l == nil {
		return nil
	}
	return slices.Clone(l.entries)
}

// Next is when the first entry ends; zero: none does.
func (l *List) Next() time.Time {
	if l == nil {
		return time.Time{}
	}
	return l.next
}

// Peer is the entry that blocks a peer.
func (l *List) Peer(id peer.ID) (Entry, bool) {
	if l == nil {
		return Entry{}, false
	}
	e, ok := l.peers[id]
	return e, ok
}

// Address is the entry that blocks an address.
func (l *List) Address(ip netip.Addr) (Entry, bool) {
	if l == nil {
		return Entry{}, false
	}
	ip = ip.Unmap().WithZone("")
	for _, bits := range l.bits[ip.Is4()] {
		if p, err := ip.Prefix(bits); err == nil {
			if e, ok := l.subnets[p]; ok {
				return e, true
			}
		}
	}
	return Entry{}, false
}

// Work is what a worker is kept from: submitters, blocked peers among them, and
// modules. The maps are not to be changed.
func (l *List) Work() (submitters map[peer.ID]bool, modules map[cid.Cid]bool) {
	if l == nil {
		return nil, nil
	}
	return l.submitters, l.modules
}
