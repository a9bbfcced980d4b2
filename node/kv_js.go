package node

import (
	"context"
	"fmt"

	"edgenet.dev/ledger/store/indexeddb"
)

// openKV opens the node's part of the IndexedDB database dir, or memory when
// dir is empty.
func openKV(dir string) (kv, error) {
	if dir == "" {
		return newMemKV(), nil
	}
	s, err := indexeddb.Open(context.Background(), dir, indexeddb.State)
	if err != nil {
		return nil, fmt.Errorf("state store: %w", err)
	}
	return diskKV{s}, nil
}
