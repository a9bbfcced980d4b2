package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"edgenet.dev/proto/api"
)

// TestLogsKeepEveryByte: a log is shown whole whatever is in it, cut inside a
// character too, and where each reader can take it.
func TestLogsKeepEveryByte(t *testing.T) {
	latin1, ansi, cut := "B\xe4ckerei \xfcber 3 Zeilen", "\x1b[31merror\x1b[0m: line 7\n", strings.Repeat("a", 9)+"\xc3"
	for name, c := range map[string]struct{ log, terminal, json string }{
		"plain":   {"line 7\n", "line 7\n", `"line 7\n"`},
		"Latin-1": {latin1, "B\\xe4ckerei \\xfcber 3 Zeilen\n", `{"base64":"` + base64.StdEncoding.EncodeToString([]byte(latin1)) + `"}`},
		"ANSI":    {ansi, "\\x1b[31merror\\x1b[0m: line 7\n", `"\u001b[31merror\u001b[0m: line 7\n"`},
		"cut":     {cut, "aaaaaaaaa\\xc3\n", `{"base64":"` + base64.StdEncoding.EncodeToString([]byte(cut)) + `"}`},
		"marks":   {"a\\b\u202e\u2028é\r\x00", "a\\\\b\\u202e\\u2028é\\r\\x00\n", `"a\\b` + "\u202e" + `\u2028é\r\u0000"`},
	} {
		rs := []*api.TaskResult{{State: "done", Status: "ok", Log: []byte(c.log)}}
		var out bytes.Buffer
		if err := printLogs(&out, true, rs); err != nil || out.String() != c.terminal {
			t.Errorf("%s on a terminal: %q, want %q; %v", name, out.String(), c.terminal, err)
		}
		out.Reset()
		if err := printLogs(&out, false, rs); err != nil || out.String() != c.log {
			t.Errorf("%s in a file: %q, want %q; %v", name, out.String(), c.log, err)
		}
		if b, err := json.Marshal(resultOf("", rs[0]).Log); err != nil || string(b) != c.json {
			t.Errorf("%s in JSON: %s, want %s; %v", name, b, c.json, err)
		}
	}
	var two bytes.Buffer
	if err := printLogs(&two, false, []*api.TaskResult{{Index: 0, Log: []byte("a")}, {Index: 1}, {Index: 2, Log: []byte("b\n")}}); err != nil || two.String() != "log of task 0:\na\nlog of task 2:\nb\n" {
		t.Errorf("logs of several: %q %v", two.String(), err)
	}
}

// TestFailedTasksKeepWhatTheySaid: stdout stays on standard output however a
// task ends, the log never goes there, and only a program has an exit code.
func TestFailedTasksKeepWhatTheySaid(t *testing.T) {
	for _, c := range []struct{ state, status, json string }{
		{"done", "ok", `"exit_code":0`},
		{"failed", "exit-non-zero", `"exit_code":3`},
		{"failed", "trap", ""},
		{"failed", "out-of-fuel", ""},
	} {
		r := &api.TaskResult{State: c.state, Status: c.status, Output: []byte("done\n"), Log: []byte("said\n")}
		if c.status == "exit-non-zero" {
			r.ExitCode = 3
		}
		for _, raw := range []bool{false, true} {
			var out, errs bytes.Buffer
			a := &app{out: &out, err: &errs, format: "table"}
			if err := a.printResults(&api.Job{}, []*api.TaskResult{r}, raw); err != nil || out.String() != "done\n" || errs.String() != "said\n" {
				t.Errorf("%s: stdout %q, stderr %q; %v", c.status, out.String(), errs.String(), err)
			}
		}
		b, err := json.Marshal(resultOf("", r))
		if err != nil || !strings.Contains(string(b), `"output":"done\n"`) || strings.Contains(string(b), "exit_code") != (c.json != "") || !strings.Contains(string(b), c.json) {
			t.Errorf("%s: %s; %v", c.status, b, err)
		}
	}
	var out bytes.Buffer
	a := &app{out: &out, err: &bytes.Buffer{}, format: "table"}
	if err := a.printResults(&api.Job{}, []*api.TaskResult{{State: "failed", Status: "trap"}, {Index: 1, State: "done", Output: []byte("x")}}, false); err != nil || out.String() != "task 0: failed\ntask 1: done\nx\n" {
		t.Errorf("two tasks: %q %v", out.String(), fmt.Sprint(err))
	}
}
