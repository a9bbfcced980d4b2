package ledger_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Many accounts with a little stake do not push out one with more, whatever
// their keys are, and none is probed that would earn nothing.
func TestProbedAreTheLargestStakes(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 1000 * credit, "bob": credit, "carol": credit}, func(g *proto.Genesis) { g.KappaPpm = 10_000 })
	l := w.ledger()
	for p, stake := range map[person]uint64{alice: 100 * credit, bob: 101, carol: 99} { // κ·stake is a hundredth
		w.do(l, p, &proto.Open{})
		w.do(l, p, ledger.Stake(stake))
	}
	w.checkpoint(l)
	probed := func() []peer.ID {
		epoch, ids, err := l.Probed()
		if err != nil || epoch != 2 {
			t.Fatal(epoch, err)
		}
		return ids
	}
	want := []peer.ID{alice.id, bob.id}
	if got := probed(); !slices.Equal(got, want) {
		t.Fatalf("%v, want alice and bob", got)
	}
	l.Crowd(2*ledger.MaxProbed, 100)
	got := probed()
	if len(got) != ledger.MaxProbed || !slices.Equal(got[:2], want) {
		t.Fatalf("%d accounts, the first are %v, want alice and bob", len(got), got[:2])
	}
	if !slices.IsSorted(got[2:]) {
		t.Error("equal stakes are not in the order of their keys")
	}
	if _, err := l.DraftProbes(l.Accounts()); proto.CodeOf(err) != proto.CodeTooLarge {
		t.Errorf("a report on everybody: %v", err)
	}
}

// Accounts are cheap: however many there are, being up is paid.
func TestUptimeAmongManyAccounts(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 1000 * credit}, func(g *proto.Genesis) { g.KappaPpm = 10_000 })
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	w.do(l, alice, ledger.Stake(100*credit))
	w.checkpoint(l)
	l.Crowd(100_000, 0)
	for _, by := range w.witnesses[:3] {
		w.probe(l, by, alice.id)
	}
	w.checkpoint(l)
	if n, _ := ofKind(l.Rewards(alice.id), "uptime"); n != 1 {
		t.Fatalf("%d rewards", n)
	}
}

// The largest report there can be among a million accounts has an envelope, and
// those of a quorum of seven witnesses fit beside all else that a checkpoint adds.
func TestLargestProbeReports(t *testing.T) {
	w := newWorld(t, 7, nil)
	const accounts = 1_000_000
	var list []int // as many as can be two bytes long each, and the others three
	at := -1
	for left := ledger.MaxProbed; left > 0; left-- {
		at += 1<<7 + 1
		if at+1<<14+(left-1)*(1<<7+1) < accounts {
			at += 1<<14 - 1<<7
		}
		list = append(list, at)
	}
	up := ledger.EncodeIndexes(list)
	if got, err := ledger.DecodeIndexes(up, accounts); err != nil || !slices.Equal(got, list) || len(up) <= 2*ledger.MaxProbed {
		t.Fatalf("%d entries in %d bytes, %v", len(got), len(up), err)
	}
	report := w.seal(w.witnesses[0], &proto.Payload{Body: &proto.Payload_ProbeReport{ProbeReport: &proto.ProbeReport{Epoch: 1 << 32, Up: up}}})
	t.Logf("a report has %d bytes, its payload at most %d", len(report), proto.KindProbeReport.Cap())

	key := make([]byte, 32)
	m := &proto.FrontierChanges{}
	for range ledger.MaxChanges {
		m.Changes = append(m.Changes, &proto.FrontierChange{Key: key, Seq: 1 << 32})
	}
	for range 1000 {
		m.Rewards = append(m.Rewards, &proto.Reward{Key: key, Amount: 10 * credit, Referee: key})
	}
	for range w.net.Quorum() {
		m.Probes = append(m.Probes, make([]byte, proto.KindProbeReport.Cap()+len(report)-len(up)))
	}
	if n := goproto.Size(m); n > ledger.MaxChangesSize {
		t.Errorf("changes of %d bytes, at most %d", n, ledger.MaxChangesSize)
	}
}

// In a network of so many witnesses that large reports of a quorum do not fit
// into a checkpoint, it comes without them.
func TestProbeReportsThatDoNotFit(t *testing.T) {
	w := newWorld(t, 43, map[string]uint64{"alice": 1000 * credit}, func(g *proto.Genesis) { g.KappaPpm = 10_000 })
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	w.do(l, alice, ledger.Stake(100*credit))
	w.checkpoint(l)
	for _, by := range w.witnesses {
		r, err := l.DraftProbes([]peer.ID{alice.id})
		if err != nil {
			t.Fatal(err)
		}
		// The field comes again; the last one counts.
		long := append(binary.AppendUvarint([]byte{0x12}, 10_000), make([]byte, 10_000)...)
		r.ProtoReflect().SetUnknown(append(long, 0x12, 1, 0))
		if err := l.KeepProbes(w.seal(by, &proto.Payload{Body: &proto.Payload_ProbeReport{ProbeReport: r}})); err != nil {
			t.Fatal(err)
		}
	}
	body, changes, err := l.DraftCheckpoint(2)
	if err != nil || len(changes) > ledger.MaxChangesSize {
		t.Fatalf("changes of %d bytes, %v", len(changes), err)
	}
	if _, err := l.CheckCheckpoint(w.sealCheckpoint(body)); err != nil {
		t.Fatal(err)
	}
}

// A list of places has one form and is bounded.
func FuzzIndexes(f *testing.F) {
	f.Add([]byte{}, uint32(0))
	f.Add([]byte{0}, uint32(0))
	f.Add([]byte{0, 0, 0x80, 1}, uint32(131))
	f.Add([]byte{0, 0, 0x80, 1}, uint32(130))
	f.Add([]byte{0x80, 0}, uint32(9))
	f.Add([]byte{3, 0x80}, uint32(9))
	f.Add(binary.AppendUvarint([]byte{0}, 1<<64-1), uint32(1<<32-1))
	f.Add(bytes.Repeat([]byte{0xff}, 11), uint32(9))
	f.Add(make([]byte, ledger.MaxProbed), uint32(ledger.MaxProbed))
	f.Add(make([]byte, ledger.MaxProbed+1), uint32(1<<20))
	f.Fuzz(func(t *testing.T, raw []byte, end uint32) {
		list, err := ledger.DecodeIndexes(raw, int(end))
		if err != nil {
			if code := proto.CodeOf(err); code != proto.CodeMalformed && code != proto.CodeTooLarge && code != proto.CodeInvalidEvent {
				t.Fatalf("refused with %s", code)
			}
			return
		}
		if !bytes.Equal(ledger.EncodeIndexes(list), raw) {
			t.Fatalf("%x has another form", raw)
		}
		if len(list) > ledger.MaxProbed {
			t.Fatalf("%d places", len(list))
		}
		for i, at := range list {
			if at < 0 || at >= int(end) || i > 0 && at <= list[i-1] {
				t.Fatalf("%v below %d", list, end)
			}
		}
	})
}
