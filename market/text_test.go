package market

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"edgenet.dev/proto"
)

// A worker refuses with a text whose 256th byte is inside a rune. What the
// submitter shows and keeps of it is a text all the same.
func TestARefusalIsCutAtARune(t *testing.T) {
	s := newSim(t, 1, 2, nil)
	id := s.job(0, "a", 1, Options{Redundancy: 1, Timeout: 20 * time.Second})
	s.observe = func(n *simNode, in Input, _ []Output) {
		if a, ok := in.(AcceptedSeen); ok {
			s.after(0, func() {
				n.step(RefusedSeen{From: a.From, Ref: a.Refs[0], Code: proto.CodeInternal, Reason: "x" + strings.Repeat("é", 300)})
			})
		}
	}
	s.until(20*time.Second, s.final(id))
	v := s.view(id)
	if why := v.Record.Reason; !strings.Contains(why, "xéé") || !utf8.ValidString(why) {
		t.Errorf("the job's reason is %q", why)
	}
}
