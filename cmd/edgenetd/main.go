// Command edgenetd runs a node of an EdgeNet network and talks to a running
// one over its local socket: submitting tasks, reading results and receipts,
// and moving credits.
package main

import (
	"os"

	"edgenet.dev/sandbox"
)

func main() {
	// The sandbox's child process shares the binary and nothing else: it must
	// not parse flags, read configuration or open a directory.
	if len(os.Args) > 1 && os.Args[1] == sandboxChild {
		os.Exit(sandbox.ChildMain())
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
