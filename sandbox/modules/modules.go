// Package modules holds the task modules that ship with every node, and the
// codecs between their binary form and what people write.
//
// The WebAssembly files are built from src/ by build.sh; a test rebuilds them.
package modules

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
)

//go:embed text.wasm
var textWasm []byte

//go:embed vector.wasm
var vectorWasm []byte

// Builtin is a module that every node carries.
type Builtin struct {
	Type string  // task type
	Raw  []byte  // WebAssembly; shared, must not change
	ID   cid.Cid // of Raw
}

type codec struct {
	builtin Builtin
	encode  func(payload []byte) ([]byte, error)
	decode  func(output []byte) (json.RawMessage, error)
}

var codecs = map[string]codec{
	proto.TypeText:         {newBuiltin(proto.TypeText, textWasm), encodeText, decodeText},
	proto.TypeVectorSearch: {newBuiltin(proto.TypeVectorSearch, vectorWasm), encodeSearch, decodeVector},
	proto.TypeVectors:      {newBuiltin(proto.TypeVectors, vectorWasm), encodeVectors, decodeVector},
}

func newBuiltin(taskType string, raw []byte) Builtin {
	return Builtin{Type: taskType, Raw: raw, ID: proto.CIDOf(raw)}
}

// Lookup finds the built-in module of a task type or one of its aliases.
func Lookup(taskType string) (Builtin, bool) {
	c, ok := codecs[proto.CanonicalType(taskType)]
	return c.builtin, ok
}

// Types are the built-in task types in order.
func Types() []string {
	ts := make([]string, 0, len(codecs))
	for t := range codecs {
		ts = append(ts, t)
	}
	slices.Sort(ts)
	return ts
}

// Encode turns a payload as people write it (JSON, or plain text for text) into
// the module's input. Errors carry proto.CodeMalformed or proto.CodeType.
func Encode(taskType string, payload []byte) ([]byte, error) {
	c, ok := codecs[proto.CanonicalType(taskType)]
	if !ok {
		return nil, proto.CodeType.Errorf("task type %q is not built in (built in: %v)", taskType, Types())
	}
	in, err := c.encode(payload)
	if err != nil {
		return nil, fmt.Errorf("payload of %s: %w", taskType, err)
	}
	return in, nil
}

// Decode turns the module's output into JSON. Errors carry proto.CodeMalformed
// or proto.CodeType.
func Decode(taskType string, output []byte) (json.RawMessage, error) {
	c, ok := codecs[proto.CanonicalType(taskType)]
	if !ok {
		return nil, proto.CodeType.Errorf("task type %q is not built in (built in: %v)", taskType, Types())
	}
	js, err := c.decode(output)
	if err != nil {
		return nil, fmt.Errorf("output of %s: %w", taskType, err)
	}
	return js, nil
}
