package main

import (
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"edgenet.dev/sandbox/enginetest"
)

// cmdWasm writes a module of the conformance suite: wasm VECTOR FILE; or one
// that is refused: wasm NAME FILE.
func cmdWasm(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: wasm NAME FILE")
	}
	const magic = "\x00asm\x01\x00\x00\x00"
	raw, ok := map[string][]byte{
		"two memories": []byte(magic + "\x05\x05\x02\x00\x01\x00\x01"),
		"foreign import": []byte(magic + "\x01\x04\x01\x60\x00\x00" +
			"\x02\x0f\x01\x03env\x07connect\x00\x00"),
	}[args[0]]
	for _, v := range enginetest.Vectors() {
		if v.Name == args[0] {
			raw, ok = v.Module, true
		}
	}
	if !ok {
		ts.Fatalf("no module %q", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), raw, 0o644))
}
