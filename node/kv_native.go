//go:build !js

package node

import (
	"fmt"
	"path/filepath"

	"edgenet.dev/ledger/store/pebble"
)

// openKV opens dir/state, or memory when dir is empty.
func openKV(dir string) (kv, error) {
	if dir == "" {
		return newMemKV(), nil
	}
	s, err := pebble.Open(filepath.Join(dir, "state"))
	if err != nil {
		return nil, fmt.Errorf("state store: %w", err)
	}
	return diskKV{s}, nil
}
