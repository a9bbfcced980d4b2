package market

import (
	"strings"
	"testing"
	"time"

	"edgenet.dev/proto"
)

// Workers whose limits are below a job's say what they grant and get none of it;
// who asked then knows the most that there is, for as long as such a word counts.
func TestWorkersSayWhatTheyGrant(t *testing.T) {
	limits := []Grant{{}, {1_000_000, 128 << 20}, {80_000_000, 64 << 20}, {60_000_000, 1 << 30}, {60_000_000, 1 << 30}}
	s := newSim(t, 3, len(limits), func(i int, c *Config) {
		c.Worker.MaxFuel, c.Worker.MaxMemory = limits[i].Fuel, limits[i].Memory
		c.Worker.Enabled = i > 0
	})
	m := func() *Machine { return s.nodes[0].m }
	grants := func(fuel proto.Fuel, memory uint64) Grants { return m().Grants(s.now, fuel, memory) }

	// A job for those that grant enough: nobody else takes part in it.
	id := s.job(0, "a", 4, Options{Fuel: 60_000_000, Memory: 256 << 20})
	s.until(time.Minute, s.final(id))
	if v := s.view(id); v.Record.State != Done {
		t.Fatal(v.Record.State)
	}
	for _, v := range m().Tasks(id) {
		for _, r := range v.Replicas {
			if r.Worker == s.nodes[1].id || r.Worker == s.nodes[2].id {
				t.Errorf("a worker that grants less had task %v", v.ID)
			}
		}
	}
	// All were heard, those that answered for nothing, too.
	want := Grants{Workers: 4, Able: 2, Most: Grant{80_000_000, 1 << 30}, Fuel: 60_000_000, Memory: 1 << 30}
	if g := grants(60_000_000, 256<<20); g != want {
		t.Errorf("%+v, want %+v", g, want)
	}
	if g := grants(80_000_000, 256<<20); g.Able != 0 || g.Fuel != 60_000_000 || g.Memory != 64<<20 {
		t.Errorf("of both limits: %+v", g)
	}
	// One that is too large for all waits, and why says how large it may be.
	id = s.job(0, "b", 1, Options{Fuel: 90_000_000, Memory: 64 << 20, Timeout: time.Hour})
	s.sleep(time.Second)
	lines := strings.Join(m().Why(id), "\n")
	if !strings.Contains(lines, "0 of the 4 workers that said which limits they grant allow 90000000 fuel (--fuel) and 67108864 bytes of memory (--memory) for a task; the most that any grants is 80000000 fuel and 1073741824 bytes.") {
		t.Errorf("why: %s", lines)
	}
	if n := len(m().jobs[id].bid.claims); n != 0 {
		t.Errorf("%d claims are kept of workers that grant less", n)
	}
	s.nodes[0].step(Cancel{Job: id})
	s.sleep(GrantKept)
	if g := grants(90_000_000, 64<<20); g.Workers != 0 {
		t.Errorf("%d workers are known %s after they were heard", g.Workers, GrantKept)
	}
}

