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
// touched. A looks for a router that maps ports, and B, told so, does not.
func TestNetworkSurvivesRestarts(t *testing.T) {
	m := newMachines(t, "A", "B", "C")
	router := newSearches(t, m.hub)
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
	if said := regexp.MustCompile(`"msg":"the local network can reach this node[^\n]*"local":\["/ip4/10\.77\.0\.1/tcp/`).FindAllString(string(log), -1); len(said) != 3 {
		t.Errorf("A told its addresses %d times in 3 starts", len(said))
	}
	eventually(t, "A looks for a router to open its ports", func() (bool, string) {
		return router.by("10.77.0.1"), "not yet"
	})
	if router.by("10.77.0.2") {
		t.Error("B looks for a router though nat.map is off")
	}
}

// searches are the SSDP searches (UPnP) for a router that machines sent.
type searches struct {
	mu   sync.Mutex
	from []string
}

func newSearches(t *testing.T, hub string) *searches {
	t.Helper()
	s := new(searches)
	var conn net.PacketConn
	err := inNamespace(hub, func() error {
		bridge, err := net.InterfaceByName("hub")
		if err != nil {
			return err
		}
		conn, err = net.ListenMulticastUDP("udp4", bridge, &net.UDPAddr{IP: net.IPv4(239, 255, 255, 250), Port: 1900})
		return err
	})
	if err != nil {
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
			if strings.Contains(string(b[:n]), "M-SEARCH") {
				s.mu.Lock()
				s.from = append(s.from, from.(*net.UDPAddr).IP.String())
				s.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return s
}

func (s *searches) by(ip string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.from, ip)
}
