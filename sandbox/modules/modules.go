// Package modules holds the task modules that ship with every node, and the
// codecs between their binary form and what people write.
//
// The WebAssembly files are built from src/ by build.sh; a test rebuilds them.
package modules

import (
	_ "embed"
	"encoding/binary"
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
	encode  func(payload []byte) ([]byte, error) // of what people write in a file
	value   func(json []byte) ([]byte, error)    // of a JSON value
	decode  func(output []byte) (json.RawMessage, error)
}

var codecs = map[string]codec{
	proto.TypeText:         {newBuiltin(proto.TypeText, textWasm), checkText, textOf, decodeText},
	proto.TypeVectorSearch: vectorCodec(proto.TypeVectorSearch),
	proto.TypeVectors:      vectorCodec(proto.TypeVectors),
}

func vectorCodec(taskType string) codec {
	encode := vectorEncoder(taskType)
	return codec{newBuiltin(taskType, vectorWasm), encode, encode, decodeVector}
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

// Encode turns a payload as people write it in a file (JSON; for text the text
// itself) into the module's input. A byte-order mark is passed over. Errors name
// the line and the field, and carry proto.CodeMalformed, CodeTooLarge or
// CodeType.
func Encode(taskType string, payload []byte) ([]byte, error) {
	return encode(taskType, func(c codec) ([]byte, error) { return c.encode(payload) })
}

// EncodeValue is Encode for a payload that is a JSON value within something
// else: a text is then a string, or an object with the field text. A value that
// is missing or null is an error.
func EncodeValue(taskType string, value []byte) ([]byte, error) {
	return encode(taskType, func(c codec) ([]byte, error) {
		if isMissing(value) {
			return nil, proto.CodeMalformed.Errorf("missing")
		}
		in, err := c.value(value)
		if err == nil && c.builtin.Type == proto.TypeText {
			in, err = checkText(in)
		}
		return in, err
	})
}

// Input makes sure that in is something a built-in type understands, before a
// job exists: it takes what Encode gave, and checks it again, or a payload that
// Encode takes. Nothing else reaches a worker.
func Input(taskType string, in []byte) ([]byte, error) {
	return encode(taskType, func(c codec) ([]byte, error) {
		if c.builtin.Type == proto.TypeText || len(in) < 4 || binary.LittleEndian.Uint32(in) != vectorMagic {
			return c.encode(in)
		}
		return in, checkVectors(c.builtin.Type, in)
	})
}

func encode(taskType string, with func(c codec) ([]byte, error)) ([]byte, error) {
	c, ok := codecs[proto.CanonicalType(taskType)]
	if !ok {
		return nil, proto.CodeType.Errorf("task type %q is not built in (built in: %v)", taskType, Types())
	}
	in, err := with(c)
	if err != nil {
		return nil, fmt.Errorf("payload of %s: %w", c.builtin.Type, err)
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
