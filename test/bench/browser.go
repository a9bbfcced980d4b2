package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
)

// tab: what a page pays for a node, in a real Chromium beside real daemons.
// The measuring is done by test/browser/bench.mjs.
func (b bench) tab(ctx context.Context) ([]row, error) {
	if _, err := os.Stat("test/browser/node_modules"); err != nil {
		return nil, fmt.Errorf("%w; run make browser first", err)
	}
	cmd := exec.CommandContext(ctx, "node", "test/browser/bench.mjs", fmt.Sprint(b.idle.Seconds()))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("test/browser/bench.mjs: %w", err)
	}
	var m struct {
		WasmBrotli, LoaderGz, TaskWorkerGz                  float64
		Cold, Warm                                          float64
		IdleBytesPerMinute, WasmBytes, LiveBytes, PageBytes float64
		CPU                                                 []struct{ Limit, Used, Free float64 }
	}
	if err := json.Unmarshal(out, &m); err != nil {
		return nil, fmt.Errorf("test/browser/bench.mjs: %w", err)
	}
	worst, beside := 0.0, ""
	for _, c := range m.CPU {
		// A machine that gives a free Worker less than a core gives this one less, too.
		off := 100 * math.Abs(c.Used/c.Free/c.Limit-1)
		worst = max(worst, off)
		beside += fmt.Sprintf("%.0f %%: %.1f %%, free Worker %.0f %% of a core; ", 100*c.Limit, 100*c.Used, 100*c.Free)
	}
	return []row{
		{"node_wasm_brotli_bytes", m.WasmBrotli, "bytes", "quality 11", "<= 4,000,000"},
		{"loader_gz_bytes", m.LoaderGz, "bytes", "gzip -9", "<= 30,720"},
		{"task_worker_gz_bytes", m.TaskWorkerGz, "bytes", "gzip -9", "<= 10,240"},
		{"tab_open_to_connected_ms", m.Warm, "ms", fmt.Sprintf("first visit %.0f ms", m.Cold), "< 1,000 (stretch 300)"},
		{"tab_idle_heap_mb", (m.WasmBytes + m.PageBytes) / 1e6, "MB", fmt.Sprintf("wasm memory %.1f MB of which live %.1f, page %.1f MB", m.WasmBytes/1e6, m.LiveBytes/1e6, m.PageBytes/1e6), "< 50"},
		{"tab_idle_kb_min", m.IdleBytesPerMinute / 1e3, "kB/min", "", "<= 2.5"},
		{"tab_cpu_limit_error_pct", worst, "%", beside, "<= 10"},
	}, nil
}
