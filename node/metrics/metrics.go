//go:build !js

// Package metrics tells programs that watch a daemon how it does, over HTTP:
// Prometheus metrics, whether it lives, and whether it can do its part. It keeps
// a registry of its own. Tabs do not link it.
package metrics

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"edgenet.dev/node"
)

// Config of a Handler.
type Config struct {
	Registry *prometheus.Registry // the one that the node's Config.Metrics is
	Node     *node.Node
	Dir      string // data directory whose sizes are told; "" tells none
	Version  string
	// Free is the space left on a directory's disk in bytes.
	Free func(dir string) (uint64, error)
	// PProf serves Go's profiles below /debug/pprof/. They show what the process
	// has in memory.
	PProf bool
}

// Timeouts of what a request asks of the node. Prometheus gives a scrape 10 s.
const (
	healthTimeout = 8 * time.Second
	aliveTimeout  = 5 * time.Second
)

// NewRegistry makes a registry with the metrics of the Go runtime and the
// process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// NewHandler serves /metrics, /healthz and /readyz. Healthy is a process whose
// main loop answers; ready is a node that reaches a quorum of witnesses and has
// a ledger that is up to date. Either is 200, or 503 with a reason a line.
func NewHandler(c Config) (http.Handler, error) {
	err := c.Registry.Register(&collector{n: c.Node, dir: c.Dir, free: c.Free, version: c.Version})
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(wellNamed{c.Registry}, promhttp.HandlerOpts{Registry: c.Registry, MaxRequestsInFlight: 4, Timeout: 2 * healthTimeout}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), aliveTimeout)
		defer cancel()
		if err := c.Node.Alive(ctx); err != nil {
			answer(w, []string{fmt.Sprintf("the node does not answer: %v", err)})
			return
		}
		answer(w, nil)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
		defer cancel()
		h, err := c.Node.Health(ctx)
		if err != nil {
			h.Reasons = []string{fmt.Sprintf("the node cannot say: %v", err)}
		}
		answer(w, h.Reasons)
	})
	if c.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return localOnly(mux), nil
}

func answer(w http.ResponseWriter, reasons []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	text := "ok\n"
	if len(reasons) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		text = strings.Join(reasons, "\n") + "\n"
	}
	_, _ = w.Write([]byte(text)) // whoever asked has left
}

// localOnly refuses requests that came over loopback under a public name: a
// page in a browser on this machine could send them (DNS rebinding).
func localOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if t, ok := local.(*net.TCPAddr); ok && t.IP.IsLoopback() && host != "localhost" && net.ParseIP(strings.Trim(host, "[]")) == nil {
			http.Error(w, "ask by an address or as localhost", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Address reads the value of a listen setting: "host:port". Without a host it is
// loopback: whoever wants others to read the metrics names an address.
func Address(text string) (string, error) {
	if !strings.Contains(text, ":") {
		text = ":" + text
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", err
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return "", fmt.Errorf("port %q is none", port)
	}
	return net.JoinHostPort(host, port), nil
}
