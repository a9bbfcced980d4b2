package node

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

// load finds what an earlier run kept.
func (c *claims) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.n.kv.scan("work/", func(key string, v []byte) error {
		part := strings.Split(key, "/")
		hold, lane, ok := laneOfKey(key)
		if !ok || len(part) != 4 || part[3] == "" {
			return nil
		}
		w := c.lanes[laneKey(hold, lane)]
		if w == nil {
			w = c.add(hold, lane, payerOf(part[3][0], v))
		}
		switch part[3][0] {
		case 'a':
			c.grow(w, &w.orders, len(v))
		case 'c':
			c.grow(w, &w.results, len(v))
			w.shown += len(v)
			for _, sr := range claimOf(v).GetReceipts() {
				c.loadReceipt(w, sr.GetReceipt(), 0)
			}
		case 'e':
			w.forgotten = creditsOf(v)
			w.earned += w.forgotten
		case 'r':
			c.loadReceipts(w, part[3][1:], v)
		case 'x':
			w.earned -= min(w.earned, creditsOf(v))
		case 'y':
			w.done = true
		}
		return nil
	})
	if err == nil {
		for _, w := range c.lanes {
			if w.tasks == 0 && w.orders == 0 {
				c.strip(w, true)
			}
		}
		err = c.n.kv.scan("voucher/", func(key string, _ []byte) error {
			if hold, lane, ok := laneOfKey(key); ok && c.lanes[laneKey(hold, lane)] == nil && len(c.lanes) < maxLaneEntries {
				c.strip(c.add(hold, lane, ""), true)
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	return nil
}

// laneOfKey reads what laneKey wrote, after the name of a table.
func laneOfKey(key string) (hold cid.Cid, lane uint32, ok bool) {
	part := strings.Split(key, "/")
	if len(part) < 3 {
		return cid.Undef, 0, false
	}
	hold, err := cid.Decode(part[1])
	if err != nil {
		return cid.Undef, 0, false
	}
	n, err := strconv.ParseUint(part[2], 10, 32)
	return hold, uint32(n), err == nil
}

// payerOf is whom a record names as the payer of its lane.
func payerOf(kind byte, v []byte) peer.ID {
	switch kind {
	case 'a':
		if s, err := proto.Inspect(v, proto.KindAssignments); err == nil {
			return s.Signer
		}
	case 'c':
		if m := claimOf(v); len(m.GetAssignments()) > 0 {
			return payerOf('a', m.Assignments[0])
		}
	case 'r':
		var r proto.Results
		rc := new(proto.Receipt)
		if goproto.Unmarshal(v, &r) == nil && len(r.Items) > 0 && goproto.Unmarshal(r.Items[0].GetReceipt(), rc) == nil {
			return peer.ID(rc.Submitter)
		}
	case 'y':
		return peer.ID(v)
	}
	return ""
}

func (c *claims) loadReceipts(w *laneWork, number string, v []byte) {
	var r proto.Results
	var n uint32
	if _, err := fmt.Sscanf(number, "%d", &n); err != nil || goproto.Unmarshal(v, &r) != nil {
		return
	}
	w.records = max(w.records, n+1)
	c.grow(w, &w.results, len(v))
	for _, it := range r.Items {
		if !it.GetByCid() {
			c.loadReceipt(w, it.GetReceipt(), shownSize(it.GetReceipt(), r.Batch, len(r.Items)))
		}
	}
}

func (c *claims) loadReceipt(w *laneWork, raw []byte, shown int) {
	rc := new(proto.Receipt)
	if goproto.Unmarshal(raw, rc) != nil {
		return
	}
	w.tasks++
	w.delivered++
	w.shown += shown
	w.earned += payOf(rc)
	c.grow(w, &w.outputs, sizeOf(rc))
}

// creditsOf reads what creditsText wrote; nothing counts as 0.
func creditsOf(v []byte) proto.Credit {
	n, err := strconv.ParseUint(string(v), 10, 63)
	if err != nil {
		return 0
	}
	return proto.Credit(n)
}

func creditsText(c proto.Credit) []byte { return strconv.AppendUint(nil, uint64(c), 10) }
