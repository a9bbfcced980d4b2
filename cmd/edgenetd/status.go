package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"edgenet.dev/node/datadir"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

// version is set by the linker for released builds; otherwise the module's
// own version or the commit says what this is.
var version = ""

func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: takes(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			v := versionText()
			return a.print(report{
				data: map[string]any{"version": v, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "meter_version": proto.MeterVersion},
				ids:  []string{v},
				table: func(w io.Writer) {
					row(w, "edgenetd", v)
					row(w, "go", runtime.Version())
					row(w, "platform", runtime.GOOS+"/"+runtime.GOARCH)
					row(w, "meter", proto.MeterVersion)
				},
			})
		},
	}
}

func (a *app) idCmd() *cobra.Command {
	return &cobra.Command{
		Use: "id", Short: "Print this node's peer id, and its addresses when it runs", Args: takes(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			key, err := loadKey(dir)
			if err != nil {
				return err
			}
			id, err := peer.IDFromPrivateKey(key)
			if err != nil {
				return err
			}
			addrs := []string{}
			if answering(c.Context(), dir) == nil {
				st, err := call(c.Context(), newClient(dir).nodes.Status, &api.StatusRequest{})
				if err != nil {
					return err
				}
				addrs = st.Addresses
			}
			return a.print(report{
				data: map[string]any{"peer_id": id.String(), "addresses": addrs},
				ids:  []string{id.String()},
				table: func(w io.Writer) {
					row(w, "peer id", id)
					for _, addr := range addrs {
						row(w, "address", addr)
					}
				},
			})
		},
	}
}

func (a *app) statusCmd() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use: "status", Short: "Show what the running daemon does", Args: takes(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			deadline := time.Now().Add(wait)
			for {
				if err := waitAnswer(c.Context(), dir, time.Until(deadline)); err != nil {
					return err
				}
				s, err := call(c.Context(), newClient(dir).nodes.Status, &api.StatusRequest{})
				if err == nil {
					return a.printStatus(c.Context(), newClient(dir), s)
				}
				// A daemon that has just started may end a first request.
				if c.Context().Err() != nil || !time.Now().Before(deadline) {
					return err
				}
				select {
				case <-time.After(50 * time.Millisecond):
				case <-c.Context().Done():
				}
			}
		},
	}
	c.Flags().DurationVar(&wait, "wait", 0, "wait so long for the daemon to answer, such as 10s")
	return c
}

