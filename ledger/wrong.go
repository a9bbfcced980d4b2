package ledger

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Evidence of wrong results. Whether a receipt tells the truth cannot be
// computed from the set: somebody has to execute the work again. Witnesses do,
// and sign a report of the receipts that they found wrong. What f+1 of them
// name, one honest witness saw. The receipt itself is attached, so nothing is
// held against a worker but what it signed.

const (
	// WrongEpochs is for how many epochs after the one that it names a receipt
	// can be held against its worker. For so long its id is remembered once it
	// was, so that it counts once, ever.
	WrongEpochs = 24
	// maxWrong bounds the receipts of one report and of one checkpoint.
	maxWrong = 64
	// maxWrongReceipt bounds a SignedReceipt among them, bytes.
	maxWrongReceipt = 2 << 10
	// maxFound bounds what a witness remembers to have found, receipts.
	maxFound = 1024
)

// Accused is a receipt that says enough to be held against its worker.
type Accused struct {
	ID      proto.Hash     // sha2-256 of the receipt's bytes
	Worker  peer.ID        // who signed it
	Receipt *proto.Receipt // not to be changed
	Signed  *proto.SignedReceipt
}

// openAccused wants the worker's signature, a result that votes, and
// everything that it follows from.
func openAccused(net *proto.Network, sr *proto.SignedReceipt, check bool) (*Accused, error) {
	if n := goproto.Size(sr); sr == nil || n > maxWrongReceipt {
		return nil, proto.CodeTooLarge.Errorf("accused receipt of %d bytes, at most %d", n, maxWrongReceipt)
	}
	r := new(proto.Receipt)
	var err error
	if check {
		r, err = proto.VerifyReceipt(net.ID, sr)
	} else if err = goproto.Unmarshal(sr.Receipt, r); err != nil {
		err = proto.CodeMalformed.Errorf("receipt: %v", err)
	}
	if err != nil {
		return nil, fmt.Errorf("accused: %w", err)
	}
	a := &Accused{ID: proto.HashOf(sr.Receipt), Receipt: r, Signed: sr}
	if a.Worker, err = proto.ParsePeer(r.Worker); err != nil {
		return nil, fmt.Errorf("accused: worker: %w", err)
	}
	_, noSubmitter := proto.ParsePeer(r.Submitter)
	_, noJob := proto.ToJobID(r.Job)
	_, noModule := proto.ParseCID(r.Module)
	_, noInput := proto.ToHash(r.InputHash)
	_, noOutput := proto.ToHash(r.OutputHash)
	if err := cmp.Or(noSubmitter, noJob, noModule, noInput, noOutput); err != nil {
		return nil, fmt.Errorf("accused: %w", err)
	}
	switch {
	case r.FuelLimit == 0 || r.FuelLimit > uint64(proto.MaxFuel) || r.Fuel > r.FuelLimit:
		return nil, proto.CodeBadReceipt.Errorf("accused: fuel %d, its limit is %d", r.Fuel, r.FuelLimit)
	case !proto.Status(r.Status).Votable() || r.MeterVersion != proto.MeterVersion:
		return nil, proto.CodeBadReceipt.Errorf("accused: status %d, meter version %d", r.Status, r.MeterVersion)
	case len(r.ProtoReflect().GetUnknown()) > 0 || len(sr.ProtoReflect().GetUnknown()) > 0:
		return nil, proto.CodeBadReceipt.Errorf("accused: the receipt has fields that this version does not know")
	}
	return a, nil
}

// Answerable checks whether a receipt could be held against its worker if it
// were wrong, all but its signature and its epoch. A worker chooses what its
// receipts say, and their salt: a submitter that took one that fails here could
// show nobody a lie in it.
func Answerable(sr *proto.SignedReceipt) error {
	_, err := openAccused(nil, sr, false)
	return err
}

// counted is a receipt that was held against its worker.
type counted struct {
	epoch uint64 // that the receipt names
	id    proto.Hash
}

// inTime reports whether a checkpoint of an epoch may count the receipt.
func (c counted) inTime(epoch uint64) bool { return c.epoch <= epoch && epoch-c.epoch <= WrongEpochs }

