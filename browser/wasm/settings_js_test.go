package main

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"regexp"
	"strings"
	"syscall/js"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
)

// fields of an interface of boundary.ts, so that none can be added without a
// row below.
func fields(t *testing.T, name string) []string {
	t.Helper()
	raw, err := os.ReadFile("../ts/src/boundary.ts")
	if err != nil {
		t.Fatal(err)
	}
	body := regexp.MustCompile(`(?s)interface ` + name + ` \{(.*?)\n\}`).FindSubmatch(raw)
	if body == nil {
		t.Fatalf("boundary.ts has no %s", name)
	}
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^  (\w+)\??: `).FindAllSubmatch(body[1], -1) {
		out = append(out, string(m[1]))
	}
	return out
}

func account(t *testing.T, b byte) peer.ID {
	t.Helper()
	key, err := keyOf(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func network(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := goproto.Marshal(&proto.Genesis{Name: name, Nonce: make([]byte, 16), Witnesses: [][]byte{[]byte(account(t, 9))}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func texts(s ...string) []any {
	out := make([]any, len(s))
	for i, v := range s {
		out[i] = v
	}
	return out
}

type started struct {
	cfg node.Config
	w   market.Worker
}

// Each field of what a page starts its node with changes what it names.
func TestEverySettingOfAPageArrives(t *testing.T) {
	base := map[string]any{
		"genesis": uint8Array(network(t, "one")), "seed": uint8Array(bytes.Repeat([]byte{1}, 32)), "bootstrap": texts("/a"),
		"db": "one", "site": "one", "payee": account(t, 1).String(), "types": texts("text"), "slots": 1, "memory": 1 << 20, "taskPercent": 10,
		"bandwidth": 1000, "work": false,
	}
	start := func(t *testing.T, key string, value any) started {
		t.Helper()
		o := map[string]any{}
		for k, v := range base {
			o[k] = v
		}
		o[key] = value
		cfg, w, err := startOf(&object{v: js.ValueOf(o)})
		if err != nil {
			t.Fatal(err)
		}
		return started{cfg, w}
	}
	rows := map[string]struct {
		value any
		get   func(started) any
		want  any
	}{
		"genesis":     {uint8Array(network(t, "two")), func(s started) any { return s.cfg.Network.Genesis.GetName() }, "two"},
		"seed":        {uint8Array(bytes.Repeat([]byte{2}, 32)), func(s started) any { id, _ := peer.IDFromPrivateKey(s.cfg.Key); return id }, account(t, 2)},
		"bootstrap":   {texts("/b", "/c"), func(s started) any { return s.cfg.Bootstrap }, []string{"/b", "/c"}},
		"db":          {"two", func(s started) any { return s.cfg.Dir }, "two"},
		"site":        {"two", func(s started) any { return s.w.Site }, "two"},
		"payee":       {account(t, 2).String(), func(s started) any { return s.w.Payee }, account(t, 2)},
		"types":       {texts("custom", "vectors"), func(s started) any { return [2]any{s.w.Types, s.w.Custom} }, [2]any{[]string{proto.CanonicalType("vectors")}, true}},
		"slots":       {3, func(s started) any { return s.w.Slots }, 3},
		"memory":      {2 << 20, func(s started) any { return s.w.MaxMemory }, uint64(2 << 20)},
		"taskPercent": {20, func(s started) any { return s.w.CPU }, 20},
		"bandwidth":   {2000, func(s started) any { return s.cfg.Bandwidth }, uint64(2000)},
		"work":        {true, func(s started) any { return s.w.Enabled }, true},
	}
	for _, key := range fields(t, "StartConfig") {
		row, ok := rows[key]
		if !ok {
			t.Errorf("%s has no test of its effect", key)
			continue
		}
		delete(rows, key)
		if got := row.get(start(t, key, row.value)); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %v, want %v", key, got, row.want)
		}
		if got := row.get(start(t, key, base[key])); reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: is %v whatever the page says", key, got)
		}
	}
	for key := range rows {
		t.Errorf("%s is no field of a page", key)
	}
	// What a page cannot choose: a tab asks relays, listens nowhere and keeps a light ledger.
	if s := start(t, "slots", 1); !s.cfg.Light || s.cfg.Listen == nil || len(s.cfg.Listen) != 0 || s.cfg.DHT != "ask" || s.cfg.Reachability != "private" {
		t.Errorf("a tab is %+v", s.cfg)
	}
}

func TestSettingsOfAPageAreChecked(t *testing.T) {
	good := map[string]any{"genesis": uint8Array(network(t, "one")), "seed": uint8Array(make([]byte, 32)), "types": texts("text")}
	for _, bad := range []struct {
		key, code string
		value     any
	}{
		{"genesis", "BAD_CONFIG", uint8Array([]byte("none"))},
		{"genesis", "BAD_CONFIG", "text"},
		{"seed", "BAD_KEY", uint8Array(make([]byte, 31))},
		{"payee", "BAD_CONFIG", "somebody"},
		{"types", "BAD_CONFIG", texts("unknown")},
		{"types", "BAD_CONFIG", []any{1}},
		{"slots", "BAD_CONFIG", maxSlots + 1},
		{"slots", "BAD_CONFIG", -1},
		{"memory", "BAD_CONFIG", "1"},
		{"taskPercent", "BAD_CONFIG", 101},
		{"bandwidth", "BAD_CONFIG", 1 << 53},
		{"db", "BAD_CONFIG", 1},
		{"site", "BAD_CONFIG", 1},
		{"bootstrap", "BAD_CONFIG", "text"},
	} {
		o := map[string]any{}
		for k, v := range good {
			o[k] = v
		}
		o[bad.key] = bad.value
		if _, _, err := startOf(&object{v: js.ValueOf(o)}); err == nil || codeOf(err) != bad.code {
			t.Errorf("%s %v: %v", bad.key, bad.value, err)
		}
	}
	if _, _, err := startOf(&object{v: js.ValueOf(good)}); err != nil {
		t.Error(err)
	}
}

// Limits that a page changes while its node runs.
func TestLimitsOfAPageArrive(t *testing.T) {
	before := market.Worker{Slots: 2, CPU: 50, Site: "a site", Types: []string{"text"}}
	apply := func(o map[string]any) market.Worker {
		f, err := limitsOf(&object{v: js.ValueOf(o)})
		if err != nil {
			t.Fatal(err)
		}
		w := before
		f(&w)
		return w
	}
	slots, cpu := before, before
	slots.Slots, cpu.CPU = 3, 70
	for want, got := range map[*market.Worker]market.Worker{
		&slots: apply(map[string]any{"slots": 3}), &cpu: apply(map[string]any{"taskPercent": 70}), &before: apply(map[string]any{}),
	} {
		if !reflect.DeepEqual(got, *want) {
			t.Errorf("%+v, want %+v", got, *want)
		}
	}
	if _, err := limitsOf(&object{v: js.ValueOf(map[string]any{"slots": "3"})}); codeOf(err) != "BAD_CONFIG" {
		t.Error(err)
	}
}

// Each option of a submitted job, and each field of its tasks, arrives at the
// node.
func TestEveryOptionOfASubmissionArrives(t *testing.T) {
	module := uint8Array([]byte{1, 2})
	ask := func(t *testing.T, job, task map[string]any) node.JobSpec {
		t.Helper()
		task["module"] = module
		o := map[string]any{"tasks": []any{task}}
		for k, v := range job {
			o[k] = v
		}
		parts, opt, total, err := requested([]js.Value{js.ValueOf(o)})
		if err != nil || len(parts) != 1 || total != 1 {
			t.Fatal(parts, total, err)
		}
		if opt != parts[0].spec.Options {
			t.Errorf("the budget is shared by %+v, the job has %+v", opt, parts[0].spec.Options)
		}
		return parts[0].spec
	}
	options := map[string]struct {
		value any
		want  market.Options
	}{
		"redundancy":     {3, market.Options{Redundancy: 3}},
		"maxMicro":       {"7000000", market.Options{MaxCredits: 7_000_000}},
		"priority":       {2, market.Options{Priority: proto.PriorityHigh}},
		"timeoutMs":      {70_000, market.Options{Timeout: 70 * time.Second}},
		"runTimeoutMs":   {7_000, market.Options{Run: 7 * time.Second}},
		"queueTimeoutMs": {9_000, market.Options{Queue: 9 * time.Second}},
		"fuelLimit":      {"777", market.Options{Fuel: 777}},
	}
	for _, key := range fields(t, "GoJob") {
		if key == "tasks" {
			continue // below
		}
		row, ok := options[key]
		if !ok {
			t.Errorf("%s has no test of its effect", key)
			continue
		}
		if got := ask(t, map[string]any{key: row.value}, map[string]any{}).Options; got != row.want {
			t.Errorf("%s: %+v, want %+v", key, got, row.want)
		}
	}
	payload, err := modules.EncodeValue("text", []byte(`"one two"`))
	if err != nil {
		t.Fatal(err)
	}
	input := uint8Array([]byte{3})
	tasks := map[string]struct {
		task map[string]any
		want node.JobSpec
	}{
		"type":    {map[string]any{"type": "text", "input": input}, node.JobSpec{Type: "text", Inputs: [][]byte{{3}}}},
		"module":  {map[string]any{"module": module, "input": input}, node.JobSpec{Module: []byte{1, 2}, Inputs: [][]byte{{3}}}},
		"input":   {map[string]any{"type": "text", "input": input}, node.JobSpec{Type: "text", Inputs: [][]byte{{3}}}},
		"payload": {map[string]any{"type": "text", "payload": `"one two"`}, node.JobSpec{Type: "text", Inputs: [][]byte{payload}}},
	}
	for _, key := range fields(t, "GoTask") {
		row, ok := tasks[key]
		if !ok {
			t.Errorf("%s has no test of its effect", key)
			continue
		}
		parts, err := partsOf([]js.Value{js.ValueOf(row.task)})
		if err != nil || len(parts) != 1 {
			t.Fatal(key, parts, err)
		}
		if !reflect.DeepEqual(parts[0].spec, row.want) {
			t.Errorf("%s: %+v, want %+v", key, parts[0].spec, row.want)
		}
	}
}

// Tasks of one module are one job, and each remembers its place.
func TestTasksOfOneModuleAreOneJob(t *testing.T) {
	task := func(typ string, in byte) js.Value {
		return js.ValueOf(map[string]any{"type": typ, "input": uint8Array([]byte{in})})
	}
	parts, err := partsOf([]js.Value{task("text", 1), task("vectors", 2), task("text", 3)})
	if err != nil || len(parts) != 2 {
		t.Fatal(parts, err)
	}
	if !reflect.DeepEqual(parts[0].at, []int{0, 2}) || !reflect.DeepEqual(parts[0].spec.Inputs, [][]byte{{1}, {3}}) || !reflect.DeepEqual(parts[1].at, []int{1}) {
		t.Errorf("%+v %+v", parts[0], parts[1])
	}
	_, err = partsOf(nil)
	var coded *codeError
	if !errors.As(err, &coded) || !strings.Contains(coded.text, "tasks") {
		t.Error(err)
	}
}
