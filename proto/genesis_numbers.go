package proto

import (
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// MaxWitnesses bounds the witnesses of a genesis: each certificate carries the
// signatures of two thirds of them.
const MaxWitnesses = 100

const (
	day        = uint64(24 * time.Hour / time.Second)
	maxSupply  = 1 << 53                       // microcredits that a network ever has
	maxCharge  = 1_000_000 * uint64(OneCredit) // of one event
	maxRunSecs = uint64(MaxRun / time.Second)  // see MaxRun
	defRunSecs = uint64(DefaultMaxRun / time.Second)
)

// number is what one number of a genesis may be.
type number struct {
	unset       uint64 // what 0 stands for
	least, most uint64
	unit        string
}

// genesisNumbers has a row for every number of the schema, by its path: a field
// without one makes every genesis refused. Nothing derived from numbers within
// these ranges overflows, so no part of a node checks them again.
var genesisNumbers = map[string]number{
	"grants.amount":     {0, 0, maxSupply, "microcredits"},
	"curve_m":           {10, 1, 1_000_000, "times the base price"},
	"curve_d_cpu_hours": {1_000_000, 1, 1_000_000_000_000, "CPU hours"},
	"epoch_seconds":     {3600, 1, 31 * day, "seconds"},
	"kappa_ppm":         {0, 0, 100_000_000, "parts per million"},
	"base_price":        {uint64(OneCredit), 1, uint64(MaxPriceCredits), "microcredits per 60 Gfuel"},
	"fee_ppm":           {10_000, 0, 1_000_000, "parts per million"},
	"min_transfer":      {1, 1, maxCharge, "microcredits"},
	"event_cost":        {0, 0, maxCharge, "microcredits"},
	"opening_cost":      {0, 0, maxCharge, "microcredits"},
	"shards":            {1, 1, 1024, "topics"},
	"grace_seconds":     {900, 1, 31 * day, "seconds"},
	"low_percent":       {DefaultLowPercent, 1, 100, "percent"},
	"high_percent":      {DefaultHighPercent, 100, MaxPercent, "percent"},
	"max_run_seconds":   {defRunSecs, 1, maxRunSecs, "seconds"},
	"max_hold_seconds":  {7 * day, 3600, 366 * day, "seconds"},
	"relay.bytes":       {64 << 20, 1, 1 << 40, "bytes"},
	"relay.seconds":     {3600, 1, 31 * day, "seconds"},
}

// fillNumbers gives every number of m that is 0 its default and refuses those
// out of their range, and fields that this version does not know: two versions
// must not read one genesis differently.
func fillNumbers(m protoreflect.Message, path string) error {
	if len(m.GetUnknown()) > 0 {
		return CodeMalformed.Errorf("genesis: it has fields that this version does not know; a newer edgenetd wrote it, so update this one")
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := path + string(f.Name())
		switch {
		case f.Message() != nil && f.IsList():
			for j := range m.Get(f).List().Len() {
				if err := fillNumbers(m.Get(f).List().Get(j).Message(), name+"."); err != nil {
					return err
				}
			}
		case f.Message() != nil:
			if err := fillNumbers(m.Mutable(f).Message(), name+"."); err != nil {
				return err
			}
		case f.Kind() == protoreflect.StringKind || f.Kind() == protoreflect.BytesKind || f.Kind() == protoreflect.BoolKind:
		default:
			want, ok := genesisNumbers[name]
			if !ok || f.IsList() || f.Kind() != protoreflect.Uint64Kind && f.Kind() != protoreflect.Uint32Kind {
				return CodeInternal.Errorf("genesis: %s has no range", name)
			}
			v := m.Get(f).Uint()
			if v == 0 && want.unset != 0 {
				v = want.unset
				if f.Kind() == protoreflect.Uint32Kind {
					m.Set(f, protoreflect.ValueOfUint32(uint32(v)))
				} else {
					m.Set(f, protoreflect.ValueOfUint64(v))
				}
			}
			if v < want.least || v > want.most {
				return CodeMalformed.Errorf("genesis: %s is %d, want %d to %d %s", name, v, want.least, want.most, want.unit)
			}
		}
	}
	return nil
}
