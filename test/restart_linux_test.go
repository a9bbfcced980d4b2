package test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The guide's private network of three machines: founded, joined by an invite,
// killed and started again in two other orders, without a configuration
// touched. A looks for a router that maps ports, by UPnP and by NAT-PMP, and has
// its ports opened; B, told so, does not.
func TestNetworkSurvivesRestarts(t *testing.T) {
	m := newMachines(t, "A", "B", "C")
	router, napping := newSearches(t, m.hub), newNapping(t, m.hub)
	if _, _, err := m.shells["B"].run("export EDGENET_NAT_MAP=false"); err != nil {
		t.Fatal(err)
	}
	lines := transcript(t, "docs/operating.md", "restart")
	configs := func() (all string) {
		for _, name := range []string{"A", "B", "C"} {
			b, err := os.ReadFile(filepath.Join(m.shells[name].home, ".edgenet", "config.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			all += string(b)
		}
		return all
	}
	killed := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "kill -9") })
	if killed < 0 {
		t.Fatal("nothing is killed in the transcript")
	}
	m.play(t, lines[:killed])
	before := configs()
	m.play(t, lines[killed:])
	if now := configs(); now != before {
		t.Errorf("configurations changed from\n%s\nto\n%s", before, now)
	}

	// A said at each start which of its addresses are of use to others.
	log, err := os.ReadFile(filepath.Join(m.shells["A"].home, "edgenetd.log"))
	if err != nil {
		t.Fatal(err)
	}
	if said := regexp.MustCompile(`"msg":"(?:the local network|others) can reach this node[^\n]*"local":\["/ip4/10\.77\.0\.1/tcp/`).FindAllString(string(log), -1); len(said) != 3 {
		t.Errorf("A told its addresses %d times in 3 starts", len(said))
	}
	eventually(t, "A looks for a router to open its ports", func() (bool, string) {
		return router.by("10.77.0.1"), "not yet"
	})
	if router.by("10.77.0.2") {
		t.Error("B looks for a router though nat.map is off")
	}
	eventually(t, "the router opens A's ports", func() (bool, string) {
		out, _, err := m.shells["A"].run("edgenetd status -o json")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(strings.Join(out, " "), "/ip4/203.0.113.9/tcp/"), "not yet"
	})
	if napping.by("10.77.0.2") {
		t.Error("B asks the router to open ports though nat.map is off")
	}
}

// newNapping is a router at the hub that opens each port by NAT-PMP (RFC 6886)
// and keeps who asked.
func newNapping(t *testing.T, hub string) *searches {
	t.Helper()
	s := new(searches)
	s.serve(t, hub, func() (net.PacketConn, error) {
		return net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(hubIP), Port: 5351})
	}, func(ask []byte) (bool, []byte) {
		if ask[1] == 0 {
			return true, []byte{0, 128, 0, 0, 0, 0, 0, 1, 203, 0, 113, 9}
		}
		return true, slices.Concat([]byte{0, ask[1] | 128, 0, 0, 0, 0, 0, 1}, ask[4:6], ask[4:6], ask[8:12])
	})
	return s
}

// searches are who asked a router for something: by SSDP (UPnP) or by NAT-PMP.
type searches struct {
	mu   sync.Mutex
	from []string
}

func newSearches(t *testing.T, hub string) *searches {
	t.Helper()
	s := new(searches)
	s.serve(t, hub, func() (net.PacketConn, error) {
		bridge, err := net.InterfaceByName("hub")
		if err != nil {
			return nil, err
		}
		return net.ListenMulticastUDP("udp4", bridge, &net.UDPAddr{IP: net.IPv4(239, 255, 255, 250), Port: 1900})
	}, func(ask []byte) (bool, []byte) { return strings.Contains(string(ask), "M-SEARCH"), nil })
	return s
}

// serve keeps who sends what counts, and answers it, until the test ends.
func (s *searches) serve(t *testing.T, hub string, listen func() (net.PacketConn, error), counts func(ask []byte) (bool, []byte)) {
	t.Helper()
	var conn net.PacketConn
	if err := inNamespace(hub, func() (err error) { conn, err = listen(); return err }); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			ok, reply := counts(b[:n])
			if !ok {
				continue
			}
			s.mu.Lock()
			s.from = append(s.from, from.(*net.UDPAddr).IP.String())
			s.mu.Unlock()
			if reply != nil {
				conn.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
}

func (s *searches) by(ip string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.from, ip)
}