// wrongWork is a receipt that a checkpoint holds against its worker.
type wrongWork struct {
	counted
	worker peer.ID
	fuel   uint64
}

// minutes is what it adds to the invalid part of a reputation: the fuel that
// was billed or, when that is less, what the work takes.
func (w wrongWork) minutes() uint64 {
	return max(1, mulDiv(w.fuel, microminutes, uint64(proto.PriceUnit)))
}

// count adds what a checkpoint holds against the account, each receipt once.
func (st *standing) count(epoch uint64, list []wrongWork, off guard) (minutes uint64) {
	for _, w := range list {
		if !off.has(guardWrongOnce) && (!w.inTime(epoch) || slices.Contains(st.counted, w.counted)) {
			continue
		}
		st.counted = append(slices.Clip(st.counted), w.counted)
		minutes = satAdd(minutes, w.minutes())
	}
	return minutes
}

// forget drops receipts that no checkpoint after that of epoch can count.
func (st *standing) forget(epoch uint64) {
	kept := slices.DeleteFunc(slices.Clone(st.counted), func(c counted) bool { return !c.inTime(epoch + 1) })
	if st.counted = slices.Clip(kept); len(kept) == 0 {
		st.counted = nil
	}
}

// wrongReport is one witness's word for a checkpoint.
type wrongReport struct {
	raw  []byte // envelope
	fuel map[proto.Hash]uint64
	ids  []proto.Hash // as listed
	at   int          // of its witness in the genesis
}

func openWrongReport(net *proto.Network, raw []byte, epoch uint64, check bool) (*wrongReport, error) {
	s, err := unseal(net, raw, proto.KindWrongReport, check)
	if err != nil {
		return nil, err
	}
	m := s.Payload.GetWrongReport()
	r := &wrongReport{raw: raw, fuel: make(map[proto.Hash]uint64, len(m.Wrong)), at: slices.Index(net.Witnesses, s.Signer)}
	switch {
	case r.at < 0:
		return nil, proto.CodeNotWitness.Errorf("report of wrong work by %s, who is no witness", s.Signer)
	case m.Epoch != epoch || hasUnknown(s.Payload):
		return nil, proto.CodeInvalidEvent.Errorf("report of wrong work for epoch %d, want %d", m.Epoch, epoch)
	case len(m.Wrong) > maxWrong:
		return nil, proto.CodeTooLarge.Errorf("report of %d wrong receipts, at most %d", len(m.Wrong), maxWrong)
	}
	for i, w := range m.Wrong {
		id, err := proto.ToHash(w.GetReceipt())
		if err != nil {
			return nil, err
		}
		if i > 0 && bytes.Compare(m.Wrong[i-1].Receipt, w.Receipt) >= 0 || w.Fuel > uint64(proto.MaxFuel) {
			return nil, proto.CodeMalformed.Errorf("report of wrong work: entry %d is out of order", i)
		}
		r.fuel[id] = w.Fuel
		r.ids = append(r.ids, id)
	}
	return r, nil
}

// wrongVotes is how many witnesses must name a receipt.
func (l *Ledger) wrongVotes() int {
	if l.s.off.has(guardWrongVotes) {
		return 1
	}
	return l.net.F() + 1
}

