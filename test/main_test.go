package test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"edgenet.dev/test/daemon"
)

// edgenetd is the binary under test, built once.
var edgenetd string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "edgenet-bin-")
		if err == nil {
			defer os.RemoveAll(dir)
			edgenetd, err = daemon.Build(context.Background(), dir, raceEnabled)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}
