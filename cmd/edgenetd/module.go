package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

func (a *app) moduleCmd() *cobra.Command {
	return family("module", "Check WASM modules",
		&cobra.Command{
			Use: "check FILE", Short: "Check offline whether the network would run a module", Args: takes(1, 1, "a module FILE"),
			RunE: func(_ *cobra.Command, args []string) error { return a.moduleCheck(args[0]) },
		})
}

// checkModule prepares raw as every worker would.
func checkModule(path string, raw []byte) (*sandbox.Module, error) {
	m, err := sandbox.Prepare(raw, sandbox.Policy{})
	if err != nil {
		return nil, failf(exitRefused, "module %s is refused: %v; rebuild it with what docs/tasks.md allows", path, err)
	}
	return m, nil
}

// Custom sections do not count against a module's limit, so a file may be much
// larger; hintFrom is from how many bytes of them a submission speaks of it.
const (
	maxModuleFile = 256 << 20
	hintFrom      = 256 << 10
)

// loadModule reads a module file, checks all of it, and strips it to what
// travels. dropped counts the bytes of its custom sections.
func (a *app) loadModule(path string) (m *sandbox.Module, raw []byte, dropped int, err error) {
	whole, err := a.readFile(path, "module", maxModuleFile)
	if err != nil {
		return nil, nil, 0, err
	}
	if m, err = checkModule(path, whole); err != nil { // whole: offsets are the file's
		return nil, nil, 0, err
	}
	raw = sandbox.Strip(whole)
	if dropped = len(whole) - len(raw); dropped > 0 {
		m, err = checkModule(path, raw)
	}
	return m, raw, dropped, err
}

func (a *app) moduleCheck(path string) error {
	m, _, dropped, err := a.loadModule(path)
	if err != nil {
		return err
	}
	most, where := proto.DefaultMaxRun, " where the genesis says nothing else"
	if dir, err := a.dir(); err == nil {
		if n, err := a.network(dir); err == nil {
			most, where = n.MaxRun(), " in network "+n.Genesis.Name
		}
	}
	run := proto.DefaultRun(proto.DefaultFuel, most)
	return a.print(report{
		data: map[string]any{
			"default_run_ms": run.Milliseconds(), "max_run_ms": most.Milliseconds(),
			"module": m.ID.String(), "bytes": m.RawSize, "dropped_bytes": dropped, "abi": m.ABI.String(), "meter_version": m.MeterVersion, "ok": true,
			"imports": append([]string{}, m.Imports...), "min_memory": m.MinMemory, "max_memory": m.MaxMemory, "start_fuel": uint64(m.StartFuel),
		},
		ids: []string{m.ID.String()},
		table: func(w io.Writer) {
			row(w, "module", m.ID)
			row(w, "size", fmt.Sprintf("%d bytes of at most %d", m.RawSize, proto.MaxModule))
			if dropped > 0 {
				row(w, "left out", fmt.Sprintf("%d bytes of names, debugging data and other custom sections, which do not travel", dropped))
			}
			row(w, "interface", m.ABI)
			row(w, "meter", m.MeterVersion)
			if len(m.Imports) == 0 {
				row(w, "imports", "none")
			}
			for _, name := range m.Imports {
				row(w, "imports", name)
			}
			row(w, "memory", fmt.Sprintf("%d bytes at the start, %d at most; a task's own limit is %d unless set", m.MinMemory, m.MaxMemory, proto.DefaultMemory))
			row(w, "fuel", fmt.Sprintf("%d before the first instruction; a task's limit is %d unless set", m.StartFuel, proto.DefaultFuel))
			row(w, "time", fmt.Sprintf("a try may run for %s unless set with --run-timeout, for %s at most%s", run, most, where))
			row(w, "verdict", "accepted")
		},
	})
}