// wrongs reads whom the reports and receipts of an epoch's checkpoint hold
// what against. With check false it is a certified one: what does not fit
// counts nothing.
func (l *Ledger) wrongs(epoch uint64, n news, check bool) (out []wrongWork, err error) {
	if check && (len(n.reports) == 0) != (len(n.wrong) == 0) {
		return nil, proto.CodeInvalidEvent.Errorf("checkpoint %d: %d wrong receipts, %d reports", epoch, len(n.wrong), len(n.reports))
	}
	votes := map[proto.Hash][]uint64{}
	last := -1
	for _, raw := range n.reports {
		r, err := openWrongReport(l.net, raw, epoch, check)
		if err == nil && r.at <= last {
			err = proto.CodeInvalidEvent.Errorf("checkpoint %d: reports of wrong work are not in the order of the genesis", epoch)
		}
		if err != nil {
			if check {
				return nil, err
			}
			continue
		}
		last = r.at
		for id, fuel := range r.fuel {
			votes[id] = append(votes[id], fuel)
		}
	}
	for _, sr := range n.wrong {
		a, err := openAccused(l.net, sr, check && !l.s.off.has(guardWrongSigner))
		if err == nil {
			err = l.named(epoch, a, votes[a.ID])
		}
		if err == nil && len(out) > 0 && bytes.Compare(out[len(out)-1].id[:], a.ID[:]) >= 0 {
			err = proto.CodeInvalidEvent.Errorf("checkpoint %d: wrong receipts are not sorted", epoch)
		}
		if err != nil {
			if check {
				return nil, err
			}
			continue
		}
		// What f+1 witnesses reach no liars among them raise, and the receipt's
		// own limit bounds it.
		fuel := max(a.Receipt.Fuel, min(reached(votes[a.ID], l.wrongVotes()), a.Receipt.FuelLimit))
		out = append(out, wrongWork{counted{a.Receipt.Epoch, a.ID}, a.Worker, fuel})
	}
	return out, nil
}

func (l *Ledger) named(epoch uint64, a *Accused, votes []uint64) error {
	if len(votes) < l.wrongVotes() {
		return proto.CodeInvalidEvent.Errorf("checkpoint %d: %d witnesses name receipt %s, want %d", epoch, len(votes), a.ID, l.wrongVotes())
	}
	return l.inTime(epoch, a)
}

func (l *Ledger) inTime(epoch uint64, a *Accused) error {
	if (counted{a.Receipt.Epoch, a.ID}).inTime(epoch) || l.s.off.has(guardWrongOnce) {
		return nil
	}
	return proto.CodeExpired.Errorf("receipt %s is of epoch %d, and this is %d", a.ID, a.Receipt.Epoch, epoch)
}

// fresh wants a receipt that the next checkpoint may count.
func (l *Ledger) fresh(a *Accused) error {
	if err := l.inTime(l.s.newest+1, a); err != nil {
		return err
	}
	if slices.Contains(l.newestStandings()[a.Worker].counted, counted{a.Receipt.Epoch, a.ID}) && !l.s.off.has(guardWrongOnce) {
		return proto.CodeDuplicate.Errorf("receipt %s was held against %s before", a.ID, a.Worker)
	}
	return nil
}

// checkWrong judges what a proposed checkpoint holds against workers.
func (l *Ledger) checkWrong(epoch uint64, n news) error {
	list, err := l.wrongs(epoch, n, true)
	if err != nil {
		return err
	}
	known := l.newestStandings()
	for _, w := range list {
		if slices.Contains(known[w.worker].counted, w.counted) && !l.s.off.has(guardWrongOnce) {
			return proto.CodeInvalidEvent.Errorf("checkpoint %d: receipt %s was held against %s before", epoch, w.id, w.worker)
		}
	}
	return nil
}

// Accusable checks a receipt that is said to be wrong: its worker signed it,
// it says everything that a second execution needs, and the next checkpoint
// may count it. Errors carry CodeDuplicate when one did, CodeExpired when it
// is too late or too early, else what is wrong with the receipt.
func (l *Ledger) Accusable(sr *proto.SignedReceipt) (*Accused, error) {
	a, err := openAccused(l.net, sr, !l.s.off.has(guardWrongSigner))
	if err != nil {
		return nil, err
	}
	return a, l.fresh(a)
}

// accusations is what a ledger keeps for the next checkpoints that are drafted
// here. It is in memory: a witness that restarts forgets it, and submitters
// bring their receipts again.
type accusations struct {
	found   map[proto.Hash]found     // by this witness
	reports map[peer.ID]*wrongReport // by all, for epoch
	named   map[peer.ID][]*Accused   // by whose report
	looked  map[peer.ID]int          // at how many receipts of whose reports
	epoch   uint64
}

type found struct {
	*Accused
	fuel uint64
}

