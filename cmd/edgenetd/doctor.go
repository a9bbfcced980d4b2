package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox"
)

// finding is one line of the doctor's.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warn or fail
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"` // what to do
}

// exam collects findings.
type exam struct{ list []finding }

func (e *exam) ok(check, format string, args ...any) {
	e.list = append(e.list, finding{check, "ok", fmt.Sprintf(format, args...), ""})
}

func (e *exam) warn(check, advice, format string, args ...any) {
	e.list = append(e.list, finding{check, "warn", fmt.Sprintf(format, args...), advice})
}

func (e *exam) fail(check, advice, format string, args ...any) {
	e.list = append(e.list, finding{check, "fail", fmt.Sprintf(format, args...), advice})
}

func (a *app) doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Check what a node needs, and say what to do about what is wrong", Args: takes(0, 0, ""),
		Long: `Checks the data directory, configuration, disk, ports, sandbox and, when the
daemon runs, its clock, peers, reachability, witnesses and ledger. Ends with code 1
when a check failed; a warning fails nothing.`,
		RunE: func(c *cobra.Command, _ []string) error { return a.doctor(c.Context()) },
	}
}

func (a *app) doctor(ctx context.Context) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	e := new(exam)
	cfg := a.examineFiles(e, dir)
	if err := answering(ctx, dir); err == nil {
		d := newClient(dir)
		st, err := call(ctx, d.nodes.Status, &api.StatusRequest{})
		if err != nil {
			return err
		}
		h, err := call(ctx, d.nodes.Health, &api.HealthRequest{Thorough: true})
		if err != nil {
			return err
		}
		e.ok("daemon", "version %s runs as process %d", st.Version, st.Pid)
		examineNetwork(e, st, h)
		if network, err := a.network(dir); err == nil { // else said above
			if id := network.ID.String(); id != st.NetworkId {
				e.fail("network", "put the network's own genesis.pb back, or the next start fails", "the daemon runs in network %s, and %s is of network %s by now", st.NetworkId, genesisName, id)
			}
			examineClock(e, h, network.Epoch())
		}
		examineSandbox(e, st.Worker.GetEnabled() || st.Witness, h.ConfinedBy, h.Unconfined, h.SandboxError)
	} else {
		e.warn("daemon", "start it with 'edgenetd run' and run the doctor again", "it does not run: clock, peers, reachability, witnesses and ledger cannot be checked")
		a.examineStores(e, dir)
		if cfg != nil {
			examinePorts(e, cfg)
			if _, err := loadKey(dir); err == nil { // else there is no directory yet, and the sandbox would make one
				a.examineOwnSandbox(ctx, e, dir, cfg)
			}
		}
	}
	failed := 0
	for _, f := range e.list {
		if f.State == "fail" {
			failed++
		}
	}
	r := report{data: e.list, table: func(w io.Writer) {
		row(w, "STATE", "CHECK", "FOUND")
		for _, f := range e.list {
			row(w, f.State, f.Check, f.Found)
			if f.Advice != "" {
				row(w, "", "", "→ "+f.Advice)
			}
		}
	}}
	for _, f := range e.list {
		if f.State != "ok" {
			r.ids = append(r.ids, f.Check)
		}
	}
	if err := a.print(r); err != nil {
		return err
	}
	if failed > 0 {
		return failf(exitFailure, "%d of %d checks failed; the lines that say 'fail' tell what to do", failed, len(e.list))
	}
	return nil
}

