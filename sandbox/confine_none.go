//go:build !linux && !js

package sandbox

import "runtime"

// separation is empty: this system has no namespaces.
type separation struct{ names []string }

var separations = []separation{{}}

func hideFiles(held *Isolation, cacheDir string) string {
	held.Missing = append(held.Missing, "confinement of files, network and system calls: not built for "+runtime.GOOS)
	return cacheDir
}

func dropCalls(*Isolation, bool) {}

func attempts() []Attempt { return nil }
