//go:build !js

package sandbox

import (
	"bufio"
	"bytes"
	"reflect"
	"testing"
	"time"

	"edgenet.dev/proto"
)

// FuzzWire reads frames as both ends do. What decodes must encode to the same
// bytes.
func FuzzWire(f *testing.F) {
	task := Task{Limits: proto.Limits{}.WithDefaults(), Seed: proto.HashOf([]byte("seed"))}
	o := order{abi: ABIReactor, startFuel: 7, minPages: 3, hasStart: true, hasInit: true}
	res := Result{Status: proto.StatusExitNonZero, ExitCode: -3, Fuel: 99, Output: []byte("out")}
	for _, payload := range [][]byte{
		append(encodeRun(proto.HashOf(nil), o, task), "input"...),
		append(encodeDone(res), res.Output...),
	} {
		var b bytes.Buffer
		if err := writeFrame(bufio.NewWriter(&b), frameRun, payload); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte{0, 0, 0, 0, 'R'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 'R'})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, payload, err := readFrame(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		if key, o, input, task, err := decodeRun(payload); err == nil && payload[33] <= 3 {
			if again := append(encodeRun(key, o, task), input...); !bytes.Equal(again, payload) {
				t.Errorf("run %x became %x", payload, again)
			}
		}
		if res, err := decodeDone(payload); err == nil {
			if again := append(encodeDone(res), res.Output...); !bytes.Equal(again, payload) {
				t.Errorf("result %x became %x", payload, again)
			}
		}
	})
}

func TestWireRoundTrip(t *testing.T) {
	task := Task{Limits: proto.Limits{Fuel: 1, Memory: 2, Output: 3, Log: 4, Wall: time.Hour}, Seed: proto.HashOf([]byte("seed"))}
	o := order{abi: ABICommand, startFuel: 5, minPages: 6, hasInit: true}
	key, o2, input, task2, err := decodeRun(append(encodeRun(proto.HashOf([]byte("key")), o, task), "in"...))
	if err != nil || key != proto.HashOf([]byte("key")) || o2 != o || string(input) != "in" || !reflect.DeepEqual(task2, task) {
		t.Errorf("%v %+v %q %+v %v", key, o2, input, task2, err)
	}
}
