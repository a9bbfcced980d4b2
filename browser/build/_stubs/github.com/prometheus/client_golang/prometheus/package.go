// Package prometheus stands in a tab for the real one: nobody reads a tab's
// metrics, and the registry brings HTTP, text formats and regular expressions
// with it. It has what libp2p calls, and counts nothing.
package prometheus

// Registerer takes collectors.
type Registerer interface {
	Register(Collector) error
	MustRegister(...Collector)
	Unregister(Collector) bool
}

// Collector is anything that is registered.
type Collector interface{}

type nobody struct{}

func (nobody) Register(Collector) error  { return nil }
func (nobody) MustRegister(...Collector) {}
func (nobody) Unregister(Collector) bool { return true }

// DefaultRegisterer keeps nothing.
var DefaultRegisterer Registerer = nobody{}

// AlreadyRegisteredError never comes.
type AlreadyRegisteredError struct{ ExistingCollector, NewCollector Collector }

func (AlreadyRegisteredError) Error() string { return "registered already" }

// Labels are names and values.
type Labels map[string]string

// Opts of a metric.
type Opts struct {
	Namespace, Subsystem, Name, Help string
	ConstLabels                      Labels
}

// CounterOpts and the like are Opts.
type (
	CounterOpts   Opts
	GaugeOpts     Opts
	HistogramOpts struct {
		Namespace, Subsystem, Name, Help string
		ConstLabels                      Labels
		Buckets                          []float64
	}
)

// Counter and the like do nothing.
type (
	Counter   interface{ metric }
	Gauge     interface{ metric }
	Histogram interface{ metric }
	Observer  interface{ Observe(float64) }
)

type metric interface {
	Inc()
	Dec()
	Add(float64)
	Sub(float64)
	Set(float64)
	Observe(float64)
}

type nothing struct{}

func (nothing) Inc()            {}
func (nothing) Dec()            {}
func (nothing) Add(float64)     {}
func (nothing) Sub(float64)     {}
func (nothing) Set(float64)     {}
func (nothing) Observe(float64) {}

// CounterVec and the like have one metric for all labels.
type (
	CounterVec   struct{}
	GaugeVec     struct{}
	HistogramVec struct{}
)

func (*CounterVec) WithLabelValues(...string) Counter    { return nothing{} }
func (*CounterVec) With(Labels) Counter                  { return nothing{} }
func (*GaugeVec) WithLabelValues(...string) Gauge        { return nothing{} }
func (*GaugeVec) With(Labels) Gauge                      { return nothing{} }
func (*HistogramVec) WithLabelValues(...string) Observer { return nothing{} }
func (*HistogramVec) With(Labels) Observer               { return nothing{} }

func NewCounter(CounterOpts) Counter                        { return nothing{} }
func NewGauge(GaugeOpts) Gauge                              { return nothing{} }
func NewHistogram(HistogramOpts) Histogram                  { return nothing{} }
func NewCounterVec(CounterOpts, []string) *CounterVec       { return nil }
func NewGaugeVec(GaugeOpts, []string) *GaugeVec             { return nil }
func NewHistogramVec(HistogramOpts, []string) *HistogramVec { return nil }
func ExponentialBuckets(float64, float64, int) []float64    { return nil }
func LinearBuckets(float64, float64, int) []float64         { return nil }
