// Package enginetest is the conformance suite of sandbox engines: modules with
// inputs, and the status, output and fuel that every engine must give.
package enginetest

import (
	"bytes"
	"context"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// Vector is one case.
type Vector struct {
	Name   string
	Module []byte
	Input  string
	Limits proto.Limits // zero fields take the defaults; fuel 1,000,000 unless given
	Seed   proto.Hash

	Status   proto.Status
	Output   string
	Digest   string // of a long output, instead of it: SHA-256 in hex
	ExitCode int32
	Log      string
	Fuel     proto.Fuel
}

// Run checks ex against all vectors, each twice: no run may leave a trace in
// the next.
func Run(t *testing.T, ex sandbox.Executor) {
	for _, v := range Vectors() {
		t.Run(v.Name, func(t *testing.T) {
			m, err := sandbox.Prepare(v.Module, sandbox.Policy{})
			if err != nil {
				t.Fatal(err)
			}
			if v.Limits.Fuel == 0 {
				v.Limits.Fuel = 1_000_000
			}
			for range 2 {
				res, err := ex.Run(context.Background(), m, []byte(v.Input), sandbox.Task{Limits: v.Limits, Seed: v.Seed})
				if err != nil {
					t.Fatal(err)
				}
				if res.Status != v.Status || res.ExitCode != v.ExitCode {
					t.Errorf("status %s, exit code %d; want %s, %d", res.Status, res.ExitCode, v.Status, v.ExitCode)
				}
				if v.Digest != "" {
					if d := proto.HashOf(res.Output).String(); d != v.Digest {
						t.Errorf("output has digest %s, want %s", d, v.Digest)
					}
				} else if !bytes.Equal(res.Output, []byte(v.Output)) {
					t.Errorf("output %q, want %q", res.Output, v.Output)
				}
				if string(res.Log) != v.Log {
					t.Errorf("log %q, want %q", res.Log, v.Log)
				}
				if res.Fuel != v.Fuel {
					t.Errorf("fuel %d, want %d", res.Fuel, v.Fuel)
				}
			}
		})
	}
}
