package main

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"edgenet.dev/node"
	"edgenet.dev/node/metrics"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
)

// setting is one configuration key. Its default has the type of the value. What
// it takes beside that is said once, in takes: help, the check of every value
// and completion read it there.
type setting struct {
	key   string
	flag  string
	value any // string, bool, int or []string
	usage string
	takes values
}

// values says which values a key takes, of a list each element. The zero value
// takes everything of the default's type.
type values struct {
	among       []string           // one of these
	least, most int                // a number in this range, when most is not 0
	unit        string             // of the number
	check       func(string) error // what else a text must be; an empty text that is the default is not asked about
	suggest     func() []string    // texts to complete with, where check takes more than can be listed
}

func among(names ...string) values { return values{among: names} }

func between(least, most int, unit string) values {
	return values{least: least, most: most, unit: unit}
}

func text(check func(string) error) values { return values{check: check} }

// maxGfuel is the largest fuel limit of a task.
const maxGfuel = int(proto.MaxFuel / 1_000_000_000)

// label bounds what is told to others about a worker.
func label(s string) error {
	if len(s) > proto.MaxLabel {
		return fmt.Errorf("label of %d bytes, at most %d", len(s), proto.MaxLabel)
	}
	return nil
}

// settings lists every key there is, in the order in which they are shown.
var settings = []setting{
	{"listen", "listen", []string{}, "multiaddrs to listen on, as 'init' chooses them; none: all interfaces, on free ports that change at every start", text(portAddress)},
	{"announce", "announce", []string{}, "multiaddrs to tell others instead of the listened ones", text(portAddress)},
	{"bootstrap", "bootstrap", []string{}, "multiaddrs with /p2p/ of peers to join the network by", text(peerAddress)},
	{"dht", "dht", "auto", "part in Kademlia; ask lets connected daemons look peers up", among("auto", "server", "client", "ask", "off")},
	{"reachability", "reachability", "auto", "what to assume before others have tried; private reserves a place on the bootstrap peers' relays", among("auto", "public", "private")},
	{"mdns", "mdns", false, "find peers on the local network by multicast", values{}},
	{"relay", "relay", false, "relay connections for peers that cannot be dialled", values{}},
	{"limits.bandwidth", "bandwidth", 0, "most traffic with peers, both directions together, in KiB per second; 0: no limit", between(0, math.MaxInt32, "KiB per second")},
	{"limits.connections", "connections", 0, "connections above which those of least use are closed, down to two thirds as many; 0: 6000 on a witness, 600 on a node that relays or is public, else 128", between(0, 1<<20, "connections")},
	{"web.listen", "web", "", "host:port on which tabs are served their genesis, this node's addresses and the browser bundle; none: off", text(webAddress)},
	{"web.root", "web-root", "", "directory of the browser bundle that 'make browser' builds; none: only genesis and addresses are served", values{}},
	{"worker.enabled", "work", true, "take tasks of others", values{}},
	{"worker.slots", "slots", 1, "tasks executed at once; for none set worker.enabled to false", between(1, 1024, "slots")},
	{"worker.types", "types", []string{}, "task types to take; none: every built-in one", values{check: taskType, suggest: modules.Types}},
	{"worker.custom", "custom", true, "take modules that are not built in", values{}},
	{"worker.price", "price", "0", "least price in credits per 60 Gfuel at normal priority: high pays more, low not less; 0: any", text(price)},
	{"worker.payee", "payee", "", "account that earns instead of this node's", text(account)},
	{"worker.operator", "operator", "", "label of who runs this node, at most 64 bytes; replicas avoid sharing one", text(label)},
	{"worker.site", "site", "", "label of the site this node works for, at most 64 bytes", text(label)},
	{"worker.cpu", "cpu", 100, "percent of a slot's CPU that a task may use", between(1, 100, "percent")},
	{"worker.max-fuel", "max-fuel", 0, "most fuel, in Gfuel, that a task of others may be given here; 0: whatever it asks for", between(0, maxGfuel, "Gfuel")},
	{"worker.max-memory", "max-memory", sandbox.MaxMemory >> 20, "most MiB of memory that a task of others may be given here", between(1, sandbox.MaxMemory>>20, "MiB")},
	{"ledger.mode", "ledger", "full", "full follows every account; own asks the witnesses about this node's account only, as a tab does", among("full", "own")},
	{"ledger.keep", "keep-epochs", node.DefaultKeepEpochs, "epochs for which certified events stay after a checkpoint covers them; this node's own stay for ever", between(1, math.MaxInt32, "epochs")},
	{"disk.least", "disk-least", 24, "MiB of free disk below which the daemon stops, while its stores can still be closed", between(0, 1<<40, "MiB")},
	{"state.keep", "state-keep", "30d", "time for which jobs that are over are kept with their results, such as 30d or 36h; 0: for ever", text(age)},
	{"state.max-size", "state-max-size", 1024, "MiB that jobs which are over may take together, the oldest go first; 0: no bound", between(0, 1<<20, "MiB")},
	{"claims.max-size", "claims-max-size", node.DefaultMaxClaims >> 20, "MiB kept of unpaid work as proof, an eighth of them for one submitter; above it no more of its work is taken", between(1, 1<<20, "MiB")},
	{"cache.max-size", "cache-max-size", sandbox.DefaultCacheSize >> 20, "MiB of compiled code to keep; what was not used for longest goes", between(1, 1<<20, "MiB")},
	{"metrics.listen", "metrics", "", "port, or host:port, for /metrics, /healthz and /readyz; a port alone is on loopback; none: off", text(metricsAddress)},
	{"metrics.pprof", "metrics-pprof", false, "serve Go's profiles at /debug/pprof/ there, too", values{}},
	{"log.level", "log-level", "info", "least level logged", among("debug", "info", "warn", "error")},
	{"log.format", "log-format", "auto", "form of a line; auto is console on a terminal, else json", among("auto", "console", "json")},
	{"log.file", "log-file", "", "file to log to instead of standard error; a relative name is one in the directory that the daemon is started in", values{}},
	{"log.max-size", "log-max-size", 100, "MiB at which the log file is moved aside under a name with the time, and a new one begun; 0: never", between(0, 1<<20, "MiB")},
	{"log.keep", "log-keep", 5, "log files that were moved aside to keep; 0: all", between(0, 1<<20, "files")},
	{"nat.map", "map-ports", true, "ask the router, by UPnP or NAT-PMP, to let others in on the ports of listen", values{}},
	{"referrer", "referrer", "", "account that this node's account names, once, as having brought it into the network; an invite sets it", text(account)},
}

