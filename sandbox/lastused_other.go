//go:build !linux && !js

package sandbox

import (
	"io/fs"
	"time"
)

// lastUsed is when a file was written.
func lastUsed(info fs.FileInfo) time.Time { return info.ModTime() }