// waitAnswer waits until the daemon of dir answers.
func waitAnswer(ctx context.Context, dir string, most time.Duration) error {
	deadline := time.Now().Add(most)
	for {
		err := answering(ctx, dir)
		if err == nil || !time.Now().Before(deadline) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type statusView struct {
	PeerID          string            `json:"peer_id"`
	NetworkID       string            `json:"network_id"`
	NetworkName     string            `json:"network_name"`
	Version         string            `json:"version"`
	PID             int32             `json:"pid"`
	UptimeMs        uint64            `json:"uptime_ms"`
	Addresses       []string          `json:"addresses"`
	Peers           int32             `json:"peers"`
	DHTPeers        int32             `json:"dht_peers"`
	OfferTopicPeers int32             `json:"offer_topic_peers"`
	Witness         bool              `json:"witness"`
	Witnesses       *witnessCount     `json:"witnesses"` // absent when nobody could tell in time
	Worker          workerView        `json:"worker"`
	StateHash       string            `json:"state_hash"`
	Events          uint64            `json:"events"`
	RSSBytes        uint64            `json:"rss_bytes"`
	BytesIn         uint64            `json:"bytes_in"`
	BytesOut        uint64            `json:"bytes_out"`
	Gossip          map[string]gossip `json:"gossip"`
	Stores          map[string]store  `json:"stores"`   // what is kept on disk
	Problems        []string          `json:"problems"` // why it signs nothing or takes no work
	Blocked         uint32            `json:"blocked"`  // entries of 'block list'
	BlockedProblem  string            `json:"blocked_problem,omitempty"`
}

type workerView struct {
	Enabled bool     `json:"enabled"`
	Slots   int32    `json:"slots"`
	Busy    int32    `json:"busy"`
	Done    uint64   `json:"tasks_done"`
	Failed  uint64   `json:"tasks_failed"`
	Types   []string `json:"types"`
	Why     string   `json:"why,omitempty"`

	Payee    string `json:"payee,omitempty"` // as the configuration says it
	Operator string `json:"operator,omitempty"`
	Site     string `json:"site,omitempty"`
}

// witnessCount is how many witnesses answer the daemon.
type witnessCount struct {
	Answer uint32 `json:"answer"`
	Of     int    `json:"of"`
	Quorum uint32 `json:"quorum"`
}

// witnessWait is how long status waits for the witnesses, of which a silent one
// takes three seconds.
const witnessWait = 5 * time.Second

// also asks the daemon for what its status does not hold.
func (v *statusView) also(ctx context.Context, d *client) {
	ctx, cancel := context.WithTimeout(ctx, witnessWait)
	defer cancel()
	if c, err := runningConfig(ctx, d.dir); err == nil {
		v.Worker.Payee, v.Worker.Operator, v.Worker.Site = c.text("worker.payee"), c.text("worker.operator"), c.text("worker.site")
	}
	if h, err := call(ctx, d.nodes.Health, &api.HealthRequest{}); err == nil {
		v.Witnesses = &witnessCount{h.Reachable, len(h.Witnesses), h.Quorum}
	}
}

type store struct {
	Bytes uint64 `json:"bytes"`
	Limit uint64 `json:"limit,omitempty"` // bytes
}

type gossip struct {
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
}

func (a *app) printStatus(ctx context.Context, d *client, s *api.StatusReply) error {
	k := s.Worker
	v := statusView{
		s.PeerId, s.NetworkId, s.NetworkName, s.Version, s.Pid, s.UptimeMs, s.Addresses, s.Peers, s.DhtPeers, s.OfferTopicPeers,
		s.Witness, nil,
		workerView{
			Enabled: k.GetEnabled(), Slots: k.GetSlots(), Busy: k.GetBusy(), Done: k.GetTasksDone(), Failed: k.GetTasksFailed(),
			Types: k.GetTypes(), Why: k.GetWhy(),
		},
		s.StateHash, s.Events, s.RssBytes, s.BytesIn, s.BytesOut,
		map[string]gossip{},
		map[string]store{},
		append([]string{}, s.Problems...),
		s.Blocked, s.BlockedProblem,
	}
	for _, g := range s.Gossip {
		v.Gossip[g.Topic] = gossip{g.Sent, g.Received}
	}
	if !a.quiet {
		v.also(ctx, d)
	}
	var kept []string
	for _, x := range s.Stores {
		v.Stores[x.Name] = store{x.Bytes, x.Limit}
		kept = append(kept, x.Name+" "+bytesText(x.Bytes))
	}
	return a.print(report{data: v, ids: []string{v.PeerID}, table: func(w io.Writer) {
		row(w, "peer id", v.PeerID)
		row(w, "network", fmt.Sprintf("%s (%s)", v.NetworkName, v.NetworkID))
		row(w, "version", v.Version)
		row(w, "process", fmt.Sprintf("%d, up %s, %s resident", v.PID, proto.Millis(v.UptimeMs).Round(time.Second), bytesText(v.RSSBytes)))
		row(w, "peers", fmt.Sprintf("%d connected, %d in the DHT, %d on the offers topic", v.Peers, v.DHTPeers, v.OfferTopicPeers))
		row(w, "traffic", fmt.Sprintf("%s in, %s out", bytesText(v.BytesIn), bytesText(v.BytesOut)))
		row(w, "disk", strings.Join(kept, ", "))
		work := fmt.Sprintf("%d of %d slots busy, %d tasks done, %d failed", v.Worker.Busy, v.Worker.Slots, v.Worker.Done, v.Worker.Failed)
		if !v.Worker.Enabled {
			work = dash(v.Worker.Why)
		}
		row(w, "worker", work)
		if v.Worker.Enabled && v.Worker.Why != "" {
			row(w, "work", v.Worker.Why)
		}
		for _, x := range []struct{ name, text string }{{"paid to", v.Worker.Payee}, {"operator", v.Worker.Operator}, {"site", v.Worker.Site}} {
			if x.text != "" {
				row(w, x.name, x.text)
			}
		}
		for _, p := range v.Problems {
			row(w, "problem", p)
		}
		if v.Blocked > 0 {
			row(w, "blocked", fmt.Sprintf("%d peers, subnets, submitters and modules; see 'edgenetd block list'", v.Blocked))
		}
		if v.BlockedProblem != "" {
			row(w, "problem", "the list of what is blocked stays as it was, because the file cannot be read: "+v.BlockedProblem)
		}
		row(w, "witness", yesNo(v.Witness))
		if x := v.Witnesses; x != nil {
			row(w, "witnesses", fmt.Sprintf("%d of %d answer, a quorum is %d", x.Answer, x.Of, x.Quorum))
		}
		row(w, "ledger", fmt.Sprintf("%d events, state %.16s", v.Events, v.StateHash))
		for _, addr := range v.Addresses {
			row(w, "address", addr)
		}
	}})
}

func (a *app) stopCmd() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use: "stop", Short: "Stop the running daemon and wait until it is gone", Args: takes(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.daemon(c.Context())
			if err != nil {
				return err
			}
			if _, err := call(c.Context(), d.nodes.Stop, &api.StopRequest{}); err != nil {
				return err
			}
			if err := waitUnlocked(c.Context(), d.dir, wait); err != nil {
				return err
			}
			return a.print(report{
				data:  map[string]any{"dir": d.dir, "stopped": true},
				table: func(w io.Writer) { row(w, "stopped the daemon in "+d.dir) },
			})
		},
	}
	c.Flags().DurationVar(&wait, "wait", 30*time.Second, "wait so long for it to end")
	return c
}

// waitUnlocked waits until no process holds the data directory.
func waitUnlocked(ctx context.Context, dir string, most time.Duration) error {
	deadline := time.Now().Add(most)
	for {
		lock, err := datadir.Lock(dir)
		if err == nil {
			return lock.Close()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !time.Now().Before(deadline) {
			return failf(exitFailure, "the daemon in %s was asked to stop but still runs after %v; see its log, or end process %s yourself", dir, most, datadir.Owner(dir))
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
