//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"

	"edgenet.dev/node"
	"edgenet.dev/node/identity"
	"edgenet.dev/node/web"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

// effect is how the tests show that a configuration key does something: what
// the key is set to in two daemons that know each other (see effectNet), and
// what is seen there and would not be seen were the key not connected. A value
// may be a func(*effectNet) any. A row that needs another daemon sets nothing
// and starts its own with effectNet.start.
type effect struct {
	founder, worker any // in config.yaml of that daemon; nil: as it is
	seen            func(t *testing.T, n *effectNet)
	by              string // in place of seen: file and name of a test, from the top of the repository
}

// effects has a row for each key of settings: one that fails when the daemon
// does not read the key. See it fail before you add it: let the daemon read the
// key's default instead, and run the row alone, as
// go test ./cmd/edgenetd -run 'TestEveryOptionHasItsEffect/^worker.site$'.
var effects = map[string]effect{
	"listen": {
		founder: func(n *effectNet) any { return []string{n.founderAddr} },
		seen: func(t *testing.T, n *effectNet) {
			n.dial(t, n.founder, n.founderAddr)
		},
	},
	"announce": {
		founder: func(n *effectNet) any { return []string{n.founderAddr, "/dns4/founder.example.com/tcp/4001"} },
		seen: func(t *testing.T, n *effectNet) {
			h := n.dial(t, n.founder, n.founderAddr)
			n.eventually(t, "others are told the announced addresses", func() (bool, string) {
				told := fmt.Sprint(h.Peerstore().Addrs(n.founder.id))
				return strings.Contains(told, "/dns4/founder.example.com/tcp/4001"), told
			})
		},
	},
	"bootstrap": {
		worker: func(n *effectNet) any { return []string{n.founderAddr + "/p2p/" + n.founder.id.String()} },
		seen: func(t *testing.T, n *effectNet) {
			n.eventually(t, "the worker is connected to its bootstrap peer", func() (bool, string) {
				peers := fmt.Sprint(ask(t, n.worker.client.nodes.Peers, new(api.PeersRequest)))
				return strings.Contains(peers, n.founder.id.String()), peers
			})
		},
	},
	"reachability": {
		worker: "private",
		seen:   isRelayed,
	},
	"relay": {
		founder: true,
		seen: func(t *testing.T, n *effectNet) {
			speaks(t, n, n.founder, "/libp2p/circuit/relay/0.2.0/hop")
		},
	},
	// On auto a node that knows it is not reachable serves no lookups.
	"dht": {
		worker: "server",
		seen: func(t *testing.T, n *effectNet) {
			isRelayed(t, n)
			speaks(t, n, n.worker, string(n.network.ID.DHTPrefix()+"/kad/1.0.0"))
		},
	},
	"mdns": {
		worker: true,
		seen: func(t *testing.T, n *effectNet) {
			found := make(neighbours, 100)
			s := mdns.NewMdnsService(n.host(t), "_edgenet-"+n.network.ID.Short()+"._udp", found)
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			n.eventually(t, "the worker is found by multicast", func() (bool, string) {
				select {
				case id := <-found:
					return id == n.worker.id, id.String()
				default:
					return false, "nobody"
				}
			})
		},
	},
	"limits.bandwidth": {
		worker: 400, // KiB per second: slower than the work itself
		seen: func(t *testing.T, n *effectNet) {
			ran := n.ran(t)
			if least := (ran.bytes/1024 - 128) / 400; int(ran.took.Seconds()) < least {
				t.Errorf("%d bytes came within %s", ran.bytes, ran.took)
			}
		},
	},
	"limits.connections": {
		worker: 8,
		seen: func(t *testing.T, n *effectNet) {
			for range 12 {
				n.dial(t, n.worker, n.workerAddr)
			}
			n.eventually(t, "the worker closes connections of no use", func() (bool, string) {
				peers := ask(t, n.worker.client.nodes.Status, new(api.StatusRequest)).Peers
				return peers <= 8, fmt.Sprint(peers)
			})
		},
	},
	"web.listen": {
		founder: func(n *effectNet) any { return n.webAddr },
		seen: func(t *testing.T, n *effectNet) {
			if page := get(t, n.webAddr, web.WellKnown); !strings.Contains(page, n.network.ID.String()) {
				t.Errorf("the network is not told: %s", page)
			}
		},
	},
	"web.root": {
		founder: func(n *effectNet) any { return n.bundle },
		seen: func(t *testing.T, n *effectNet) {
			if page := get(t, n.webAddr, "/"); !strings.Contains(page, "the bundle") {
				t.Errorf("the bundle is not served: %s", page)
			}
		},
	},
	"worker.enabled": {
		founder: false,
		seen: func(t *testing.T, n *effectNet) {
			if w := ask(t, n.founder.client.nodes.Status, new(api.StatusRequest)).Worker; w.Enabled {
				t.Errorf("the founder works: %v", w)
			}
			for _, c := range n.claims(t) {
				if c.by != n.worker.id {
					t.Errorf("claimed by %s", c.by)
				}
			}
		},
	},
	// The market takes tasks by the number, the sandbox runs them by it.
	"worker.slots": {
		worker: 2,
		seen: func(t *testing.T, n *effectNet) {
			if c := n.claim(t); c.Parallel != 2 {
				t.Errorf("the worker claims that it runs %d tasks at once", c.Parallel)
			}
			if most := n.ran(t).children; most != 2 {
				t.Errorf("%d tasks ran at once", most)
			}
		},
	},
	"worker.types": {
		worker: []string{proto.TypeText},
		seen: func(t *testing.T, n *effectNet) {
			refused(t, n, proto.TypeVectors)
			if w := ask(t, n.worker.client.nodes.Status, new(api.StatusRequest)).Worker; !slices.Equal(w.Types, []string{proto.TypeText}) {
				t.Errorf("status tells %v", w.Types)
			}
		},
	},
	"worker.custom": {worker: false, seen: func(t *testing.T, n *effectNet) { refused(t, n, "custom") }},
	"worker.price": {
		worker: "0.5",
		seen: func(t *testing.T, n *effectNet) {
			refused(t, n, "cheap")
			if c := n.claim(t); c.Price != uint64(proto.OneCredit/2) {
				t.Errorf("the worker asks for %d", c.Price)
			}
		},
	},
	"worker.payee": {
		worker: func(n *effectNet) any { return n.owner.String() },
		seen: func(t *testing.T, n *effectNet) {
			if c := n.claim(t); peer.ID(c.Payee) != n.owner {
				t.Errorf("the worker names payee %q", c.Payee)
			}
			n.ran(t)
			n.eventually(t, "the payee has credits", func() (bool, string) {
				b := ask(t, n.founder.client.wallet.Balance, &api.BalanceRequest{Account: n.owner.String()})
				return b.Receivable+b.Available > 0, b.String()
			})
		},
	},
	"worker.operator": {
		worker: "an operator",
		seen: func(t *testing.T, n *effectNet) {
			if c := n.claim(t); c.Operator != "an operator" {
				t.Errorf("the worker names operator %q", c.Operator)
			}
		},
	},
	"worker.site": {
		worker: "a site",
		seen: func(t *testing.T, n *effectNet) {
			if c := n.claim(t); c.Site != "a site" {
				t.Errorf("the worker names site %q", c.Site)
			}
		},
	},
	"worker.cpu": {
		worker: 2,
		seen: func(t *testing.T, n *effectNet) {
			if n.ran(t).stopped == 0 {
				t.Error("no task was ever stopped to hold its share of the CPU")
			}
		},
	},
	"worker.max-fuel": {
		worker: 31,
		seen: func(t *testing.T, n *effectNet) {
			if c := n.claim(t); c.MaxFuel != 31_000_000_000 {
				t.Errorf("the worker grants %d fuel", c.MaxFuel)
			}
		},
	},
	"worker.max-memory": {
		worker: 700,
		seen: func(t *testing.T, n *effectNet) {
			refused(t, n, "large")
			if c := n.claim(t); c.MaxMemory != 700<<20 {
				t.Errorf("the worker grants %d bytes of memory", c.MaxMemory)
			}
		},
	},
	"ledger.mode": {
		worker: "own",
		seen: func(t *testing.T, n *effectNet) {
			n.claims(t) // by now both follow what they follow
			topic := n.network.ID.CreditsTopic()
			n.eventually(t, "the founder follows everybody's events", func() (bool, string) {
				return slices.Contains(n.pubsub.ListPeers(topic), n.founder.id), fmt.Sprint(n.pubsub.ListPeers(topic))
			})
			if slices.Contains(n.pubsub.ListPeers(topic), n.worker.id) {
				t.Error("the worker follows everybody's events")
			}
		},
	},
	"ledger.keep": {
		founder: 1,
		seen: func(t *testing.T, n *effectNet) {
			n.eventually(t, "the founder drops old events", func() (bool, string) {
				a := ask(t, n.founder.client.wallet.Audit, new(api.AuditRequest))
				return a.BaseEpoch > 0 && a.Epoch-a.BaseEpoch < node.DefaultKeepEpochs/2, a.String()
			})
		},
	},
	"disk.least": {
		seen: func(t *testing.T, n *effectNet) {
			dir := filepath.Join(n.dir, "full")
			setUp(t, n, dir)
			c := tool(t, "--dir", dir, "run", "--while-stdin", "--disk-least", "1099511627776")
			stdin, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer time.AfterFunc(effectGuard/4, func() { stdin.Close() }).Stop() // a daemon that runs all the same ends
			out, err := c.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "a daemon needs") {
				t.Errorf("%v: %s", err, out)
			}
		},
	},
	"state.keep":     {seen: func(t *testing.T, n *effectNet) { n.drops(t, "state.keep", "1ms") }},
	"state.max-size": {seen: func(t *testing.T, n *effectNet) { n.drops(t, "state.max-size", 1) }},
	// The bound itself: node/claims_room_test.go TestSizeOfClaimsIsConfigured.
	"claims.max-size": {
		worker: 77,
		seen: func(t *testing.T, n *effectNet) {
			if got := storeLimit(t, n.worker, "claims"); got != 77<<20 {
				t.Errorf("proof of unpaid work may take %d bytes", got)
			}
		},
	},
	"cache.max-size": {
		worker: func(n *effectNet) any { // more than that is there already
			if err := os.MkdirAll(filepath.Join(n.worker.dir, "cache", "old"), 0o700); err != nil {
				panic(err)
			}
			n.write(n.oldCode(), strings.Repeat("old code", 3<<17))
			return 2
		},
		seen: func(t *testing.T, n *effectNet) {
			n.eventually(t, "what is too much of the compiled code goes", func() (bool, string) {
				_, err := os.Stat(n.oldCode())
				return os.IsNotExist(err), fmt.Sprint(err)
			})
			if got := storeLimit(t, n.worker, "cache"); got != 2<<20 {
				t.Errorf("compiled code may take %d bytes", got)
			}
		},
	},
	"metrics.listen": {
		founder: func(n *effectNet) any { return n.metricsAddr },
		seen: func(t *testing.T, n *effectNet) {
			if page := get(t, n.metricsAddr, "/metrics"); !strings.Contains(page, "libp2p_") {
				t.Errorf("no metrics are served: %s", page)
			}
		},
	},
	"metrics.pprof": {
		founder: true,
		seen: func(t *testing.T, n *effectNet) {
			if page := get(t, n.metricsAddr, "/debug/pprof/cmdline"); !strings.Contains(page, "edgenetd") {
				t.Errorf("no profiles are served: %s", page)
			}
		},
	},
	"nat.map":  {by: "test/restart_linux_test.go TestNetworkSurvivesRestarts"},
	"referrer": {by: "node/peerbook_test.go TestReferrerIsNamedOnce"},
	"log.level": {
		founder: "debug",
		seen: func(t *testing.T, n *effectNet) {
			n.ran(t)
			if text := n.founder.stderr(t); !strings.Contains(text, "\tDEBUG\tresult") {
				t.Errorf("the log lacks details: %s", text)
			}
		},
	},
	"log.format": {
		founder: "console",
		seen: func(t *testing.T, n *effectNet) {
			text := n.founder.stderr(t)
			if json.Valid([]byte(strings.SplitN(text, "\n", 2)[0])) || !strings.Contains(text, "\tINFO\t") {
				t.Errorf("no console lines: %s", text)
			}
		},
	},
	"log.file": {
		worker: func(n *effectNet) any { return n.worker.logFile() },
		seen: func(t *testing.T, n *effectNet) {
			if log := n.worker.log(t); !strings.Contains(log, `"msg":"ready"`) {
				t.Errorf("the log file lacks the start: %s", log)
			}
			if text := n.worker.stderr(t); strings.Contains(text, `"msg"`) {
				t.Errorf("the log is on standard error, too: %s", text)
			}
		},
	},
	"log.max-size": {
		worker: func(n *effectNet) any { // a file as large as that is there already
			n.write(n.worker.logFile(), strings.Repeat("old\n", 1<<18))
			return 1
		},
		seen: func(t *testing.T, n *effectNet) {
			if log := n.worker.log(t); strings.Contains(log, "old\n") {
				t.Error("the log was not moved aside")
			}
		},
	},
	"log.keep": {
		worker: func(n *effectNet) any {
			n.write(n.worker.dir+"-2020-01-01T00-00-00.000.log", "older still\n")
			return 1
		},
		seen: func(t *testing.T, n *effectNet) {
			n.eventually(t, "of the logs that were moved aside the older one goes", func() (bool, string) {
				files, err := filepath.Glob(n.worker.dir + "-*.log")
				return err == nil && len(files) == 1 && !strings.Contains(files[0], "2020"), fmt.Sprint(files, err)
			})
		},
	},
}

