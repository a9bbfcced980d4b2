package proto_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	goproto "google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

func TestClip(t *testing.T) {
	for _, c := range []struct {
		in   string
		most int
		want string
	}{
		{"short", 5, "short"},
		{"longer", 5, "longe"},
		{"schön", 4, "sch"},
		{"schön", 5, "schö"},
		{"a\xffb", 9, "a\uFFFDb"},
		{"世界", 5, "世"},
		{"x", 0, ""},
		{"世", -1, ""},
	} {
		if got := proto.Clip(c.in, c.most); got != c.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", c.in, c.most, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes")) + rapid.String().Draw(t, "text")
		most := rapid.IntRange(0, 60).Draw(t, "most")
		got := proto.Clip(s, most)
		whole := strings.ToValidUTF8(s, "\uFFFD")
		if !utf8.ValidString(got) || len(got) > most || !strings.HasPrefix(whole, got) || len(whole)-len(got) > 0 && most-len(got) > 3 {
			t.Fatalf("Clip(%q, %d) = %q", s, most, got)
		}
	})
}

func TestMend(t *testing.T) {
	m := &api.PeersReply{Peers: []*api.Peer{{Id: "good", Agent: "bad\xff", Addresses: []string{"/dns4/\xfe/tcp/1", "/ip4/1.2.3.4/tcp/1"}}}}
	if _, err := goproto.Marshal(m); err == nil {
		t.Fatal("a string that is not UTF-8 was encoded: nothing needs mending")
	}
	proto.Mend(m)
	if _, err := goproto.Marshal(m); err != nil {
		t.Fatal(err)
	}
	p := m.Peers[0]
	if p.Id != "good" || p.Agent != "bad\uFFFD" || p.Addresses[0] != "/dns4/\uFFFD/tcp/1" || p.Addresses[1] != "/ip4/1.2.3.4/tcp/1" {
		t.Errorf("%v", p)
	}
	logs := &api.TaskResult{Output: []byte{0xff}, Log: []byte{0xfe}, Reason: "\xff"}
	if proto.Mend(logs); logs.Output[0] != 0xff || logs.Log[0] != 0xfe || logs.Reason != "\uFFFD" {
		t.Errorf("%v", logs)
	}
}