// examineFiles looks at what is on disk; cfg is nil when it cannot be read.
func (a *app) examineFiles(e *exam, dir string) (cfg *config) {
	if _, err := loadKey(dir); err != nil {
		e.fail("identity", "run 'edgenetd init', or put a backup in place with 'edgenetd key import'", "%s", sentence(err))
	} else {
		e.ok("identity", "%s can be read by its owner only", dir)
	}
	if network, err := a.network(dir); err != nil {
		e.fail("network", "run 'edgenetd init --genesis FILE'", "%s", sentence(err))
	} else {
		e.ok("network", "%s (%s)", network.Genesis.Name, network.ID)
	}
	cfg, err := loadConfig(configPath(dir), nil)
	if err != nil {
		e.fail("configuration", "correct it; 'edgenetd config validate' tells whether it is right", "%s", sentence(err))
		return nil
	}
	e.ok("configuration", "every key is known and valid")
	least := uint64(cfg.number("disk.least")) << 20
	free, err := freeSpace(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist): // said above
	case err != nil:
		e.warn("disk", "see that the disk can be read", "free space is unknown: %v", err)
	case free < least:
		e.fail("disk", "free some space: the daemon stops below disk.least", "%s free, the daemon needs %s", bytesText(free), bytesText(least))
	case free < 4*least || free < 1<<30:
		e.warn("disk", "free some space before it runs out, or lower state.max-size", "only %s free", bytesText(free))
	default:
		e.ok("disk", "%s free", bytesText(free))
	}
	return cfg
}

// examineStores reads of which network the stores of a stopped daemon are.
func (a *app) examineStores(e *exam, dir string) {
	network, err := a.network(dir)
	if err != nil {
		return // said above
	}
	lock, err := takeDir(dir)
	if err != nil {
		e.fail("stores", "end the process that has them, or wait until it is ready", "%s", sentence(err))
		return
	}
	defer lock.Close()
	if err := checkStores(dir, network.ID); err != nil {
		found, advice, _ := strings.Cut(sentence(err), ": ")
		e.fail("stores", advice, "%s", found)
		return
	}
	e.ok("stores", "what is there belongs to the network")
}

// examinePorts binds each port that a start would bind.
func examinePorts(e *exam, cfg *config) {
	for _, text := range cfg.list("listen") {
		if err := tryListen(text); err != nil {
			e.fail("port", "end the program that has it, or choose another port in 'listen'", "%s: %v", text, err)
		} else {
			e.ok("port", "%s is free", text)
		}
	}
}

func examineNetwork(e *exam, st *api.StatusReply, h *api.HealthReply) {
	outside := 0
	for _, text := range st.Addresses {
		if a, err := ma.NewMultiaddr(text); err == nil && !manet.IsIPLoopback(a) {
			outside++
		}
	}
	switch {
	case len(st.Addresses) == 0:
		e.warn("ports", "name addresses in 'listen', unless a tab or a client only is wanted", "the node listens nowhere")
	case outside == 0:
		e.warn("ports", "let 'listen' name /ip4/0.0.0.0/… so that other machines can reach it", "only programs on this machine can reach its %d addresses", len(st.Addresses))
	default:
		e.ok("ports", "%d of %d addresses are more than loopback", outside, len(st.Addresses))
	}
	switch h.Reachability {
	case "public":
		e.ok("reachability", "other peers reached this node from outside")
	case "private":
		e.warn("reachability", "forward the ports of 'listen' to this machine, or set reachability to private and name a relay in 'bootstrap'", "peers outside could not dial this node")
	default:
		e.ok("reachability", "not known yet: too few peers outside this network have tried")
	}
	const lonely = "name a peer that runs in 'bootstrap', as its 'edgenetd id' prints it"
	switch {
	case st.Peers == 0 && st.Witness: // the first node of a network
		e.warn("peers", "let others join, or "+lonely, "no peer is connected")
	case st.Peers == 0:
		e.fail("peers", lonely, "no peer is connected")
	default:
		e.ok("peers", "%d connected", st.Peers)
	}
	var silent []string
	for _, w := range h.Witnesses {
		if !w.Reachable {
			silent = append(silent, shortID(w.Id))
		}
	}
	said := fmt.Sprintf("%d of %d answer, a quorum is %d", h.Reachable, len(h.Witnesses), h.Quorum)
	if len(silent) > 0 {
		said += "; silent: " + strings.Join(silent, " ")
	}
	switch {
	case h.Reachable < h.Quorum:
		e.fail("witnesses", "nothing can be paid or held until a quorum answers: see that they run and that this node can dial them", "%s", said)
	case len(silent) > 0:
		e.warn("witnesses", "tell who runs the silent ones; one more failure may stop the network", "%s", said)
	default:
		e.ok("witnesses", "%s", said)
	}
	if h.Synced {
		e.ok("ledger", "up to date, epoch %d, %d events", h.Epoch, st.Events)
	} else {
		e.fail("ledger", "wait a minute; if it stays, the node does not reach a witness", "it is not synchronized")
	}
	for _, p := range st.Problems { // each says what to do behind a colon
		found, advice, _ := strings.Cut(p, ": ")
		e.fail("account", advice, "%s", found)
	}
	switch {
	case len(st.Problems) > 0:
	case h.Frozen:
		e.fail("account", "use the recovery key: 'edgenetd key recover FILE'", "it is frozen: two events were signed for one place")
	default:
		e.ok("account", "no other process uses it, and it is not frozen")
	}
	if st.Worker.GetEnabled() {
		e.ok("worker", "%s", st.Worker.Why)
	} else if !st.Witness && len(st.Problems) == 0 {
		e.ok("worker", "%s", dash(st.Worker.GetWhy()))
	}
}

