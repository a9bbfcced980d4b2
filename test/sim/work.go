package sim

import (
	"fmt"
	"slices"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// hire makes a hold for some workers.
func (o *owner) hire() {
	n := o.n
	h := &proto.Hold{Job: make([]byte, 16), Budget: 30 * credit}
	h.Job[0] = 1
	h.DeadlineUnixMs = uint64(n.clock().Add(n.w.between(time.Minute, 10*time.Minute)).UnixMilli())
	lanes := 1 + n.w.rnd.IntN(3)
	workers := n.w.rnd.Perm(len(n.w.nodes))
	if at := slices.IndexFunc(workers, func(i int) bool { return n.w.nodes[i].own.liar }); at > 0 && n.w.chance(0.4) { // it is cheap
		workers[0], workers[at] = workers[at], workers[0]
	}
	for _, i := range workers {
		if i != n.i && len(h.Lanes) < lanes {
			h.Lanes = append(h.Lanes, &proto.Lane{Worker: []byte(n.w.nodes[i].self.id), Cap: 9 * credit})
		}
	}
	o.sign(h)
}

// fuel is what the work of a lane took: some is worth less than what is paid.
func fuel(k laneKey, amount uint64) uint64 {
	f := amount * (uint64(proto.PriceUnit) / credit)
	if k.lane%2 == 1 {
		f /= 2
	}
	return f
}

// promise gives the workers of all holds newer vouchers: work was done.
func (o *owner) promise() {
	n := o.n
	for _, h := range n.l.Holds(n.self.id) {
		for i, l := range h.Lanes {
			k := laneKey{h.ID, uint32(i)}
			if o.ending[h.ID] || o.promised[k] >= uint64(l.Cap) || n.w.chance(0.3) {
				continue
			}
			o.promised[k] = min(uint64(l.Cap), o.promised[k]+1+n.w.rnd.Uint64N(4*credit))
			amount := o.promised[k]
			raw := n.w.seal(n.self.id, &proto.Payload{Body: &proto.Payload_Voucher{Voucher: &proto.Voucher{
				Hold: h.ID.Bytes(), Lane: uint32(i), Worker: []byte(l.Worker), Amount: amount, Fuel: fuel(k, amount),
			}}})
			events := n.l.HoldEvents(h.ID)
			n.w.send(n.i, n.w.index[l.Worker], 'p', n.w.loss, func(x *node) { x.own.take(n.self.id, k, voucher{raw: raw, amount: amount}, events) })
		}
	}
}

// worked reports whether every worker was promised something.
func (o *owner) worked(h ledger.HoldState) bool {
	for i := range h.Lanes {
		if o.promised[laneKey{h.ID, uint32(i)}] == 0 {
			return false
		}
	}
	return true
}

// take keeps a voucher and delivers the work that it pays for.
func (o *owner) take(payer peer.ID, k laneKey, v voucher, events []*ledger.Certified) {
	n := o.n
	if o.vouchers[k].amount >= v.amount {
		return
	}
	if n.light && !n.watch(events) {
		return
	}
	v.file = n.w.now.Add(15 * time.Second)
	o.vouchers[k] = v
	o.deliver(payer, k, v.amount)
}

// pay settles what was promised; a hold is ended when every worker said Done.
func (o *owner) pay(h ledger.HoldState) {
	m := &proto.Settle{Hold: h.ID.Bytes()}
	done := true
	o.ending[h.ID] = true // no more work
	for i, l := range h.Lanes {
		k := laneKey{h.ID, uint32(i)}
		p := &proto.LanePay{Lane: uint32(i), Amount: o.promised[k], Fuel: fuel(k, o.promised[k])}
		if l.Done {
			continue
		}
		if raw := o.dones[k]; raw != nil && l.Paid >= proto.Credit(o.promised[k]) {
			p.Done = raw
		} else {
			done = false
			o.askDone(k, l.Worker)
		}
		m.Pays = append(m.Pays, p)
	}
	m.Final = done
	for _, part := range ledger.SplitSettle(m)[:1] {
		o.sign(part)
	}
}

// askDone asks a worker to give back the rest of its lane.
func (o *owner) askDone(k laneKey, worker peer.ID) {
	n := o.n
	n.w.send(n.i, n.w.index[worker], 'd', n.w.loss, func(x *node) {
		v := x.own.vouchers[k]
		raw := n.w.seal(x.self.id, &proto.Payload{Body: &proto.Payload_Done{Done: &proto.Done{Hold: k.hold.Bytes(), Lane: k.lane, Amount: v.amount}}})
		n.w.send(x.i, n.i, 'D', n.w.loss, func(y *node) { y.own.dones[k] = raw })
	})
}

// deliver brings a receipt of a lane's work to who ordered it, now and then. A
// liar's states another result than the work gives.
func (o *owner) deliver(payer peer.ID, k laneKey, amount uint64) {
	n := o.n
	if often := o.liar || n.w.bad.is(payer); !n.w.chance(map[bool]float64{false: 0.2, true: 0.9}[often]) {
		return
	}
	o.tasks++
	output := right
	if o.liar {
		output = proto.HashOf(fmt.Appendf(nil, "lie %d", o.tasks))
	}
	input := proto.HashOf([]byte("input"))
	r := &proto.Receipt{
		Worker: []byte(n.self.id), Submitter: []byte(payer), Job: append([]byte{1}, make([]byte, 15)...), Task: o.tasks,
		Module: proto.CIDOf([]byte("module")).Bytes(), MeterVersion: proto.MeterVersion, InputHash: input[:], OutputHash: output[:],
		Status: uint32(proto.StatusOK), Fuel: fuel(k, amount), Price: credit, Salt: make([]byte, 16),
		FuelLimit: uint64(10 * proto.PriceUnit), MemoryLimit: 1 << 20, OutputLimit: 1 << 20, Epoch: n.l.Epoch(),
	}
	raw := n.w.marshal(r)
	batch, err := proto.SignReceipts(n.self.key, n.w.net.ID, [][]byte{raw}, 1)
	if err != nil {
		n.w.fail(err)
		return
	}
	_, out, err := proto.OpenReceipts(n.w.net.ID, batch, [][]byte{raw})
	if err != nil {
		n.w.fail(err)
		return
	}
	n.w.send(n.i, n.w.index[payer], 'r', n.w.loss, func(x *node) { x.own.delivered(out[0], output != right) })
}
