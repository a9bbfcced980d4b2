package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"edgenet.dev/sandbox/modules"
)

// knownType refuses a task type that this build does not have.
func knownType(typ string) error {
	if slices.Contains(modules.Types(), typ) {
		return nil
	}
	hint := "there are " + strings.Join(modules.Types(), ", ") + ", or name a .wasm file"
	if near := nearest(typ, modules.Types()); near != "" {
		hint = "did you mean " + near + "?"
	}
	return failf(exitUsage, "task type %q is not built in; %s", typ, hint)
}

// encoded turns a payload (text, or JSON) into the bytes the module reads.
func encoded(typ string, payload []byte) ([]byte, error) {
	return modules.Encode(typ, payload)
}

// decoded is a task's output as a JSON value.
func decoded(typ string, output []byte) any {
	if typ != "" {
		if v, err := modules.Decode(typ, output); err == nil {
			return json.RawMessage(v)
		}
	}
	return outputValue(output)
}

// outputText is a task's output for people: JSON indented, text as it is,
// anything else as a note on how to get the bytes.
func outputText(typ string, output []byte) string {
	if typ == "" && isText(output) {
		return strings.TrimSuffix(string(output), "\n")
	}
	b, err := json.Marshal(decoded(typ, output))
	if err != nil || typ == "" {
		return fmt.Sprintf("(%d bytes that are not text; --raw writes them as they are)", len(output))
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, b, "", "  ") != nil {
		return string(b)
	}
	return pretty.String()
}
