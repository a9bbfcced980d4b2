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
		`{"query":[1,0],"k":0,` + vectors + `}`:                                            "",
		`{"query":[0,0],"k":2,` + vectors + `}`:                                            "0:0 1:0",
		`{"query":[3e38],"k":3,"metric":"dot","vectors":[[1],[3e38],[-3e38]]}`:             "1:null 0:3e+38 2:null",
		`{"query":[3e38,3e38],"k":2,"metric":"dot","vectors":[[3e38,-3e38],[0,-1],[1,1]]}`: "2:null 1:-3e+38",
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
			n, k := 1+r.IntN(300), r.IntN(40)
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
	var dot, qq, vv, dist float32
	for i := range q {
		dot += q[i] * v[i]
		qq += q[i] * q[i]
		vv += v[i] * v[i]
		dist += (q[i] - v[i]) * (q[i] - v[i])
	}
	root := func(x float32) float32 { return float32(math.Sqrt(float64(x))) }
	switch metric {
	case "euclidean":
		return root(dist)
	case "cosine":
		n := root(qq) * root(vv)
		if n == 0 {
			return 0
		}
		return dot / n
	}
	return dot
}

func TestVectorRefusals(t *testing.T) {
	for taskType, payloads := range map[string][]string{
		"vector_search": {
			"", "{}", "[]", `{"query":[1],"vectors":[]}`, `{"vectors":[[1]]}`, `{"query":[1,2],"vectors":[[1]]}`,
			`{"query":[1],"vectors":[[1],[1,2]]}`, `{"query":[1],"vectors":[[1]],"metric":"manhattan"}`, `{"query":[1],"vectors":[[1]],"k":-1}`,
			`{"query":[1],"vectors":[[1]],"colour":1}`, `{"query":[1],"vectors":[[1]]} {}`, `{"query":[1],"vectors":[[1]],"op":"dot"}`, `{"query":[1e99],"vectors":[[1]]}`,
		},
		"vectors": {`{"query":[1],"vectors":[[1]]}`, `{"op":"normalise","query":[1],"vectors":[[1]]}`, `{"op":"dot","query":[1],"vectors":[[1]],"k":1}`},
	} {
		for _, p := range payloads {
			if _, err := modules.Encode(taskType, []byte(p)); proto.CodeOf(err) != proto.CodeMalformed {
				t.Errorf("%s %s: %v", taskType, p, err)
			}
		}
	}
	if _, err := modules.Encode("juggling", nil); proto.CodeOf(err) != proto.CodeType {
		t.Errorf("unknown type: %v", err)
	}
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