// Found notes that this witness executed accused work again and got another
// result. fuel is what the work took. Errors are those of Accusable.
func (l *Ledger) Found(sr *proto.SignedReceipt, fuel proto.Fuel) error {
	a, err := l.Accusable(sr)
	if err != nil {
		return err
	}
	if l.accused.found == nil {
		l.accused.found = map[proto.Hash]found{}
	}
	if l.accused.found[a.ID] = (found{a, min(uint64(fuel), uint64(proto.MaxFuel))}); len(l.accused.found) > maxFound {
		list := l.ranked(slices.Collect(maps.Values(l.accused.found)))
		delete(l.accused.found, list[len(list)-1].ID)
	}
	return nil
}

// ranked puts first what matters most: workers with much to lose, then what
// will be too old first. So receipts that somebody signed to accuse itself,
// with a key that nobody trusts, keep no others out.
func (l *Ledger) ranked(list []found) []found {
	known := l.newestStandings()
	slices.SortFunc(list, func(a, b found) int {
		return cmp.Or(
			cmp.Compare(known[b.Worker].rep.Valid, known[a.Worker].rep.Valid),
			cmp.Compare(a.Receipt.Epoch, b.Receipt.Epoch),
			bytes.Compare(a.ID[:], b.ID[:]),
		)
	})
	return list
}

