package market

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// eight is a network of a submitter, eight keys without credits that claim at
// once and for nothing, and four honest workers that nobody knows yet.
func eight(t *testing.T, seed uint64, hang int) *sim {
	s := newSim(t, seed, 13, func(i int, c *Config) {
		switch {
		case i == 0:
			c.MaxAttempts = 1
		case i < 9:
			c.ClaimStep = 1
		}
	})
	for _, n := range s.nodes[1:9] {
		n.silent, n.hang = true, hang
	}
	return s
}

// Keys that cost nothing claim at price 0 and stay silent, at once or after they
// took the work, or hang up when they get it: the job is done by others all the same, and the next one does
// not ask them any more, not even after a restart.
func TestSilentKeysFailNoJob(t *testing.T) {
	for _, hang := range []int{0, 100, -1} {
		for _, off := range []bool{false, true} {
			failed := 0
			for seed := range uint64(3) {
				s := eight(t, 50+seed, hang)
				s.nodes[0].m.off.standing, s.nodes[0].m.off.silence = off, off
				o := Options{Redundancy: 2, Fuel: 60_000_000, Timeout: 10 * time.Minute}
				id := s.job(0, fmt.Sprint("first ", seed), 20, o)
				s.until(11*time.Minute, s.final(id))
				if v := s.view(id); v.Record.State != Done {
					failed++
					if !off {
						t.Errorf("hang %d, seed %d: %s after %s: %s", hang, seed, v.Record.State, s.now.Sub(simStart), v.Record.Reason)
					}
					continue
				}
				if off {
					continue
				}
				if took := s.now.Sub(simStart); hang == 0 && took > 30*time.Second {
					t.Errorf("seed %d: keys that do not answer cost %s, a try may run for 30 s and 10 more", seed, took)
				}
				s.sleep(standingsKept)
				s.until(time.Minute, s.settled(id))
				second := s.job(0, fmt.Sprint("second ", seed), 1, o)
				s.until(time.Minute, s.settled(second))
				s.crash(s.nodes[0])
				s.restart(s.nodes[0])
				s.sleep(time.Second)
				lost := s.view(second).LostTries
				third := s.job(0, fmt.Sprint("third ", seed), 20, o)
				s.until(time.Minute, s.final(third))
				if v := s.view(third); v.Record.State != Done || v.LostTries+lost > 8 {
					t.Errorf("hang %d, seed %d: later jobs lost %d and %d tries", hang, seed, lost, v.LostTries)
				}
			}
			if hang > 0 && off {
				continue // what is lost is only time, 40 s for each try
			}
			if (failed > 0) != off {
				t.Errorf("hang %d, without the rule %v: %d of 3 jobs failed", hang, off, failed)
			}
		}
	}
}

func stander(t *testing.T) *Machine {
	m, err := New(Config{Self: simPeer(999)})
	if err != nil {
		t.Fatal(err)
	}
	m.Step(simStart, Tick{})
	return m
}

// What a worker kept and broke fades; young identities answer for each other;
// and many of them push out nobody who is known.
func TestStandings(t *testing.T) {
	m := stander(t)
	w := simPeer(1)
	for range 3 {
		m.keptPromise(w)
	}
	m.brokePromise(w, brokeTry)
	if m.class(w) != classGood {
		t.Error("three kept and one broken is not good")
	}
	m.brokePromise(w, brokeTry)
	if m.class(w) != classBad {
		t.Error("two of five broken is not bad")
	}
	m.Step(simStart.Add(2*standingHalf), Tick{})
	if m.class(w) != classNew {
		t.Errorf("after two half-lives it is class %d", m.class(w))
	}
	if got := m.strangersShare(); got != 4 {
		t.Errorf("strangers get one place in %d", got)
	}
	for i := range 4 {
		m.brokePromise(simPeer(10+i), brokeTry)
	}
	if got := m.strangersShare(); got != 8 {
		t.Errorf("after strangers broke what they claimed they get one place in %d", got)
	}
	good := simPeer(2)
	m.keptPromise(good)
	for i := range 3 * maxStandings {
		m.brokePromise(simPeer(1000+i), brokeTry)
	}
	if len(m.standings) != maxStandings || m.class(good) != classGood {
		t.Errorf("%d records, the known one is class %d", len(m.standings), m.class(good))
	}
}

