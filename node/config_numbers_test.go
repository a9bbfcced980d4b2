package node

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
)

// Every number and duration of Config, also within the worker's settings, has a
// row, and the row is what decides.
func TestEveryNumberOfAConfigHasARange(t *testing.T) {
	fields := map[string]bool{}
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		for i := range v.NumField() {
			f, name := v.Field(i), path+v.Type().Field(i).Name
			if f.Kind() == reflect.Struct && strings.HasPrefix(f.Type().PkgPath(), "edgenet.dev/") {
				walk(f, name+".")
				continue
			}
			if !f.CanInt() && !f.CanUint() && !f.CanFloat() {
				continue
			}
			fields[name] = true
			want, ok := configNumbers[name]
			if !ok {
				t.Errorf("%s has no row in configNumbers: give it a range", name)
				continue
			}
			check := func(n uint64, negative bool) error {
				c := Config{}
				c.Worker.Builtin = map[cid.Cid][]string{}
				x := reflect.ValueOf(&c).Elem()
				for _, part := range strings.Split(name, ".") {
					x = x.FieldByName(part)
				}
				switch {
				case negative:
					x.SetInt(-1)
				case x.CanInt():
					x.SetInt(int64(n))
				default:
					x.SetUint(n)
				}
				return checkNumbers(reflect.ValueOf(c), "")
			}
			for _, n := range []uint64{want.least, want.most} {
				if err := check(n, false); err != nil {
					t.Error(err)
				}
			}
			refused := []error{}
			if f.CanInt() {
				refused = append(refused, check(0, true), check(math.MaxInt64, false))
			} else {
				refused = append(refused, check(math.MaxUint64, false))
			}
			if want.most < math.MaxInt64 {
				refused = append(refused, check(want.most+1, false))
			}
			for _, err := range refused {
				if err == nil || !strings.Contains(err.Error(), name) {
					t.Errorf("%s out of its range: %v", name, err)
				}
			}
		}
	}
	walk(reflect.ValueOf(Config{}), "")
	for name := range configNumbers {
		if !fields[name] {
			t.Errorf("configNumbers has %s, Config does not", name)
		}
	}
	var c Config
	c.Connections = -1
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "Connections is -1") {
		t.Errorf("Validate does not ask the table: %v", err)
	}
}