// DraftWrong makes a witness's report for the next checkpoint, to be signed by
// it as Payload_WrongReport, and the receipts that go with it: what was Found
// and is not counted yet. Nil means that there is nothing to report.
func (l *Ledger) DraftWrong() (*proto.WrongReport, []*proto.SignedReceipt) {
	maps.DeleteFunc(l.accused.found, func(_ proto.Hash, f found) bool { return l.fresh(f.Accused) != nil })
	list := l.ranked(slices.Collect(maps.Values(l.accused.found)))
	list = list[:min(len(list), maxWrong)]
	slices.SortFunc(list, func(a, b found) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	if len(list) == 0 {
		return nil, nil
	}
	m := &proto.WrongReport{Epoch: l.s.newest + 1}
	var receipts []*proto.SignedReceipt
	for _, f := range list {
		m.Wrong = append(m.Wrong, &proto.WrongWork{Receipt: f.ID[:], Fuel: f.fuel})
		receipts = append(receipts, f.Signed)
	}
	return m, receipts
}

// KeepWrong keeps a witness's report for the next checkpoint that is drafted
// here; its newest one counts.
func (l *Ledger) KeepWrong(m *proto.WrongWorks) error {
	epoch := l.s.newest + 1
	r, err := openWrongReport(l.net, m.GetReport(), epoch, true)
	if err != nil {
		return err
	}
	by := l.net.Witnesses[r.at]
	if old := l.accused.reports[by]; old != nil && l.accused.epoch == epoch && bytes.Equal(old.raw, r.raw) {
		return nil // a repetition
	}
	if len(m.Receipts) != len(r.ids) {
		return proto.CodeMalformed.Errorf("report of %d wrong receipts with %d of them", len(r.ids), len(m.Receipts))
	}
	x := &l.accused
	if x.reports == nil || x.epoch != epoch {
		x.reports, x.named, x.looked, x.epoch = map[peer.ID]*wrongReport{}, map[peer.ID][]*Accused{}, map[peer.ID]int{}, epoch
	}
	seen := map[proto.Hash]*Accused{}
	for _, a := range x.named[by] {
		seen[a.ID] = a
	}
	var list []*Accused
	for i, sr := range m.Receipts {
		a := seen[r.ids[i]]
		if a == nil {
			if x.looked[by]++; x.looked[by] > maxFound { // each costs a check of a signature
				return proto.CodeRateLimited.Errorf("more than %d wrong receipts for one checkpoint", maxFound)
			}
			if a, err = openAccused(l.net, sr, !l.s.off.has(guardWrongSigner)); err != nil {
				return err
			}
		}
		if a.ID != r.ids[i] {
			return proto.CodeMalformed.Errorf("report of wrong work: receipt %d is another one", i)
		}
		list = append(list, a)
	}
	x.reports[by], x.named[by] = r, list
	return nil
}

// attachWrong adds to a draft what enough reports name and at most room bytes
// hold. It reports whether that is anything.
func (l *Ledger) attachWrong(epoch uint64, n *news, room int) bool {
	if l.accused.epoch != epoch {
		return false
	}
	votes, known := map[proto.Hash]int{}, map[proto.Hash]found{}
	for _, list := range l.accused.named {
		for _, a := range list {
			votes[a.ID]++
			known[a.ID] = found{Accused: a}
		}
	}
	for id, a := range known {
		if votes[id] < l.wrongVotes() || l.fresh(a.Accused) != nil {
			delete(known, id)
		}
	}
	if len(known) == 0 {
		return false
	}
	const framing = 8 // bytes at most of a field's tag and length
	for _, by := range l.net.Witnesses {
		if r := l.accused.reports[by]; r != nil && slices.ContainsFunc(r.ids, func(id proto.Hash) bool { return known[id].Accused != nil }) {
			n.reports = append(n.reports, r.raw)
			room -= len(r.raw) + framing
		}
	}
	for _, a := range l.ranked(slices.Collect(maps.Values(known))) {
		if size := goproto.Size(a.Signed) + framing; size <= room && len(n.wrong) < maxWrong {
			n.wrong = append(n.wrong, a.Signed)
			room -= size
		}
	}
	if len(n.wrong) == 0 {
		n.reports = nil
		return false
	}
	slices.SortFunc(n.wrong, func(a, b *proto.SignedReceipt) int {
		x, y := proto.HashOf(a.Receipt), proto.HashOf(b.Receipt)
		return bytes.Compare(x[:], y[:])
	})
	return true
}

// Reexecute asks the driver to execute accused work again; module and input
// are with the submitter that the receipt names, by CID. Witness.Found says
// that the result was another one; nothing says anything else.
type Reexecute struct{ *Accused }

func (Reexecute) output() {}

// wrongWorks takes a witness's report from that witness: others could bring an
// older one after a newer.
func (s *step) wrongWorks(m *proto.WrongWorks) error {
	if sg, err := openUnchecked(m.GetReport(), proto.KindWrongReport); err != nil || sg.Signer != s.from {
		return cmp.Or(err, proto.CodeNotWitness.Errorf("a report of wrong work that %s did not make", s.from))
	}
	return s.w.l.KeepWrong(m)
}

// accused takes a receipt from the submitter that it names.
func (s *step) accused(sr *proto.SignedReceipt) error {
	if !s.w.cfg.Reexecute {
		return nil
	}
	a, err := s.w.l.Accusable(sr)
	if err != nil {
		return err
	}
	if s.from != peer.ID(a.Receipt.Submitter) {
		return proto.CodeBadReceipt.Errorf("accused: the receipt names another submitter than %s", s.from)
	}
	if s.w.l.accused.found[a.ID].Accused == nil {
		s.outs = append(s.outs, Reexecute{a})
	}
	return nil
}

// Found answers a Reexecute whose result is not the receipt's: see
// Ledger.Found. WrongWork reports it.
func (w *Witness) Found(a *Accused, fuel proto.Fuel) error { return w.l.Found(a.Signed, fuel) }

// WrongWork makes and signs this witness's report for the next checkpoint,
// keeps it and has it sent to the other witnesses. Call it when something was
// found, after each checkpoint, and again when a report may have been lost.
// Without anything to report it does nothing.
func (w *Witness) WrongWork() ([]Output, error) {
	m, receipts := w.l.DraftWrong()
	if m == nil {
		return nil, nil
	}
	raw, err := w.cfg.Sign(&proto.Payload{Body: &proto.Payload_WrongReport{WrongReport: m}})
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	works := &proto.WrongWorks{Report: raw, Receipts: receipts}
	if err := w.l.KeepWrong(works); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	if len(w.rest) == 0 {
		return nil, nil
	}
	return []Output{Send{w.rest, &proto.VoteFrame{Body: &proto.VoteFrame_WrongWorks{WrongWorks: works}}}}, nil
}
