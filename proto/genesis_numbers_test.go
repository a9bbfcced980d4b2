package proto_test

import (
	"math"
	"strings"
	"testing"
	"time"

	goproto "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"edgenet.dev/proto"
)

// genesisWith parses a genesis whose numbers are as given by path.
func genesisWith(t testing.TB, numbers map[string]uint64, change ...func(*proto.Genesis)) (*proto.Network, error) {
	t.Helper()
	id := []byte(idOf(t))
	g := &proto.Genesis{
		Name: "numbers", Nonce: make([]byte, 16), Witnesses: [][]byte{id},
		Grants: []*proto.Grant{{Account: id}}, Relay: new(proto.RelayLimits),
	}
	for path, v := range numbers {
		m, field := g.ProtoReflect(), path
		if name, ok := strings.CutPrefix(path, "relay."); ok {
			m, field = g.Relay.ProtoReflect(), name
		} else if name, ok := strings.CutPrefix(path, "grants."); ok {
			m, field = g.Grants[0].ProtoReflect(), name
		}
		f := m.Descriptor().Fields().ByName(protoreflect.Name(field))
		if f.Kind() == protoreflect.Uint32Kind {
			m.Set(f, protoreflect.ValueOfUint32(uint32(v)))
		} else {
			m.Set(f, protoreflect.ValueOfUint64(v))
		}
	}
	for _, c := range change {
		c(g)
	}
	raw, err := goproto.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	return proto.ParseGenesis(raw)
}

// Every number that the schema has, also in messages within, is in the table,
// and the table is what decides.
func TestEveryNumberOfAGenesisHasARange(t *testing.T) {
	table := proto.GenesisNumbers()
	fields := map[string]bool{}
	var walk func(d protoreflect.MessageDescriptor, path string)
	walk = func(d protoreflect.MessageDescriptor, path string) {
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			name := path + string(f.Name())
			switch f.Kind() {
			case protoreflect.MessageKind:
				walk(f.Message(), name+".")
			case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.BoolKind:
			default:
				fields[name] = true
				if _, ok := table[name]; !ok {
					t.Errorf("%s has no row in genesisNumbers: give it a range", name)
				}
			}
		}
	}
	walk(new(proto.Genesis).ProtoReflect().Descriptor(), "")
	for name, want := range table {
		if !fields[name] {
			t.Errorf("genesisNumbers has %s, the schema does not", name)
			continue
		}
		refused := func(v uint64) {
			t.Helper()
			if _, err := genesisWith(t, map[string]uint64{name: v}); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s of %d: %v", name, v, err)
			}
		}
		refused(want.Most + 1)
		if want.Most < math.MaxUint32 {
			refused(math.MaxUint32)
		}
		if want.Least > 1 { // 0 stands for the default
			refused(want.Least - 1)
		}
		for _, v := range []uint64{want.Least, want.Most} {
			numbers := map[string]uint64{name: v}
			if name == "max_hold_seconds" {
				numbers["max_run_seconds"] = v / 4
				numbers["max_run_seconds"] = min(numbers["max_run_seconds"], 86400)
			}
			if _, err := genesisWith(t, numbers); err != nil {
				t.Errorf("%s of %d: %v", name, v, err)
			}
		}
	}
	if _, err := genesisWith(t, map[string]uint64{"max_run_seconds": 86400, "max_hold_seconds": 4*86400 - 1}); err == nil {
		t.Error("a hold that is shorter than a few tries")
	}
}

// No duration that a part of a node takes from a genesis is negative or so long
// that adding it to a moment overflows, whatever numbers are written into it.
func TestAcceptedGenesisNeverOverflows(t *testing.T) {
	table := proto.GenesisNumbers()
	rapid.Check(t, func(r *rapid.T) {
		numbers := map[string]uint64{}
		for name, want := range table {
			numbers[name] = rapid.OneOf(
				rapid.SampledFrom([]uint64{0, 1, want.Least, want.Most, want.Most + 1, 9223372037, 9223372036854775808, math.MaxUint64}),
				rapid.Uint64Range(want.Least, want.Most), rapid.Uint64(),
			).Draw(r, name)
		}
		n, err := genesisWith(t, numbers)
		if err != nil {
			return
		}
		now := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
		for name, d := range map[string]time.Duration{
			"epoch": n.Epoch(), "grace": n.Grace(), "hold": n.MaxHold(), "run": n.MaxRun(), "relay": n.RelayTime(), "hold and grace": n.MaxHold() + n.Grace(),
		} {
			if later := now.Add(d); d <= 0 || !later.After(now) || later.Sub(now) != d || later.Year() > 2045 {
				r.Fatalf("%s of %s ends at %s", name, d, later)
			}
		}
	})
}

// A genesis of a newer version is refused, wherever its new field is.
func TestUnknownFieldsOfAGenesisAreRefused(t *testing.T) {
	field := []byte{0xf8, 0x07, 0x01} // number 127, a varint
	for where, change := range map[string]func(*proto.Genesis){
		"genesis": func(g *proto.Genesis) { g.ProtoReflect().SetUnknown(field) },
		"grant":   func(g *proto.Genesis) { g.Grants[0].ProtoReflect().SetUnknown(field) },
		"relay":   func(g *proto.Genesis) { g.Relay.ProtoReflect().SetUnknown(field) },
	} {
		if _, err := genesisWith(t, nil, change); err == nil || !strings.Contains(err.Error(), "a newer edgenetd wrote it") {
			t.Errorf("%s: %v", where, err)
		}
	}
	if _, err := genesisWith(t, nil); err != nil {
		t.Fatal(err)
	}
}

// What 0 stands for is within the range, and is what a genesis without numbers
// has.
func TestGenesisDefaults(t *testing.T) {
	n, err := genesisWith(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n.Epoch() != time.Hour || n.Grace() != 15*time.Minute || n.MaxHold() != 7*24*time.Hour || n.MaxRun() != time.Hour ||
		n.Genesis.Relay.Bytes != 64<<20 || n.Genesis.Shards != 1 || n.Genesis.FeePpm != 10_000 || n.Genesis.CurveM != 10 {
		t.Errorf("%v", n.Genesis)
	}
}

func TestTooManyWitnesses(t *testing.T) {
	_, err := genesisWith(t, nil, func(g *proto.Genesis) {
		for len(g.Witnesses) <= proto.MaxWitnesses+2 {
			g.Witnesses = append(g.Witnesses, []byte(idOf(t)))
		}
	})
	if err == nil || !strings.Contains(err.Error(), "at most 100") {
		t.Error(err)
	}
}

// Numbers of messages and options become durations that can be added to a moment.
func TestDurationsDoNotOverflow(t *testing.T) {
	for _, v := range []uint64{9223372036, 9223372037, 9223372036854, 9223372036855, 1 << 63, math.MaxUint64} {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, d := range []time.Duration{proto.Seconds(v), proto.Millis(v)} {
			if later := now.Add(d); d <= 0 || later.UnixNano() < now.UnixNano() {
				t.Errorf("%d: %s ends at %s", v, d, later)
			}
		}
		if at := proto.UnixMs(v); at.Before(time.Unix(0, 0)) || at.UnixMilli() < 0 {
			t.Errorf("%d: %s", v, at)
		}
	}
	if proto.Seconds(77) != 77*time.Second || proto.Millis(77) != 77*time.Millisecond || proto.UnixMs(77).UnixMilli() != 77 {
		t.Error("small numbers change")
	}
}