// clockGood is how far a clock may be off without anybody noticing.
const clockGood = time.Second

func examineClock(e *exam, h *api.HealthReply, epoch time.Duration) {
	var offsets []time.Duration
	for _, us := range h.ClockOffsetsUs {
		offsets = append(offsets, time.Duration(us)*time.Microsecond)
	}
	off, known := node.Median(offsets)
	found := fmt.Sprintf("the median of %d other clocks is %s ahead of this one", len(offsets), off.Abs().Round(time.Millisecond))
	if off < 0 {
		found = strings.Replace(found, "ahead of", "behind", 1)
	}
	const advice = "set the clock, and keep it right with NTP (systemd-timesyncd or chrony)"
	switch {
	case !known:
		e.warn("clock", "run the doctor again once peers are connected", "nobody to compare it with answered")
	case off.Abs() <= clockGood:
		e.ok("clock", "%s", found)
	case off.Abs() < epoch/4:
		e.warn("clock", advice, "%s", found)
	default:
		e.fail("clock", advice, "%s; witnesses allow a quarter of an epoch, %s", found, epoch/4)
	}
}

func examineSandbox(e *exam, wanted bool, by, missing []string, problem string) {
	switch {
	case !wanted:
		e.ok("sandbox", "not needed: this node executes nothing")
	case problem != "":
		e.fail("sandbox", "see that this system lets the daemon start processes; a service manager may forbid it", "%s", problem)
	case len(missing) > 0:
		e.warn("sandbox", "a newer kernel, or fewer restrictions by a container or service manager, give what is missing", "children are confined by %s; missing: %s", dash(strings.Join(by, ", ")), strings.Join(missing, "; "))
	default:
		e.ok("sandbox", "children are confined by %s", strings.Join(by, ", "))
	}
}

// examineOwnSandbox tries the sandbox as this user, without a daemon.
func (a *app) examineOwnSandbox(ctx context.Context, e *exam, dir string, cfg *config) {
	if !cfg.on("worker.enabled") {
		return
	}
	pool, err := openPool(dir, cfg, zap.NewNop())
	if err != nil {
		e.fail("sandbox", "see that the data directory can be written", "%v", err)
		return
	}
	defer pool.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	i, err := sandbox.IsolationOf(ctx, pool)
	problem, missing := "", i.Missing
	if err != nil {
		problem = proto.Clip(err.Error(), 300)
	}
	for _, at := range i.Attempts {
		if !at.Refused {
			missing = append(missing, fmt.Sprintf("a child could %s (%s)", at.What, at.Result))
		}
	}
	examineSandbox(e, true, i.InForce, missing, problem)
}
