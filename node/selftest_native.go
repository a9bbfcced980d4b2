//go:build !js

package node

import (
	"errors"
	"os"
)

// writable reports whether a directory takes a little more; "" is none.
func writable(dir string) error {
	if dir == "" {
		return nil
	}
	f, err := os.CreateTemp(dir, "self-test-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, selfTestDisk))
	return errors.Join(err, f.Close())
}