// Every key of the configuration has an effect, and a row that shows it.
func TestEveryOptionHasItsEffect(t *testing.T) {
	for key := range effects {
		if lookup(key) == nil {
			t.Errorf("%s is no configuration key; remove its row", key)
		}
	}
	for _, s := range settings {
		e, ok := effects[s.key]
		if file, name, elsewhere := strings.Cut(e.by, " "); elsewhere {
			if b, err := os.ReadFile(filepath.Join("..", "..", file)); err != nil || !bytes.Contains(b, []byte("func "+name+"(t *testing.T)")) {
				t.Errorf("configuration key %s: there is no test %s: %v", s.key, e.by, err)
			}
		}
		if !ok {
			t.Errorf("configuration key %s has no row in effects: add one that fails when the key is not connected", s.key)
		}
	}
	if t.Failed() {
		return
	}
	n := newEffectNet(t)
	for _, s := range settings {
		if effects[s.key].by != "" {
			continue
		}
		t.Run(s.key, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("founder:\n%s\nworker:\n%s%s", tail(n.founder.stderr(t)), tail(n.worker.stderr(t)), tail(n.worker.log(t)))
				}
			}()
			effects[s.key].seen(t, n)
		})
	}
}

// oldCode is a file of compiled code that was there before the worker started.
func (n *effectNet) oldCode() string { return filepath.Join(n.worker.dir, "cache", "old", "code") }

