//go:build !js

package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// wellNamed gathers with the names that Prometheus' conventions ask for. libp2p
// has gauges that end like counters, and a counter that does not, which
// 'promtool check metrics' refuses.
type wellNamed struct{ prometheus.Gatherer }

// Gather implements prometheus.Gatherer.
func (g wellNamed) Gather() ([]*dto.MetricFamily, error) {
	list, err := g.Gatherer.Gather()
	taken := map[string]bool{}
	for _, f := range list {
		taken[f.GetName()] = true
	}
	for _, f := range list {
		name := f.GetName()
		switch f.GetType() {
		case dto.MetricType_GAUGE:
			name = strings.TrimSuffix(strings.TrimSuffix(name, "_total"), "_count")
		case dto.MetricType_COUNTER:
			name = strings.TrimSuffix(name, "_total") + "_total"
		}
		if !taken[name] {
			taken[name] = true
			f.Name = &name
		}
	}
	return list, err
}
