package proto

import (
	"time"
)

// Numbers of a genesis, of a configuration and of messages become durations and
// moments here and nowhere else, so that none of them overflows: a count of
// seconds above nine billion would turn negative, and a timer that is due in the
// past for ever keeps a node busy.

// MaxDuration is what longer durations are cut to. A moment of this century and
// this much more is still one whose nanoseconds fit an int64.
const MaxDuration = 100 * 365 * 24 * time.Hour

// maxUnixMs keeps moments in the range of time.Time's arithmetic.
const maxUnixMs = 1 << 52

// Seconds is n seconds, at most MaxDuration.
func Seconds(n uint64) time.Duration {
	return time.Duration(min(n, uint64(MaxDuration/time.Second))) * time.Second
}

// Millis is n milliseconds, at most MaxDuration.
func Millis(n uint64) time.Duration {
	return time.Duration(min(n, uint64(MaxDuration/time.Millisecond))) * time.Millisecond
}

// UnixMs is the moment ms milliseconds after 1970. What lies more than a hundred
// thousand years ahead is cut to that.
func UnixMs(ms uint64) time.Time { return time.UnixMilli(int64(min(ms, maxUnixMs))) }
