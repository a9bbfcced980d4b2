package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"edgenet.dev/ledger/store/pebble"
	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/node/api"
	"edgenet.dev/node/audit"
	"edgenet.dev/node/datadir"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
)

func (a *app) runCmd() *cobra.Command {
	var fault string
	var whileStdin bool
	c := &cobra.Command{
		Use: "run", Short: "Run the daemon until it is stopped", Args: takes(0, 0, ""),
		Long: `Runs the node of the data directory in the foreground: joins its network, takes
tasks of others within the worker's limits, and answers the other commands on
the socket edgenetd.sock in the data directory.

Every flag is also a configuration key and an environment variable; 'edgenetd
config show' lists them with the values in effect.`,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			cfg, err := loadConfig(configPath(dir), c.Flags())
			if err != nil {
				return err
			}
			ignoreHangup()
			ctx, cancel := context.WithCancel(c.Context())
			defer cancel()
			if whileStdin {
				go func() {
					said, _ := io.ReadAll(io.LimitReader(a.in, int64(len(keepWord))))
					if string(said) != keepWord {
						cancel()
					}
				}()
			}
			return a.runDaemon(ctx, cancel, dir, cfg, fault)
		},
	}
	addSettings(c)
	f := c.Flags()
	f.StringVar(&fault, "fault", "", "misbehave on purpose, for tests: lie (alter outputs) or lag (start tasks late)")
	f.BoolVar(&whileStdin, "while-stdin", false, "stop when standard input ends")
	_ = f.MarkHidden("fault")
	_ = f.MarkHidden("while-stdin")
	return c
}

// runDaemon opens everything the node needs, runs it until ctx ends and closes
// it in reverse order.
func (a *app) runDaemon(ctx context.Context, stop func(), dir string, cfg *config, fault string) (err error) {
	key, err := loadKey(dir)
	if err != nil {
		return err
	}
	network, err := a.network(dir)
	if err != nil {
		return err
	}
	if err := checkSocket(dir); err != nil {
		return err
	}
	lock, err := takeDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	if err := checkLedger(dir, network.ID, network.IsWitness(self)); err != nil {
		return err
	}
	if err := cfg.fits(network, self); err != nil {
		return err
	}
	least := uint64(cfg.number("disk.least")) << 20 // its range is far below an overflow
	if err := checkSpace(dir, least); err != nil {
		return err
	}
	logs, err := openLog(cfg, a.err)
	if err != nil {
		return err
	}
	defer logs.close()
	log := logs.Logger

	nc := node.Config{
		Dir: dir, Network: network, Key: key, Log: log, Announce: cfg.list("announce"), Bootstrap: cfg.list("bootstrap"),
		DHT: cfg.text("dht"), Reachability: cfg.text("reachability"), MDNS: cfg.on("mdns"), Relay: cfg.on("relay"),
		KeepEpochs: uint64(cfg.number("ledger.keep")), Light: cfg.text("ledger.mode") == "own", Version: "edgenetd/" + versionText(),
		Bandwidth: uint64(cfg.number("limits.bandwidth")) << 10, Connections: cfg.number("limits.connections"),
		Listen: listenOn(cfg), MapPorts: cfg.on("nat.map"),
	}
	if r := cfg.text("referrer"); r != "" {
		if nc.Referrer, err = parseAccount(r); err != nil {
			return failf(exitRefused, "%w", err)
		}
	}
	if nc.KeepJobs, err = parseAge(cfg.text("state.keep")); err != nil {
		return failf(exitRefused, "state.keep: %w", err)
	}
	nc.MaxState = uint64(cfg.number("state.max-size")) << 20
	nc.MaxClaims = uint64(cfg.number("claims.max-size")) << 20
	nc.MaxCache = uint64(cfg.number("cache.max-size")) << 20
	nc.Keys, nc.Record = datadir.SigningKeys(dir), audit.Open(dir).Add
	if nc.Worker, err = workerOf(cfg); err != nil {
		return err
	}
	if nc.Worker.Enabled || network.IsWitness(self) { // a witness executes accused work again
		pool, err := openPool(dir, cfg, log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, pool.Close()) }()
		nc.Executor = pool
	}
	if err := addFault(&nc, fault); err != nil {
		return err
	}
	if nc.Store, err = pebble.Open(filepath.Join(dir, "ledger")); err != nil {
		return fmt.Errorf("open the ledger in %s: %w", dir, err)
	}
	page, err := openWeb(cfg)
	if err != nil {
		return errors.Join(err, nc.Store.Close())
	}
	defer page.close()
	watched, err := openMetrics(cfg, dir)
	if err != nil {
		return errors.Join(err, nc.Store.Close())
	}
	defer watched.close()
	nc.Metrics = watched.registerer()
	n, err := node.New(nc)
	if err != nil {
		return errors.Join(blockFailure(otherNetwork(dir, busyPort(cfg, err))), nc.Store.Close())
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	// After New, which refuses what is of another network, and before anything is signed.
	err = nc.Record(time.Now(), audit.Start, "version", versionText(), "network", network.ID.String(), "work", fmt.Sprint(nc.Worker.Enabled),
		"slots", fmt.Sprint(nc.Worker.Slots), "types", strings.Join(nc.Worker.Types, ","), "custom", fmt.Sprint(nc.Worker.Custom),
		"cpu", fmt.Sprint(cfg.number("worker.cpu")), "payee", nc.Worker.Payee.String(), "listen", strings.Join(nc.Listen, ","))
	if err != nil {
		return err
	}

	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return busyPort(cfg, n.Run(gctx)) })
	g.Go(func() error { return watchSpace(gctx, dir, least) })
	g.Go(func() error { return logs.reopen(gctx, n.ReloadBlocks) })
	g.Go(func() error {
		select {
		case <-n.Ready():
		case <-gctx.Done():
			return nil
		}
		ln, err := api.Listen(dir)
		if err != nil {
			return err
		}
		a.announce(log, n, dir, cfg)
		page.ready(log, n)
		return api.Serve(gctx, ln, n, versionText(), stop, settingList(cfg)...)
	})
	g.Go(func() error { return page.serve(gctx, n) })
	g.Go(func() error { return watched.serve(gctx, log, n) })
	err = g.Wait()
	switch {
	case err == nil:
		log.Info("stopped")
	case cfg.text("log.file") != "": // else standard error has the sentence, too
		log.Error("stopped", zap.Error(err))
	}
	return err
}

