//go:build !js

package transport

import (
	"github.com/libp2p/go-libp2p"
	"github.com/prometheus/client_golang/prometheus"
)

// Registerer takes libp2p's own metrics.
type Registerer = prometheus.Registerer

// metrics registers libp2p's metrics where they are wanted, never with the
// registry that a whole process shares.
func (c Config) metrics() libp2p.Option {
	if c.Metrics == nil {
		return libp2p.DisableMetrics()
	}
	return libp2p.PrometheusRegisterer(c.Metrics)
}
