// Package fieldtest finds fields that get lost when one struct is made of
// another: between layers, on disk or on the wire.
package fieldtest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Carried fills every exported field of a From, has convert make a To of it,
// and wants that
//
//   - a change of any field of From changes To, or From's field is in lost;
//   - no exported field of To stays zero, or To's field is in empty.
//
// Fields are named by their path, such as "Lanes.Payee", and stand there with
// the reason; an entry for a field that is carried, or that does not exist, is
// an error, too. Pointers to messages, slices, arrays of structs and maps are
// followed; a field of a type that cannot be filled is an error of the test.
func Carried[From, To any](t *testing.T, convert func(From) To, lost, empty map[string]string) {
	t.Helper()
	for _, fault := range faults(convert, lost, empty) {
		t.Error(fault)
	}
}

func faults[From, To any](convert func(From) To, lost, empty map[string]string) (out []string) {
	var full From
	var paths []string
	each(reflect.ValueOf(&full).Elem(), "", func(path string, v reflect.Value) {
		set(v, path, 0)
		paths = append(paths, path)
	})
	to := convert(full)
	base := render(to)
	name := fmt.Sprintf("%T", full)
	for _, path := range unique(paths) {
		var other From
		each(reflect.ValueOf(&other).Elem(), "", func(p string, v reflect.Value) {
			change := 0
			if p == path {
				change = 1
			}
			set(v, p, change)
		})
		_, excused := lost[path]
		carried := render(convert(other)) != base
		switch {
		case !carried && !excused:
			out = append(out, fmt.Sprintf("%s.%s is lost on the way to %T", name, path, to))
		case carried && excused:
			out = append(out, fmt.Sprintf("%s.%s is carried to %T: take it from the exceptions", name, path, to))
		}
	}
	var zero []string
	seen := map[string]bool{}
	leaves(reflect.ValueOf(&to).Elem(), "", func(path string, v reflect.Value) {
		seen[path] = true
		if v.IsZero() {
			zero = append(zero, path)
		}
	})
	zero = unique(zero)
	for _, path := range zero {
		if _, excused := empty[path]; !excused {
			out = append(out, fmt.Sprintf("%T.%s stays empty though all of %s is set", to, path, name))
		}
	}
	for path := range lost {
		if !slices.Contains(paths, path) {
			out = append(out, fmt.Sprintf("%s has no field %s", name, path))
		}
	}
	for path := range empty {
		if !slices.Contains(zero, path) {
			out = append(out, fmt.Sprintf("%T.%s is set, or does not exist: take it from the exceptions", to, path))
		}
	}
	slices.Sort(out)
	return out
}

func unique(paths []string) []string {
	slices.Sort(paths)
	return slices.Compact(paths)
}

var (
	cidType  = reflect.TypeFor[cid.Cid]()
	timeType = reflect.TypeFor[time.Time]()
	peerType = reflect.TypeFor[peer.ID]()

	durationType = reflect.TypeFor[time.Duration]()
	stringerType = reflect.TypeFor[fmt.Stringer]()
)

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// each calls f for every leaf, after it made what leads there: two elements of
// a slice, a value behind a pointer, one entry of a map.
func each(v reflect.Value, path string, f func(string, reflect.Value)) {
	switch {
	case v.Type() == cidType || v.Type() == timeType:
		f(path, v)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				at := join(path, field.Name)
				if field.Anonymous {
					at = path
				}
				each(v.Field(i), at, f)
			}
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		each(v.Elem(), path, f)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		each(v.Index(0), path, f)
	case v.Kind() == reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		each(key, path, f)
		each(value, path, f)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	default:
		f(path, v)
	}
}

// leaves is each without making anything.
func leaves(v reflect.Value, path string, f func(string, reflect.Value)) {
	switch {
	case v.Type() == cidType || v.Type() == timeType:
		f(path, v)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				at := join(path, field.Name)
				if field.Anonymous {
					at = path
				}
				leaves(v.Field(i), at, f)
			}
		}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		leaves(v.Elem(), path, f)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8 && v.Len() > 0:
		for i := range v.Len() {
			leaves(v.Index(i), path, f)
		}
	default:
		f(path, v)
	}
}

// set gives a leaf a value that follows from its path, and another one with
// change.
func set(v reflect.Value, path string, change int) {
	n := 2*seed(path) + change
	text := fmt.Sprintf("%s %d", strings.ToLower(path), n)
	switch {
	case v.Type() == cidType:
		id, err := cid.NewPrefixV1(cid.Raw, 0x12).Sum([]byte(text))
		if err != nil {
			panic(err)
		}
		v.Set(reflect.ValueOf(id))
	case v.Type() == timeType:
		v.Set(reflect.ValueOf(time.UnixMilli(1_000_000_000_000 + int64(n)*1000).UTC()))
	case v.Type() == peerType:
		v.SetString(account(text))
	case v.Type() == durationType: // of as many whole milliseconds as APIs carry
		v.SetInt((int64(n) + 2) * int64(time.Millisecond))
	case v.Type().Implements(stringerType) && (v.CanInt() || v.CanUint()):
		v.Set(reflect.ValueOf(1 + change).Convert(v.Type())) // small ones have a name
	case v.Kind() == reflect.Bool:
		v.SetBool(change == 0)
	case v.CanInt():
		v.SetInt(int64(n) + 2)
	case v.CanUint():
		v.SetUint(uint64(n) + 2)
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Slice:
		v.SetBytes([]byte(text))
	case v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8:
		reflect.Copy(v, reflect.ValueOf(append(make([]byte, 0, 64), fmt.Sprintf("%-64s", fmt.Sprint(n, path))...)))
	default:
		panic(fmt.Sprintf("fieldtest: %s has type %s, which cannot be filled", path, v.Type()))
	}
}

// account is a valid Ed25519 peer id: 0x00 0x24 0x08 0x01 0x12 0x20 and the key.
func account(text string) string {
	return string(append([]byte{0, 0x24, 8, 1, 0x12, 0x20}, fmt.Sprintf("%-32.32s", reversed(text))...))
}

// reversed keeps the end of a long text, where the number is.
func reversed(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// seed is a small number that differs between paths.
func seed(path string) int {
	n := 7
	for _, c := range path {
		n = (n*31 + int(c)) % 9973
	}
	return n + 1
}

// render is equal for equal values: bytes of a message, else what %+v prints.
func render(v any) string {
	if m, ok := v.(goproto.Message); ok {
		b, err := goproto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			panic(err)
		}
		return string(b)
	}
	return fmt.Sprintf("%+v", v)
}
