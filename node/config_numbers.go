package node

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"edgenet.dev/proto"
)

// configNumber is what one number of a Config may be.
type configNumber struct {
	least, most uint64
	unit        string // of durations "", which are shown as such
}

func lasting(least, most time.Duration) configNumber {
	return configNumber{least: uint64(least), most: uint64(most)}
}

// configNumbers has a row for every number and duration of Config, by its path:
// one without a row makes every Config refused. 0 stands for the default where
// the field says so. What the daemon's own keys may be is narrower and stands in
// cmd/edgenetd.
var configNumbers = map[string]configNumber{
	"Bandwidth":        {0, 1 << 50, "bytes per second"},
	"Connections":      {0, 1 << 20, "connections"},
	"Overtime":         lasting(0, 366*24*time.Hour),
	"VoteTimeout":      lasting(0, time.Hour),
	"KeepEpochs":       {0, 1 << 40, "epochs"},
	"KeepJobs":         lasting(0, proto.MaxDuration),
	"MaxState":         {0, 1 << 60, "bytes"},
	"MaxClaims":        {0, 1 << 60, "bytes"},
	"MaxCache":         {0, 1 << 60, "bytes"},
	"Linger":           lasting(0, 24*time.Hour),
	"Worker.Slots":     {0, 1024, "slots"},
	"Worker.InFlight":  {0, 1 << 16, "assignments"},
	"Worker.Spare":     {0, 1024, "executions"},
	"Worker.CPU":       {0, 100, "percent"},
	"Worker.MinPrice":  {0, uint64(proto.MaxPriceCredits), "microcredits"},
	"Worker.MaxFuel":   {0, math.MaxInt64, "fuel"},
	"Worker.MaxMemory": {0, 1 << 60, "bytes"},
}

// checkNumbers refuses numbers of a configuration that are out of their range.
// v is a struct and path where it stands in the Config.
func checkNumbers(v reflect.Value, path string) error {
	for i := range v.NumField() {
		f, name := v.Field(i), path+v.Type().Field(i).Name
		var n uint64
		shown := any(nil)
		switch {
		case !v.Type().Field(i).IsExported():
			continue
		case f.CanInt():
			n, shown = uint64(max(0, f.Int())), f.Interface()
			if f.Int() < 0 {
				n = math.MaxUint64
			}
		case f.CanUint():
			n, shown = f.Uint(), f.Uint()
		case f.CanFloat():
			return fmt.Errorf("node: %s is a fraction, which has no range", name)
		case f.Kind() == reflect.Struct && strings.HasPrefix(f.Type().PkgPath(), "edgenet.dev/"):
			if err := checkNumbers(f, name+"."); err != nil {
				return err
			}
			continue
		default:
			continue
		}
		want, ok := configNumbers[name]
		switch {
		case !ok:
			return fmt.Errorf("node: %s has no range", name)
		case n >= want.least && n <= want.most:
		case want.unit == "":
			return fmt.Errorf("node: %s is %v, want %s to %s", name, shown, time.Duration(want.least), time.Duration(want.most))
		default:
			return fmt.Errorf("node: %s is %v, want %d to %d %s", name, shown, want.least, want.most, want.unit)
		}
	}
	return nil
}
