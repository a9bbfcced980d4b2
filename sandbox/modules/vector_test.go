//go:build !js

package modules_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
)

type found struct {
	Index uint32
	Score *float64
}

func search(t *testing.T, payload string) (res struct {
	Results []found
	Batches [][]found
	Scores  [][]*float64
	Vectors [][]*float64
},
) {
	t.Helper()
	return answer(t, "vector_search", payload)
}

func answer(t *testing.T, taskType, payload string) (res struct {
	Results []found
	Batches [][]found
	Scores  [][]*float64
	Vectors [][]*float64
},
) {
	t.Helper()
	in, err := modules.Encode(taskType, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	out := runner(t)(taskType, in)
	if out.Status != proto.StatusOK {
		t.Fatal(out.Status)
	}
	js, err := modules.Decode(taskType, out.Output)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(js, &res); err != nil {
		t.Fatal(err)
	}
	return res
}

func list(hits []found) string {
	var s []string
	for _, h := range hits {
		if h.Score == nil {
			s = append(s, fmt.Sprintf("%d:null", h.Index))
			continue
		}
		s = append(s, fmt.Sprintf("%d:%.4g", h.Index, *h.Score))
	}
	return strings.Join(s, " ")
}

func TestVectorSearchCases(t *testing.T) {
	vectors := `"vectors":[[0,1],[1,1],[2,0],[3,0],[0,0],[-1,0]]`
	for payload, want := range map[string]string{
		`{"query":[1,0],"k":3,` + vectors + `}`:                                            "2:1 3:1 1:0.7071",
		`{"query":[1,0],"k":3,"metric":"dot",` + vectors + `}`:                             "3:3 2:2 1:1",
		`{"query":[1,0],"k":4,"metric":"euclidean",` + vectors + `}`:                       "1:1 2:1 4:1 0:1.414",
		`{"query":[1,0],"k":99,"metric":"dot",` + vectors + `}`:                            "3:3 2:2 1:1 0:0 4:0 5:-1",
		`{"query":[1,0],` + vectors + `}`:                                                  "2:1 3:1 1:0.7071 0:0 4:0 5:-1",
		`{"query":[0,0],"k":2,` + vectors + `}`:                                            "0:0 1:0",
		`{"query":[3e38,3e38],"k":2,"metric":"dot","vectors":[[3e38,-3e38],[0,-1],[1,0]]}`: "2:3e+38 0:0",
	} {
		if got := list(search(t, payload).Results); got != want {
			t.Errorf("%s\n got %s\nwant %s", payload, got, want)
		}
	}
	two := search(t, `{"queries":[[1,0],[0,1]],"k":1,`+vectors+`}`).Batches
	if len(two) != 2 || list(two[0]) != "2:1" || list(two[1]) != "0:1" {
		t.Errorf("two queries: %v", two)
	}
}

func TestVectorsCases(t *testing.T) {
	for payload, want := range map[string]string{
		`{"op":"dot","query":[1,2],"vectors":[[3,4],[0,1]]}`:                 "[[11,2]]",
		`{"op":"euclidean","queries":[[0,0],[3,4]],"vectors":[[3,4]]}`:       "[[5],[0]]",
		`{"op":"cosine","query":[2,0],"vectors":[[5,0],[0,3],[-1,0],[0,0]]}`: "[[1,0,-1,0]]",
	} {
		if got, _ := json.Marshal(answer(t, "vectors", payload).Scores); string(got) != want {
			t.Errorf("%s: %s, want %s", payload, got, want)
		}
	}
	got, _ := json.Marshal(answer(t, "vector", `{"op":"normalise","vectors":[[3,4],[0,0]]}`).Vectors)
	if want := "[[0.6000000238418579,0.800000011920929],[0,0]]"; string(got) != want {
		t.Errorf("normalise: %s, want %s", got, want)
	}
}

// TestVectorSearchAgainstReference compares with sorting in plain Go, over odd
// dimensions and many equal scores.
func TestVectorSearchAgainstReference(t *testing.T) {
	run := runner(t)
	r := rand.New(rand.NewPCG(1, 2))
	for _, dim := range []int{1, 3, 7, 8, 15, 16, 17, 33, 384} {
		for _, metric := range []string{"dot", "cosine", "euclidean"} {
			n, k := 1+r.IntN(300), 1+r.IntN(40)
			vs := make([][]float32, n+1)
			for i := range vs {
				vs[i] = make([]float32, dim)
				for j := range vs[i] {
					vs[i][j] = float32(r.IntN(5) - 2) // small integers: sums are exact
				}
			}
			payload, _ := json.Marshal(map[string]any{"query": vs[n], "vectors": vs[:n], "k": k, "metric": metric})
			in, err := modules.Encode("vector_search", payload)
			if err != nil {
				t.Fatal(err)
			}
			res := run("vector_search", in)
			if res.Status != proto.StatusOK {
				t.Fatal(res.Status)
			}
			score := make([]float32, n)
			order := make([]int, n)
			for i := range n {
				order[i] = i
				score[i] = reference(metric, vs[n], vs[i])
			}
			slices.SortStableFunc(order, func(a, b int) int {
				d := float64(score[b]) - float64(score[a])
				if metric == "euclidean" {
					d = -d
				}
				return int(math.Copysign(math.Ceil(math.Abs(d)), d))
			})
			out := res.Output[12:]
			if want := min(k, n); len(out) != 8*want {
				t.Fatalf("%d bytes for %d hits", len(out), want)
			}
			for i := range min(k, n) {
				index := binary.LittleEndian.Uint32(out[8*i:])
				got := math.Float32frombits(binary.LittleEndian.Uint32(out[8*i+4:]))
				if int(index) != order[i] || got != score[order[i]] {
					t.Fatalf("%s, %d dimensions, hit %d of %d: %d %g, want %d %g", metric, dim, i, k, index, got, order[i], score[order[i]])
				}
			}
		}
	}
}

func reference(metric string, q, v []float32) float32 {
	var dot, qq, vv, dist float64
	for i := range q {
		a, b := float64(q[i]), float64(v[i])
		dot += a * b
		qq += a * a
		vv += b * b
		dist += (a - b) * (a - b)
	}
	switch metric {
	case "euclidean":
		return float32(math.Sqrt(dist))
	case "cosine":
		n := math.Sqrt(qq) * math.Sqrt(vv)
		if n == 0 {
			return 0
		}
		return float32(dot / n)
	}
	return float32(dot)
}

// TestVectorRange: sums neither leave the range of f32 nor vanish in it.
func TestVectorRange(t *testing.T) {
	for file, want := range map[string]string{
		"large.json":  "0:1 2:1 1:0",
		"tiny.json":   "0:1 1:0 2:-1",
		"euclid.json": "1:1 0:5e+20",
	} {
		if got := list(search(t, string(read(t, "testdata", "12-vector-range", file))).Results); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	var in struct {
		Vectors [][]float32 `json:"vectors"`
	}
	raw := read(t, "testdata", "12-vector-range", "normalise.json")
	if err := json.Unmarshal(raw, &in); err != nil {
		t.Fatal(err)
	}
	got := answer(t, "vectors", string(raw)).Vectors
	for i, v := range got {
		if len(v) != 2 || v[0] == nil || v[1] == nil || float32(*v[0]) != 0.6 || float32(*v[1]) != 0.8 {
			t.Errorf("%v normalised: %v, want 0.6 and 0.8", in.Vectors[i], v)
		}
	}
	if len(got) != len(in.Vectors) {
		t.Errorf("%d vectors of %d", len(got), len(in.Vectors))
	}
	run := runner(t)
	for payload, want := range map[string]string{
		`{"query":[3e38],"metric":"dot","vectors":[[1],[3e38]]}`:           "dot: queries[0], vectors[1]: the result does not fit a 32-bit float\n",
		`{"query":[3e38,0],"metric":"euclidean","vectors":[[-3e38,3e38]]}`: "euclidean: queries[0], vectors[0]: the result does not fit a 32-bit float\n",
	} {
		in, err := modules.Encode("vector_search", []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		if res := run("vector_search", in); res.Status != proto.StatusExitNonZero || res.ExitCode != 1 || string(res.Log) != want {
			t.Errorf("%s: %s, exit code %d, log %q, want %q", payload, res.Status, res.ExitCode, res.Log, want)
		}
	}
}

// TestPayloadErrors: what is wrong is said with line and field, before a job
// exists, whatever way the payload came.
func TestPayloadErrors(t *testing.T) {
	for taskType, payloads := range map[string]map[string]string{
		"vector_search": {
			string(read(t, "testdata", "11-vector-null", "null.json")):     "vectors[1][0]: null is not a number",
			string(read(t, "testdata", "11-vector-null", "all-null.json")): "query[0]: null is not a number",
			string(read(t, "testdata", "11-vector-null", "nan.json")):      "query[0]: NaN is not JSON; want a number",
			`{"query":[1,-Infinity],"vectors":[[1,2]]}`:                    "query[1]: -Infinity is not JSON; want a number",
			`{"query":[1,2],"vectors":[[1,2],[1,"2"]]}`:                    `vectors[1][1]: "2" is not a number`,
			`{"query":[1,2],"vectors":[[1,2],[1,[2]]]}`:                    `vectors[1][1]: a list is not a number`,
			`{"query":[1e99],"vectors":[[1]]}`:                             "query[0]: 1e99 does not fit a 32-bit float",
			"":                                                             "the JSON ends where an object should stand",
			"null":                                                         "null is not an object",
			"[]":                                                           "a list is not an object",
			"{}":                                                           "vectors: missing",
			`{"query":[1],"vectors":[]}`:                                   "vectors: missing",
			`{"vectors":[[1]]}`:                                            "query: missing",
			`{"query":null,"vectors":[[1]]}`:                               "query: null is not a list of numbers",
			`{"query":[1],"vectors":[null]}`:                               "vectors[0]: null is not a list of numbers",
			`{"query":[1],"vectors":[[]]}`:                                 "vectors[0]: 0 dimensions",
			`{"query":[1,2],"vectors":[[1]]}`:                              "query: 2 dimensions, vectors[0] has 1",
			`{"query":[1],"vectors":[[1],[1,2]]}`:                          "vectors[1]: 2 dimensions, vectors[0] has 1",
			`{"query":[1],"vectors":[[1]],"metric":"manhattan"}`:           `metric: "manhattan"; want dot, cosine or euclidean`,
			`{"query":[1],"vectors":[[1]],"metric":1}`:                     `metric: 1 is not a string`,
			`{"query":[1],"vectors":[[1]],"k":-1}`:                         "k: -1 is not a whole number from 0 to 4294967295",
			`{"query":[1],"vectors":[[1]],"k":null}`:                       "k: null is not a number",
			`{"query":[1],"vectors":[[1]],"k":0}`:                          "k: 0 asks for no result; want 1 or more, or leave it out for 10",
			`{"query":[1],"vectors":[[1]],"colour":1}`:                     "colour: is no field of vector_search; there are query, queries, vectors, k and metric",
			`{"query":[1],"Query":[1],"vectors":[[1]]}`:                    "Query: is no field of vector_search",
			`{"query":[1],"query":[1],"vectors":[[1]]}`:                    "query: is given twice",
			`{"query":[1],"vectors":[[1]]} {}`:                             "an object stands behind the end",
			`{"query":[1],"vectors":[[1]]}]`:                               "there is more behind the end",
			`{"query":[1],"vectors":[[1]`:                                  "vectors: the JSON ends where ] or an item should stand",
			`{"query":[1],"vectors":[[1]],"op":"dot"}`:                     "op: belongs to task type vectors",
			"{\n\"query\":[1,2],\n\"vectors\":[\n[1,2],\n[3,nil]]}":        "line 5: vectors[1][1]: nil is not JSON; want a number",
		},
		"vectors": {
			`{"query":[1],"vectors":[[1]]}`:                  `op: ""; want dot, cosine, euclidean or normalise`,
			`{"op":"normalise","query":[1],"vectors":[[1]]}`: "query: normalise takes vectors only",
			`{"op":"dot","query":[1],"vectors":[[1]],"k":1}`: "k, metric: belong to task type vector_search",
		},
		"text": {
			"gut\nB\xe4ckerei": "line 2: byte 0xe4 is not UTF-8",
			"\xff\xfea\x00":    "line 1: byte 0xff is not UTF-8",
		},
	} {
		for p, want := range payloads {
			for what, encode := range map[string]func(string, []byte) ([]byte, error){"file": modules.Encode, "input": modules.Input, "value": modules.EncodeValue} {
				if what == "value" && (taskType == "text" || p == "" || p == "null") {
					continue
				}
				_, err := encode(taskType, []byte(p))
				if code := proto.CodeOf(err); code != proto.CodeMalformed || !strings.Contains(err.Error(), "payload of "+taskType+": "+want) {
					t.Errorf("%s of %s %q: %v, want %q", what, taskType, p, err, want)
				}
			}
		}
	}
	for value, want := range map[string]string{
		"": "missing", "null": "missing", "42": "42 is not a text", `["a"]`: "a list is not a text", `{}`: "text: is missing", `{"text":null}`: "text: null is not a string",
		`{"text":"a","b":1}`: "b: is no field of a text", `"a" "b"`: `"b" stands behind the end`,
	} {
		if _, err := modules.EncodeValue("text", []byte(value)); err == nil || !strings.Contains(err.Error(), "payload of text: "+want) {
			t.Errorf("text value %s: %v, want %q", value, err, want)
		}
	}
	for value, want := range map[string]string{`"a b"`: "a b", ` {"text":"caf\u00e9"} `: "café", `"\ufeffx"`: "x", `""`: ""} {
		if in, err := modules.EncodeValue("text", []byte(value)); err != nil || string(in) != want {
			t.Errorf("text value %s: %q %v, want %q", value, in, err, want)
		}
	}
	if _, err := modules.Encode("juggling", nil); proto.CodeOf(err) != proto.CodeType {
		t.Errorf("unknown type: %v", err)
	}
}

// TestPayloadForms: a file with a byte-order mark, Go's own types and what is
// encoded already are one input; what is encoded wrongly is none.
func TestPayloadForms(t *testing.T) {
	const payload = `{"query":[1,2],"queries":[[5,6]],"vectors":[[1,2],[3,4]],"k":3,"metric":"dot"}`
	k := uint32(3)
	typed := modules.Vectors{Query: []float32{1, 2}, Queries: [][]float32{{5, 6}}, Vectors: [][]float32{{1, 2}, {3, 4}}, K: &k, Metric: "dot"}
	want, err := modules.Encode("vector_search", []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	for name, encode := range map[string]func() ([]byte, error){
		"byte-order mark": func() ([]byte, error) { return modules.Encode("vector_search", []byte("\ufeff"+payload)) },
		"Go":              func() ([]byte, error) { return modules.EncodeVectors("vector_search", typed) },
		"payload":         func() ([]byte, error) { return modules.Input("vector_search", []byte(payload)) },
		"encoded":         func() ([]byte, error) { return modules.Input("vector_search", want) },
	} {
		if got, err := encode(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %x %v, want %x", name, got, err, want)
		}
	}
	for where, x := range map[string]float32{"vectors[1][0]": float32(math.NaN()), "queries[0][1]": float32(math.Inf(-1)), "query[0]": float32(math.Inf(1))} {
		bad := typed
		bad.Query, bad.Queries, bad.Vectors = []float32{1, 2}, [][]float32{{5, 6}}, [][]float32{{1, 2}, {3, 4}}
		at := map[string]*float32{"vectors[1][0]": &bad.Vectors[1][0], "queries[0][1]": &bad.Queries[0][1], "query[0]": &bad.Query[0]}[where]
		*at = x
		if _, err := modules.EncodeVectors("vector_search", bad); err == nil || !strings.Contains(err.Error(), where+": ") {
			t.Errorf("%v: %v, want %s", x, err, where)
		}
	}
	for at, where := range map[int]string{28: "queries[0][0]", 40: "queries[1][1]", 44: "vectors[0][0]", 56: "vectors[1][1]"} {
		bad := slices.Clone(want)
		binary.LittleEndian.PutUint32(bad[at:], 0x7fc00000)
		if _, err := modules.Input("vector_search", bad); err == nil || !strings.Contains(err.Error(), where+": not a finite number") {
			t.Errorf("NaN at byte %d: %v, want %s", at, err, where)
		}
	}
	for cut := range want {
		if _, err := modules.Input("vector_search", want[:cut]); err == nil {
			t.Errorf("%d of %d encoded bytes were taken", cut, len(want))
		}
	}
	if _, err := modules.Input("vectors", want); err == nil {
		t.Error("a search was taken for vectors")
	}
}

// FuzzInput: what Input accepts the module accepts, unless a result does not
// fit.
func FuzzInput(f *testing.F) {
	run := runner(f)
	f.Add("vector_search", []byte(`{"query":[1,2],"vectors":[[1,2]],"k":1}`))
	f.Add("vectors", []byte("\ufeff{\"op\":\"normalise\",\"vectors\":[[1e-45]]}"))
	f.Add("text", []byte("Ünïcödé's \u200d\u2139 words"))
	f.Fuzz(func(t *testing.T, taskType string, payload []byte) {
		in, err := modules.Input(taskType, payload)
		if err != nil {
			if c := proto.CodeOf(err); c != proto.CodeMalformed && c != proto.CodeType && c != proto.CodeTooLarge {
				t.Errorf("error without a code: %v", err)
			}
			return
		}
		if again, err := modules.Input(taskType, in); err != nil || !slices.Equal(again, in) {
			t.Errorf("encoded twice: %x, then %x, %v", in, again, err)
		}
		res := run(proto.CanonicalType(taskType), in)
		if res.Status != proto.StatusOK && !strings.Contains(string(res.Log), "does not fit") {
			t.Fatalf("%q: %s", in, res.Status)
		}
		if res.Status == proto.StatusOK {
			if _, err := modules.Decode(taskType, res.Output); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestModuleTraps: the module itself takes nothing that is malformed either.
func TestModuleTraps(t *testing.T) {
	run := runner(t)
	good, err := modules.Encode("vector_search", []byte(`{"query":[1,2],"vectors":[[1,2],[3,4]]}`))
	if err != nil {
		t.Fatal(err)
	}
	for at := range 24 {
		bad := slices.Clone(good)
		bad[at] ^= 0x40
		if res := run("vector_search", bad); at < 4 && res.Status != proto.StatusTrap {
			t.Errorf("byte %d changed: %s", at, res.Status)
		}
	}
	for cut := range good {
		if res := run("vector_search", good[:cut]); res.Status != proto.StatusTrap {
			t.Errorf("%d of %d bytes: %s", cut, len(good), res.Status)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("text", []byte("a\t1\nb\t22\n"))
	f.Add("vector_search", []byte("\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x07\x00\x00\x00\x00\x00\x80\x3f"))
	f.Add("vectors", []byte("\x02\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\xc0\x7f"))
	f.Add("vectors", []byte("\x03\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, taskType string, out []byte) {
		js, err := modules.Decode(taskType, out)
		if err == nil && !json.Valid(js) {
			t.Errorf("not JSON: %q", js)
		}
		if c := proto.CodeOf(err); err != nil && c != proto.CodeMalformed && c != proto.CodeType {
			t.Errorf("error without a code: %v", err)
		}
	})
}

func TestTypes(t *testing.T) {
	if got := strings.Join(modules.Types(), " "); got != "text vector_search vectors" {
		t.Errorf("types %s", got)
	}
	for _, ty := range append(modules.Types(), "vector") {
		b, ok := modules.Lookup(ty)
		if !ok || b.Type != proto.CanonicalType(ty) || b.ID != proto.CIDOf(b.Raw) {
			t.Errorf("%s: %v %v", ty, b.Type, b.ID)
		}
	}
	if _, ok := modules.Lookup("juggling"); ok {
		t.Error("found a module for juggling")
	}
}