// A stake, a reputation and kept promises come before the last microcredit, and
// those who have them do not fall silent for keys that have nothing.
func TestStakeCountsInTheOrderOfClaims(t *testing.T) {
	for _, off := range []bool{false, true} {
		ahead := 0
		for job := range byte(40) {
			m := stander(t)
			m.off.standing = off
			m.Step(simStart, Reputations{Epoch: 1, Stakes: map[peer.ID]proto.Credit{simPeer(1): 50 * proto.OneCredit, simPeer(2): 800 * proto.OneCredit}})
			id := proto.JobID{job}
			m.Step(simStart, Submit{Job: Job{ID: id, Type: "text", Module: scenarioModule, Inputs: inputs(100, 1), Created: simStart, Options: Options{Redundancy: 2, MaxCredits: 1000 * proto.OneCredit, Priority: proto.PriorityNormal}}})
			for i := range 8 {
				m.Step(simStart, ClaimSeen{From: simPeer(i), Claim: &proto.Claim{
					Offer: id[:], Submitter: []byte(simPeer(999)), Slots: 1, Price: uint64(600_000 + 1000*i), Round: 1, ExpiresUnixMs: uint64(simStart.Add(time.Minute).UnixMilli()),
				}})
			}
			cs := m.ranked(m.jobs[id])
			if !off && (cs[0].worker != simPeer(1) || cs[1].worker != simPeer(2)) {
				t.Fatalf("job %d: not those with a stake come first", job)
			}
			if off && cs[0].worker == simPeer(1) {
				t.Fatalf("job %d: a stake counts though that is switched off", job)
			}
			// At one price, the order is by weight: 800 credits come first more often.
			m.cfg.Price = 800 * proto.OneCredit
			if h := proto.HashOf([]byte{job}); weighted(h, m.weight(simPeer(2))) < weighted(proto.HashOf([]byte{job, 1}), m.weight(simPeer(3))) {
				ahead++
			}
		}
		if !off && ahead < 22 || off && (ahead < 12 || ahead > 28) {
			t.Errorf("off %v: the heavier came first in %d of 40", off, ahead)
		}
		b := newBench(t, Worker{Enabled: true, Slots: 1, Types: []string{"text"}, Custom: true})
		b.m.off.standing = off
		b.step(Neighbours{Workers: 1000})
		b.step(Reputations{Epoch: 1, Stakes: map[peer.ID]proto.Credit{simPeer(0): 50 * proto.OneCredit}})
		id := proto.JobID{1}
		b.step(OfferSeen{From: simPeer(5), Offer: &proto.Offer{
			Id: id[:], Type: "text", Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion, FuelLimit: 60_000_000, PriceCap: 1_000_000,
			SlotsWanted: 2, WorkersWanted: 2, DeadlineUnixMs: uint64(simStart.Add(time.Hour).UnixMilli()), Priority: uint32(proto.PriorityNormal), Round: 1,
		}})
		for i := range 8 {
			b.step(ClaimSeen{From: simPeer(10 + i), Claim: &proto.Claim{Offer: id[:], Submitter: []byte(simPeer(5)), Slots: 1000, Round: 1}})
		}
		b.now = b.now.Add(time.Minute)
		claimed := false
		for _, o := range b.step(Tick{}) {
			_, ok := o.(PublishClaim)
			claimed = claimed || ok
		}
		if claimed == off {
			t.Errorf("without the rule %v: a worker with a stake answers after eight without: %v", off, claimed)
		}
	}
}

