package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"go.uber.org/zap"

	"edgenet.dev/node"
	"edgenet.dev/node/web"
)

// webPage is the daemon's HTTP side for tabs; without web.listen it does
// nothing.
type webPage struct {
	l    net.Listener
	root fs.FS
}

// openWeb binds the port before the node starts, so that a taken one is told
// at once.
func openWeb(cfg *config) (*webPage, error) {
	p := new(webPage)
	addr, dir := cfg.text("web.listen"), cfg.text("web.root")
	if addr == "" {
		return p, nil
	}
	if dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "index.html")); err != nil {
			return nil, failf(exitRefused, "--web-root %s holds no browser bundle (%v); build one with 'make browser' and name its browser/dist", dir, err)
		}
		p.root = os.DirFS(dir)
	}
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, failf(exitBusy, "--web %s: the port is in use by another program; choose another", addr)
	case err != nil:
		return nil, failf(exitUsage, "--web %s: %v; want host:port such as 127.0.0.1:8080", addr, err)
	}
	p.l = l
	return p, nil
}

// ready tells where tabs are served.
func (p *webPage) ready(log *zap.Logger, n *node.Node) {
	if p.l == nil {
		return
	}
	log.Info("serving tabs", zap.String("url", "http://"+p.l.Addr().String()+"/"), zap.Bool("bundle", p.root != nil))
	if len(web.Describe(n).Addrs) == 0 {
		log.Warn("no tab can dial this node: let it listen on WebTransport, for example --listen /ip4/0.0.0.0/udp/4001/quic-v1/webtransport")
	}
}

func (p *webPage) serve(ctx context.Context, n *node.Node) error {
	if p.l == nil {
		return nil
	}
	select {
	case <-n.Ready():
	case <-ctx.Done():
		return nil
	}
	return web.Serve(ctx, p.l, web.NewHandler(n, p.root))
}

func (p *webPage) close() {
	if p.l != nil {
		p.l.Close()
	}
}
