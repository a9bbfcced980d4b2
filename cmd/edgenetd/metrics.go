package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"edgenet.dev/node"
	"edgenet.dev/node/metrics"
	"edgenet.dev/node/web"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

// metricsPage is the daemon's HTTP side for programs that watch it; without
// metrics.listen it does nothing.
type metricsPage struct {
	l        net.Listener
	registry *prometheus.Registry
	pprof    bool
	dir      string
}

// openMetrics binds the port before the node starts, so that a taken one is
// told at once.
func openMetrics(cfg *config, dir string) (*metricsPage, error) {
	p := &metricsPage{dir: dir, pprof: cfg.on("metrics.pprof")}
	text := cfg.text("metrics.listen")
	if text == "" {
		return p, nil
	}
	addr, err := metrics.Address(text)
	if err != nil {
		return nil, failf(exitUsage, "--metrics %s: %v; want a port or host:port such as 127.0.0.1:9464", text, err)
	}
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, failf(exitBusy, "--metrics %s: the port is in use by another program; choose another", addr)
	case err != nil:
		return nil, failf(exitUsage, "--metrics %s: %v; want a port or host:port such as 127.0.0.1:9464", addr, err)
	}
	p.l, p.registry = l, metrics.NewRegistry()
	return p, nil
}

// registerer is where libp2p's own metrics go; nil without metrics.listen.
func (p *metricsPage) registerer() prometheus.Registerer {
	if p.registry == nil {
		return nil
	}
	return p.registry
}

// serve answers from the start on: a node that is not ready yet is not healthy.
func (p *metricsPage) serve(ctx context.Context, log *zap.Logger, n *node.Node) error {
	if p.l == nil {
		return nil
	}
	h, err := metrics.NewHandler(metrics.Config{Registry: p.registry, Node: n, Dir: p.dir, Version: versionText(), Free: freeSpace, PProf: p.pprof})
	if err != nil {
		return err
	}
	log.Info("serving metrics", zap.String("url", "http://"+p.l.Addr().String()+"/metrics"), zap.Bool("pprof", p.pprof))
	return web.Serve(ctx, p.l, h)
}

func (p *metricsPage) close() {
	if p.l != nil {
		p.l.Close()
	}
}

// settingList is the configuration in effect as the local API tells it.
func settingList(cfg *config) (out []*api.Setting) {
	for _, s := range settings {
		v, err := json.Marshal(cfg.values.Get(s.key))
		if err != nil { // text, numbers and lists of text
			continue
		}
		out = append(out, &api.Setting{Key: s.key, Value: string(v), Source: cfg.sources[s.key]})
	}
	return out
}

// parseAge reads a time such as 36h or 30d; "0" is 0.
func parseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 64)
		if most := uint64(proto.MaxDuration / (24 * time.Hour)); err != nil || n > most {
			return 0, fmt.Errorf("want a number of days up to %d such as 30d", most)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > proto.MaxDuration {
		return 0, errors.New("want a time up to 100 years such as 30d or 36h, or 0 for no bound")
	}
	return d, nil
}
