package sandbox

import (
	"io/fs"
	"syscall"
	"time"
)

// lastUsed is when a file was read or written last. Most file systems note a read
// only once a day.
func lastUsed(info fs.FileInfo) time.Time {
	used := info.ModTime()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if read := time.Unix(st.Atim.Unix()); read.After(used) {
			used = read
		}
	}
	return used
}