// help is the usage with the values that the key takes.
func (s setting) help() string {
	switch v := s.takes; {
	case len(v.among) > 0:
		return s.usage + " (" + strings.Join(v.among, ", ") + ")"
	case v.most == math.MaxInt32:
		return fmt.Sprintf("%s (%d or more)", s.usage, v.least)
	case v.most > 0:
		return fmt.Sprintf("%s (%d to %d)", s.usage, v.least, v.most)
	}
	return s.usage
}

// refusal says what is wrong with a value of the key's type, or nil.
func (s setting) refusal(value any) error {
	t := s.takes
	switch v := value.(type) {
	case int:
		if t.most > 0 && (v < t.least || v > t.most) {
			return fmt.Errorf("%d %s; want %d to %d", v, t.unit, t.least, t.most)
		}
	case string:
		if v == s.value {
			return nil
		}
		return t.refusal(v)
	case []string:
		for _, e := range v {
			if err := t.refusal(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t values) refusal(v string) error {
	if len(t.among) > 0 && !slices.Contains(t.among, v) {
		return fmt.Errorf("%q is unknown; use one of %s", v, strings.Join(t.among, ", "))
	}
	if t.check != nil {
		return t.check(v)
	}
	return nil
}

func multiaddress(a string) error {
	if _, err := multiaddr.NewMultiaddr(a); err != nil {
		return fmt.Errorf("%q is no multiaddr such as /ip4/0.0.0.0/tcp/4001", a)
	}
	return nil
}

// portAddress is a multiaddr at which something can listen.
func portAddress(a string) error {
	m, err := multiaddr.NewMultiaddr(a)
	if err != nil {
		return multiaddress(a)
	}
	for _, code := range []int{multiaddr.P_TCP, multiaddr.P_UDP} {
		if _, err := m.ValueForProtocol(code); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%q names no port; want a multiaddr such as /ip4/0.0.0.0/tcp/4001", a)
}

func webAddress(a string) error {
	_, port, err := net.SplitHostPort(a)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%q: want host:port such as 127.0.0.1:8080", a)
	}
	return nil
}

func peerAddress(a string) error {
	if err := multiaddress(a); err != nil {
		return err
	}
	if _, err := peer.AddrInfoFromString(a); err != nil {
		return fmt.Errorf("%q must end in /p2p/ and the peer's id, as 'edgenetd id' prints it", a)
	}
	return nil
}

func taskType(t string) error {
	if !slices.Contains(modules.Types(), proto.CanonicalType(t)) {
		return fmt.Errorf("task type %q is unknown; this build has %s", t, strings.Join(modules.Types(), ", "))
	}
	return nil
}

func age(text string) error {
	if _, err := parseAge(text); err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	return nil
}

func metricsAddress(addr string) error {
	if _, err := metrics.Address(addr); err != nil {
		return fmt.Errorf("%q: %w; want a port or host:port such as 127.0.0.1:9464", addr, err)
	}
	return nil
}

func price(p string) error {
	c, err := proto.ParseCredit(p)
	if err == nil && c > proto.MaxPriceCredits {
		err = fmt.Errorf("price of %s credits, at most %s", c, proto.MaxPriceCredits)
	}
	return err
}

func account(id string) error {
	_, err := parseAccount(id)
	return err
}