// storeLimit is what status says that a store of a daemon may take.
func storeLimit(t *testing.T, d *effectDaemon, name string) uint64 {
	t.Helper()
	for _, s := range ask(t, d.client.nodes.Status, new(api.StatusRequest)).Stores {
		if s.Name == name {
			return s.Limit
		}
	}
	t.Errorf("status does not tell of %s", name)
	return 0
}

func isRelayed(t *testing.T, n *effectNet) {
	n.eventually(t, "the worker has a place on its bootstrap peer's relay", func() (bool, string) {
		addrs := fmt.Sprint(ask(t, n.worker.client.nodes.Status, new(api.StatusRequest)).Addresses)
		return strings.Contains(addrs, n.founder.id.String()+"/p2p-circuit"), addrs
	})
}

type neighbours chan peer.ID

func (c neighbours) HandlePeerFound(p peer.AddrInfo) {
	select {
	case c <- p.ID:
	default: // announced again
	}
}

// speaks wants a daemon to tell that it serves a protocol.
func speaks(t *testing.T, n *effectNet, d *effectDaemon, protocol string) {
	t.Helper()
	n.eventually(t, "it serves "+protocol, func() (bool, string) {
		h := n.dial(t, d, d.addr)
		defer h.Close()
		ps, err := h.Peerstore().GetProtocols(d.id)
		if err != nil {
			return false, err.Error()
		}
		return slices.ContainsFunc(ps, func(p protocolID) bool { return string(p) == protocol }), fmt.Sprint(ps)
	})
}

// refused wants an offer of that name to have got no answer, or one that only says
// what the worker grants.
func refused(t *testing.T, n *effectNet, name string) {
	t.Helper()
	for _, c := range n.claims(t) {
		if c.offer == name && c.Slots > 0 {
			t.Errorf("the worker answers the %s offer", name)
		}
	}
}

func get(t *testing.T, addr, path string) string {
	t.Helper()
	r, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, r.Status, err)
	}
	return string(b)
}

// setUp makes a data directory of the network.
func setUp(t *testing.T, n *effectNet, dir string) peer.ID {
	t.Helper()
	key, err := identity.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if n.network != nil {
		if err := os.WriteFile(filepath.Join(dir, genesisName), n.network.Raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

func tail(s string) string {
	lines := bytes.SplitAfter([]byte(s), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-40):], nil))
}
