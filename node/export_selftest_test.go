package node

import (
	"testing"
	"time"
)

// SelfTestAgain lets workers that failed their self-test try again sooner. Call
// it before nodes start.
func SelfTestAgain(t *testing.T, d time.Duration) {
	was := selfTestAgain
	selfTestAgain = d
	t.Cleanup(func() { selfTestAgain = was })
}
