package market

import (
	"fmt"
	"testing"
	"time"

	"edgenet.dev/proto"
)

// benchJob runs one job through wired machines and returns the real time
// spent inside Step, over all machines, per verified task.
func benchJob(b *testing.B, nodes, tasks int, run int) float64 {
	s := newSim(b, uint64(run), nodes, func(i int, c *Config) {
		c.Worker.Slots, c.Worker.InFlight = 16, 256
	})
	s.latency, s.run, s.certify = 100*time.Microsecond, 100*time.Microsecond, time.Millisecond
	id := s.job(0, "bench", tasks, Options{Redundancy: 2, Fuel: 60_000_000, MaxCredits: 1000 * proto.OneCredit})
	s.until(time.Minute, s.final(id))
	if v := s.view(id); v.Verified != tasks {
		b.Fatalf("%d of %d verified", v.Verified, tasks)
	}
	return float64(s.inSteps.Nanoseconds()) / float64(tasks)
}

func BenchmarkVerifiedTasks(b *testing.B) {
	for _, nodes := range []int{3, 4} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			var ns float64
			for i := range b.N {
				ns += benchJob(b, nodes, 2000, i)
			}
			b.ReportMetric(ns/float64(b.N), "step-ns/task")
			b.ReportMetric(1e9/(ns/float64(b.N)), "tasks/s")
		})
	}
}

// BenchmarkJobSize shows that a task costs the same in a job of 1,000 and of
// 10,000: ratio is per-task Step time of the large job over the small one.
func BenchmarkJobSize(b *testing.B) {
	var small, large float64
	for i := range b.N {
		small += benchJob(b, 3, 1000, i)
		large += benchJob(b, 3, proto.MaxTasks, i)
	}
	b.ReportMetric(small/float64(b.N), "ns/task-1k")
	b.ReportMetric(large/float64(b.N), "ns/task-10k")
	b.ReportMetric(large/small, "ratio")
}

// BenchmarkWarmTask is a job of one task in an open session, submit to
// verdict, Step time of both sides only.
func BenchmarkWarmTask(b *testing.B) {
	s := newSim(b, 1, 2, nil)
	o := Options{Redundancy: 1, Fuel: 60_000_000, MaxCredits: 1000 * proto.OneCredit}
	s.until(time.Minute, s.final(s.job(0, "warm up", 1, o)))
	b.ResetTimer()
	s.inSteps = 0
	for i := range b.N {
		s.until(time.Second, s.final(s.job(0, fmt.Sprint(i), 1, o)))
	}
	b.ReportMetric(float64(s.inSteps.Nanoseconds())/float64(b.N), "step-ns/task")
}