// checkSocket refuses a directory whose name leaves no room for the socket's.
func checkSocket(dir string) error {
	if n := len(api.SocketPath(dir)); n > api.MaxSocketPath {
		return failf(exitUsage, "%s is too long for a socket (%d bytes, at most %d); choose a shorter --dir", api.SocketPath(dir), n, api.MaxSocketPath)
	}
	return nil
}

// announce tells where the daemon can be reached: in the log, and in plain
// lines when the log goes elsewhere.
func (a *app) announce(log *zap.Logger, n *node.Node, dir string, cfg *config) {
	log.Info("ready", zap.Stringer("peer", n.ID()), zap.String("network", n.Network().Genesis.Name),
		zap.Strings("addresses", n.Addrs()), zap.String("socket", api.SocketPath(dir)))
	tellReach(log, n, cfg)
	if cfg.text("log.file") == "" {
		return
	}
	for _, addr := range n.Addrs() {
		fmt.Fprintln(a.err, "listening on", addr)
	}
	fmt.Fprintln(a.err, "socket", api.SocketPath(dir))
}

func workerOf(cfg *config) (market.Worker, error) {
	price, err := proto.ParseCredit(cfg.text("worker.price"))
	if err != nil {
		return market.Worker{}, failf(exitRefused, "%w", err)
	}
	w := market.Worker{
		Enabled: cfg.on("worker.enabled"), Slots: cfg.number("worker.slots"), Custom: cfg.on("worker.custom"), MinPrice: price,
		MaxFuel: proto.MaxFuel, MaxMemory: uint64(cfg.number("worker.max-memory")) << 20, Operator: cfg.text("worker.operator"), Site: cfg.text("worker.site"),
		CPU: cfg.number("worker.cpu"),
	}
	if most := cfg.number("worker.max-fuel"); most > 0 {
		w.MaxFuel = proto.Fuel(most) * 1_000_000_000
	}
	if !w.Enabled {
		w.Reason = "turned off by worker.enabled"
	}
	if p := cfg.text("worker.payee"); p != "" {
		if w.Payee, err = parseAccount(p); err != nil {
			return w, failf(exitRefused, "%w", err)
		}
	}
	for _, t := range cfg.list("worker.types") {
		w.Types = append(w.Types, proto.CanonicalType(t))
	}
	if len(w.Types) == 0 {
		w.Types = modules.Types()
	}
	return w, nil
}

func openPool(dir string, cfg *config, log *zap.Logger) (sandbox.Executor, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	pool, err := sandbox.NewPool(sandbox.PoolConfig{
		Slots: cfg.number("worker.slots"), Spare: 1, Command: []string{exe, sandboxChild}, CacheDir: filepath.Join(dir, "cache"),
		CacheSize: uint64(cfg.number("cache.max-size")) << 20, CPUPercent: cfg.number("worker.cpu"), Log: log.Named("sandbox").Sugar().Infof,
	})
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	return pool, nil
}

// addFault makes the node misbehave for tests of those who must notice.
func addFault(nc *node.Config, fault string) error {
	switch fault {
	case "":
	case "lie":
		nc.Tamper = func(out []byte) []byte {
			// Another byte in each lie, or two liars would agree.
			lie := append([]byte{}, out...)
			if len(lie) == 0 {
				lie = []byte{0}
			}
			lie[rand.IntN(len(lie))] ^= byte(1 + rand.IntN(255))
			return lie
		}
	case "lag":
		if nc.Executor != nil {
			nc.Executor = laggard{nc.Executor}
		}
	default:
		return failf(exitUsage, "--fault %q: want lie or lag", fault)
	}
	return nil
}

// laggard starts every task late.
type laggard struct{ sandbox.Executor }

const lag = 3 * time.Second

func (l laggard) Run(ctx context.Context, m *sandbox.Module, input []byte, task sandbox.Task) (sandbox.Result, error) {
	select {
	case <-time.After(lag):
	case <-ctx.Done():
	}
	return l.Executor.Run(ctx, m, input, task)
}
