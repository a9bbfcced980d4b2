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

func (a *app) moduleCheck(path string) error {
	raw, err := a.readFile(path, "module", proto.MaxModule)
	if err != nil {
		return err
	}
	m, err := checkModule(path, raw)
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
			"module": m.ID.String(), "bytes": m.RawSize, "abi": m.ABI.String(), "meter_version": m.MeterVersion, "ok": true,
			"imports": append([]string{}, m.Imports...), "min_memory": m.MinMemory, "max_memory": m.MaxMemory, "start_fuel": uint64(m.StartFuel),
		},
		ids: []string{m.ID.String()},
		table: func(w io.Writer) {
			row(w, "module", m.ID)
			row(w, "size", fmt.Sprintf("%d bytes of at most %d", m.RawSize, proto.MaxModule))
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
