package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

// resultView is one finished task as result, submit and batch print it.
type resultView struct {
	Index    uint32   `json:"index"`
	State    string   `json:"state"`
	Status   string   `json:"status"`
	ExitCode *int32   `json:"exit_code,omitempty"` // of a program that ended by itself
	Code     string   `json:"code,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Verified bool     `json:"verified"`
	Fuel     uint64   `json:"fuel"`
	Cost     uint64   `json:"cost"`
	Workers  []string `json:"workers"`
	Output   any      `json:"output"`        // of every end: what there is of it
	Log      any      `json:"log,omitempty"` // see logValue
	Receipts []string `json:"receipts"`      // base64, as 'receipt verify' reads them
}

func resultOf(typ string, r *api.TaskResult) resultView {
	v := resultView{
		Index: r.Index, State: r.State, Status: r.Status, Code: r.Code, Reason: r.Reason, Verified: r.Verified,
		Fuel: r.Fuel, Cost: r.Cost, Workers: append([]string{}, r.Workers...), Output: decoded(typ, r.Output), Log: logValue(r.Log), Receipts: []string{},
	}
	if r.Status == proto.StatusOK.String() || r.Status == proto.StatusExitNonZero.String() {
		v.ExitCode = &r.ExitCode
	}
	for _, b := range r.Receipts {
		v.Receipts = append(v.Receipts, base64.StdEncoding.EncodeToString(b))
	}
	return v
}

// logValue shows a log in JSON without losing a byte: a string, which JSON
// escapes where needed, and what is not UTF-8 under a name that says so.
func logValue(b []byte) any {
	switch {
	case len(b) == 0:
		return nil
	case utf8.Valid(b):
		return string(b)
	}
	return map[string][]byte{"base64": b}
}

// printResults prints one output plainly, and several under headings. Outputs
// go to standard output, also those of tasks that failed; logs never do.
func (a *app) printResults(j *api.Job, rs []*api.TaskResult, raw bool) error {
	if !raw && (a.quiet || a.format != "table") {
		views := []resultView{}
		for _, r := range rs {
			views = append(views, resultOf(j.Type, r))
		}
		return a.print(report{data: map[string]any{"job": jobOf(j), "results": views}, ids: []string{j.Id}})
	}
	for _, r := range rs {
		var err error
		switch {
		case raw:
			_, err = a.out.Write(r.Output)
		case len(rs) > 1:
			_, err = fmt.Fprintf(a.out, "task %d: %s\n%s", r.Index, r.State, outputLine(j.Type, r))
		default:
			_, err = io.WriteString(a.out, outputLine(j.Type, r))
		}
		if err != nil {
			return err
		}
	}
	if a.quiet {
		return nil
	}
	if err := printLogs(a.err, onTerminal(a.err), rs); err != nil {
		return err
	}
	if !raw && j.Redundancy == 1 && j.Done > 0 {
		fmt.Fprintln(a.err, "edgenetd: not verified: at redundancy 1 one worker alone says so")
	}
	if !raw && onTerminal(a.err) {
		fmt.Fprintf(a.err, "job %s %s: %d of %d tasks done, %d verified, fuel %d, %s\n",
			j.Id, j.State, j.Done, j.Tasks, j.Verified, j.Fuel, spending(j.MaxCredits, j.Cost))
	}
	return nil
}

// outputLine is a task's output as a table shows it. Outputs are a program's own
// text: no table may move their tabs.
func outputLine(typ string, r *api.TaskResult) string {
	if r.State != "done" && len(r.Output) == 0 {
		return ""
	}
	return outputText(typ, r.Output) + "\n"
}

// printLogs writes what the tasks said, byte for byte where a program reads it,
// and escaped for a terminal, which would obey it.
func printLogs(w io.Writer, terminal bool, rs []*api.TaskResult) error {
	for _, r := range rs {
		log := r.Log
		if len(log) == 0 {
			continue
		}
		if len(rs) > 1 {
			if _, err := fmt.Fprintf(w, "log of task %d:\n", r.Index); err != nil {
				return err
			}
		}
		if terminal {
			log = escaped(log)
		}
		// Something else follows on its own line, unless this is all there is.
		if log[len(log)-1] != '\n' && (terminal || len(rs) > 1 || r.State != "done") {
			log = append(slices.Clip(log), '\n')
		}
		if _, err := w.Write(log); err != nil {
			return err
		}
	}
	return nil
}

// escaped spells out what is no printable text, but for line ends and tabs.
func escaped(b []byte) []byte {
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&out, `\x%02x`, b[0])
		case r == '\n' || r == '\t' || r != '\\' && unicode.IsPrint(r):
			out.WriteRune(r)
		default:
			q := strconv.QuoteRune(r)
			out.WriteString(q[1 : len(q)-1])
		}
		b = b[n:]
	}
	return []byte(out.String())
}
