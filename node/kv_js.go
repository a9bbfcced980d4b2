package node

import "fmt"

// openKV keeps everything in memory; the IndexedDB store comes with the
// browser peer.
func openKV(dir string) (kv, error) {
	if dir != "" {
		return nil, fmt.Errorf("open %s: a tab has no directory", dir)
	}
	return newMemKV(), nil
}
