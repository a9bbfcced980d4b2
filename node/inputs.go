package node

import (
	"fmt"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
)

// encoded returns the spec as it travels: a module without its custom sections,
// and inputs that a built-in type understands. Those given are payloads as
// people write them, or encoded already. Whoever submits, by Go, the local API
// or a tab, comes by here, before a job exists; a module's own inputs stay as
// they are.
func (s JobSpec) encoded() (JobSpec, error) {
	s.Module = sandbox.Strip(s.Module)
	if _, ok := modules.Lookup(s.Type); !ok || len(s.Inputs) > proto.MaxTasks {
		return s, nil // plan has a word for it
	}
	inputs := make([][]byte, len(s.Inputs))
	for i, in := range s.Inputs {
		var err error
		if inputs[i], err = modules.Input(s.Type, in); err != nil {
			if len(s.Inputs) > 1 {
				err = fmt.Errorf("input %d: %w", i, err)
			}
			return s, err
		}
	}
	s.Inputs = inputs
	return s, nil
}