// A node that heard of nobody says so, and its table is bounded: what gives way
// is not forgotten before its time.
func TestGrantsAreBounded(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	m, err := New(Config{Self: simPeer(999)})
	if err != nil {
		t.Fatal(err)
	}
	id := proto.JobID{1}
	m.Step(now, Submit{Job: Job{ID: id, Type: "text", Module: scenarioModule, Inputs: make([]InputRef, 1), Created: now, Options: Options{Redundancy: 2, MaxCredits: 1000 * proto.OneCredit, Timeout: time.Hour}}})
	if lines := strings.Join(m.Why(id), "\n"); !strings.Contains(lines, "No worker has said so far which limits it grants; the job asks for 30000000000 fuel and 268435456 bytes") {
		t.Error(lines)
	}
	say := func(i int, g Grant) {
		m.Step(now, ClaimSeen{From: simPeer(i), Claim: &proto.Claim{
			Offer: id[:], Submitter: []byte(simPeer(999)), Round: 1, ExpiresUnixMs: uint64(now.Add(time.Minute).UnixMilli()), MaxFuel: uint64(g.Fuel), MaxMemory: g.Memory,
		}})
	}
	say(0, Grant{proto.MaxFuel, 1 << 30})
	now = now.Add(time.Second)
	for i := range 3 * maxGrants {
		say(1+i, Grant{1, 1})
	}
	for _, g := range []Grant{{proto.DefaultFuel - 1, 1 << 30}, {proto.DefaultFuel, 1 << 20}} { // a claim that does not suffice is none
		m.Step(now, ClaimSeen{From: simPeer(1), Claim: &proto.Claim{
			Offer: id[:], Submitter: []byte(simPeer(999)), Round: 1, Slots: 1, ExpiresUnixMs: uint64(now.Add(time.Minute).UnixMilli()), MaxFuel: uint64(g.Fuel), MaxMemory: g.Memory,
		}})
	}
	if n := len(m.jobs[id].bid.claims); n != 0 {
		t.Errorf("%d claims of too small limits are kept", n)
	}
	if len(m.grants) != maxGrants {
		t.Errorf("%d workers are kept", len(m.grants))
	}
	if g := m.Grants(now, proto.MaxFuel, 1<<30); g.Able == 0 {
		t.Errorf("the large worker is forgotten: %+v", g)
	}
	now = now.Add(GrantKept)
	say(0, Grant{5, 5})
	if g := m.Grants(now, 1, 1); g != (Grants{Workers: 1, Able: 1, Most: Grant{5, 5}, Fuel: 5, Memory: 5}) {
		t.Errorf("what was said before counts on: %+v", g)
	}
}

// Whoever would only repeat what another said is silent, and an answer of no
// slots silences nobody who can do the work.
func TestGrantsAreSaidOnce(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	submitter, id := simPeer(999), proto.JobID{1}
	answer := func(own Grant, heard *proto.Claim) (out *proto.Claim) {
		m, err := New(Config{Self: simPeer(1), Worker: Worker{Enabled: true, Custom: true, MaxFuel: own.Fuel, MaxMemory: own.Memory}})
		if err != nil {
			t.Fatal(err)
		}
		m.Step(now, Neighbours{Workers: 1000})
		outs := m.Step(now, OfferSeen{From: submitter, Offer: &proto.Offer{
			Id: id[:], Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion, FuelLimit: 100, MemoryLimit: 100, Round: 1,
			SlotsWanted: 1, WorkersWanted: 1, PriceCap: uint64(proto.OneCredit), DeadlineUnixMs: uint64(now.Add(time.Hour).UnixMilli()),
		}})
		if len(outs) > 0 {
			t.Fatal("answered before its turn")
		}
		heard.Offer, heard.Submitter, heard.Round = id[:], []byte(submitter), 1
		m.Step(now, ClaimSeen{From: simPeer(2), Claim: heard})
		for _, o := range m.Step(now.Add(time.Minute), Tick{}) {
			if c, ok := o.(PublishClaim); ok {
				out = c.Claim
			}
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		own   Grant
		heard *proto.Claim
		slots bool
		says  bool
	}{
		{"less was said", Grant{50, 50}, &proto.Claim{MaxFuel: 40, MaxMemory: 90}, false, true},
		{"as much was said", Grant{50, 50}, &proto.Claim{MaxFuel: 50, MaxMemory: 90}, false, false},
		{"able, others are not", Grant{100, 100}, &proto.Claim{MaxFuel: 50, MaxMemory: 50}, true, true},
		{"able, others claim what they do not grant", Grant{100, 100}, &proto.Claim{Slots: 9, MaxFuel: 50, MaxMemory: 500}, true, true},
		{"able, and others are", Grant{100, 100}, &proto.Claim{Slots: 9, MaxFuel: 500, MaxMemory: 500}, true, false},
		{"able, and others of an earlier version are", Grant{100, 100}, &proto.Claim{Slots: 9}, true, false},
	} {
		c := answer(tt.own, tt.heard)
		switch {
		case (c != nil) != tt.says:
			t.Errorf("%s: answers %v", tt.name, c)
		case c != nil && (c.MaxFuel != uint64(tt.own.Fuel) || c.MaxMemory != tt.own.Memory || (c.Slots > 0) != tt.slots):
			t.Errorf("%s: says %v", tt.name, c)
		}
	}
}