// A task that strangers lost goes to those who are known, as long as there are
// any, even when these are busy; who broke more than it kept comes last.
func TestRetriesGoToTheKnown(t *testing.T) {
	m := stander(t)
	m.keptPromise(simPeer(1))
	m.brokePromise(simPeer(3), brokeWord)
	s := m.newSession(proto.JobID{1})
	for i := 1; i <= 4; i++ {
		l := m.addLease(s, simPeer(i))
		l.lane, l.expires, l.window = i, simStart.Add(time.Hour), 1
	}
	s.jobs[proto.JobID{1}] = &job{k: 2}
	for _, x := range []struct {
		t    *task
		want class
	}{
		{nil, classNew},
		{&task{level: 2}, classNew},
		{&task{level: 2, lost: 1}, classNew},
		{&task{level: 2, lost: 2}, classGood},
		{&task{level: 7}, classBad},
	} {
		if got, _ := m.trust(s, x.t, unknown); got != x.want {
			t.Errorf("%+v: class %d, want %d", x.t, got, x.want)
		}
	}
	m.brokePromise(simPeer(1), brokeVote)
	if got, _ := m.trust(s, &task{level: 2, lost: 2}, unknown); got != classNew {
		t.Errorf("with nobody known: class %d", got)
	}
}

// A link that breaks, or a disk that stalls, costs a worker that kept its word
// before one incident, however much it had to do.
func TestOneIncidentIsNoHistory(t *testing.T) {
	for _, off := range []bool{false, true} {
		m := stander(t)
		m.off.incident = off
		w := simPeer(1)
		for range 20 {
			m.keptPromise(w)
		}
		l := m.addLease(m.newSession(proto.JobID{1}), w)
		lose := func() {
			sent := m.now
			m.Step(m.now.Add(time.Second), Tick{})
			for range 33 {
				m.broke(&replica{lease: l, sent: sent}, brokeWord)
			}
		}
		if lose(); (m.class(w) == classGood) == off {
			t.Errorf("without the rule %v: after one incident it is class %d", off, m.class(w))
		}
		for range 8 {
			lose()
		}
		if m.class(w) != classBad {
			t.Errorf("after nine incidents it is class %d", m.class(w))
		}
	}
}

// A submitter that stood still, and not its workers, does not blame them: what
// they said meanwhile is heard before anybody is given up.
func TestAStandstillIsNobodysSilence(t *testing.T) {
	for _, off := range []bool{false, true} {
		s := newSim(t, 5, 4, func(i int, c *Config) { c.Worker.Slots = 8 })
		n := s.nodes[0]
		n.m.off.incident = off
		s.latency = 20 * time.Millisecond
		sent := false
		s.observe = func(at *simNode, _ Input, outs []Output) {
			for _, o := range outs {
				if _, assigned := o.(SendAssign); assigned && at == n && !sent {
					sent, n.still = true, s.now.Add(15*time.Second)
				}
			}
		}
		id := s.job(0, "a", 12, Options{Redundancy: 2, Fuel: 60_000_000})
		s.until(5*time.Minute, s.final(id))
		if v := s.view(id); !sent || v.Record.State != Done || (v.LostTries == 0) == off {
			t.Errorf("without the rule %v: %s with %d tries lost", off, v.Record.State, v.LostTries)
		}
	}
}

// A worker that is given up for silence while this node runs on is given up
// also when it stood still before.
func TestAStandstillEnds(t *testing.T) {
	s := newSim(t, 6, 4, nil)
	n := s.nodes[0]
	s.nodes[1].silent = true
	for i := range 8 {
		s.after(time.Duration(i)*4*time.Second, func() { n.still = s.now.Add(2 * time.Second) })
	}
	id := s.job(0, "a", 12, Options{Redundancy: 2, Fuel: 60_000_000})
	s.until(5*time.Minute, s.final(id))
	if v := s.view(id); v.Record.State != Done {
		t.Errorf("%s: %s", v.Record.State, v.Record.Reason)
	}
}

// A key that nobody knows gets no more work for saying that it has many slots.
func TestClaimedSlotsAreNoShare(t *testing.T) {
	m := stander(t)
	s := m.newSession(proto.JobID{1})
	known, stranger := m.addLease(s, simPeer(1)), m.addLease(s, simPeer(2))
	m.keptPromise(simPeer(1))
	for i, l := range []*lease{known, stranger} {
		l.lane, l.expires, l.parallel = i, simStart.Add(time.Hour), 1024
	}
	known.window, stranger.window = 16, 1024
	known.inflight, stranger.inflight = 15, 4
	if k := m.knownWindow(s); !m.load(known, k).before(m.load(stranger, k)) {
		t.Error("a stranger with four tasks comes before a known worker with fifteen")
	}
}
