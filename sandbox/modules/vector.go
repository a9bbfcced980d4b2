package modules

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"edgenet.dev/proto"
)

// Header of the vector module's input; see src/vector.c.
const (
	vectorMagic  = 0x31564e45
	vectorHead   = 28
	opSearch     = 1
	opScore      = 2
	opNormalise  = 3
	maxDimension = 65_536
	maxQueries   = 65_536
)

var metrics = map[string]uint32{"dot": 0, "cosine": 1, "euclidean": 2}

// Vectors is the payload of the two vector types. VectorSearch takes Query or
// Queries, Vectors, K (10 when nil) and Metric (dot, cosine or euclidean; cosine
// when empty). TypeVectors takes Op: dot, cosine and euclidean score every query
// against every vector, normalise needs Vectors only.
type Vectors struct {
	Op      string
	Metric  string
	Query   []float32 // comes before Queries
	Queries [][]float32
	Vectors [][]float32
	K       *uint32
}

var vectorFields = map[string]string{
	proto.TypeVectorSearch: "query, queries, vectors, k and metric",
	proto.TypeVectors:      "op, query, queries and vectors",
}

func readVectors(taskType string, payload []byte) (p Vectors, err error) {
	d := newDocument(payload)
	err = d.object(func(name string) (err error) {
		switch name {
		case "op":
			p.Op, err = d.text(name)
		case "metric":
			p.Metric, err = d.text(name)
		case "query":
			p.Query, err = d.vector(name)
		case "queries":
			p.Queries, err = d.vectors(name)
		case "vectors":
			p.Vectors, err = d.vectors(name)
		case "k":
			var k uint32
			k, err = d.count(name)
			p.K = &k
			if err == nil && k == 0 {
				err = d.refuse(name, "0 asks for no result; want 1 or more, or leave it out for 10")
			}
		default:
			err = d.refuse(shown([]byte(name)), "is no field of %s; there are %s", taskType, vectorFields[taskType])
		}
		return err
	})
	return p, err
}

func vectorEncoder(taskType string) func(payload []byte) ([]byte, error) {
	return func(payload []byte) ([]byte, error) {
		p, err := readVectors(taskType, payload)
		if err != nil {
			return nil, err
		}
		return p.encode(taskType)
	}
}

// EncodeVectors is Encode for a payload in Go's types: the input of a task of
// type taskType. Its errors name the field too.
func EncodeVectors(taskType string, p Vectors) ([]byte, error) {
	taskType = proto.CanonicalType(taskType)
	if vectorFields[taskType] == "" {
		return nil, proto.CodeType.Errorf("task type %q takes no vectors", taskType)
	}
	in, err := p.encode(taskType)
	if err != nil {
		return nil, fmt.Errorf("payload of %s: %w", taskType, err)
	}
	return in, nil
}

func (p Vectors) encode(taskType string) ([]byte, error) {
	if taskType == proto.TypeVectorSearch {
		if p.Op != "" {
			return nil, proto.CodeMalformed.Errorf("op: belongs to task type vectors; give metric")
		}
		metric, k := p.Metric, uint32(10)
		if metric == "" {
			metric = "cosine"
		}
		if p.K != nil {
			k = *p.K
		}
		return p.write("metric", opSearch, metric, k)
	}
	switch {
	case p.K != nil || p.Metric != "":
		return nil, proto.CodeMalformed.Errorf("k, metric: belong to task type vector_search; give op")
	case p.Op != "normalise" && p.Op != "normalize":
		return p.write("op", opScore, p.Op, 0)
	case p.Query != nil || p.Queries != nil:
		return nil, proto.CodeMalformed.Errorf("query: normalise takes vectors only")
	}
	return p.write("op", opNormalise, "dot", 0)
}

// write is the one place where vectors become a module's input.
func (p Vectors) write(field string, op uint32, metric string, k uint32) ([]byte, error) {
	m, ok := metrics[metric]
	if !ok {
		want := "dot, cosine or euclidean"
		if field == "op" {
			want = "dot, cosine, euclidean or normalise"
		}
		return nil, proto.CodeMalformed.Errorf("%s: %q; want %s", field, metric, want)
	}
	if len(p.Vectors) == 0 {
		return nil, proto.CodeMalformed.Errorf("vectors: missing; want a list of vectors")
	}
	type named struct {
		path string
		v    []float32
	}
	var all []named
	if p.Query != nil {
		all = append(all, named{"query", p.Query})
	}
	for i, v := range p.Queries {
		all = append(all, named{"queries[" + strconv.Itoa(i) + "]", v})
	}
	queries := len(all)
	if op != opNormalise && queries == 0 {
		return nil, proto.CodeMalformed.Errorf("query: missing; want a list of numbers")
	}
	if queries > maxQueries {
		return nil, proto.CodeMalformed.Errorf("queries: %d, at most %d", queries, maxQueries)
	}
	dim := len(p.Vectors[0])
	if dim == 0 || dim > maxDimension {
		return nil, proto.CodeMalformed.Errorf("vectors[0]: %d dimensions, want 1 to %d", dim, maxDimension)
	}
	size := vectorHead + 4*dim*(queries+len(p.Vectors))
	if size > proto.MaxInput {
		return nil, proto.CodeTooLarge.Errorf("vectors: %d bytes with the queries, at most %d: split them", size, proto.MaxInput)
	}
	for i, v := range p.Vectors {
		all = append(all, named{"vectors[" + strconv.Itoa(i) + "]", v})
	}
	le := binary.LittleEndian
	b := make([]byte, 0, size)
	for _, v := range []uint32{vectorMagic, op, m, uint32(dim), uint32(queries), uint32(len(p.Vectors)), k} {
		b = le.AppendUint32(b, v)
	}
	for _, n := range all {
		if len(n.v) != dim {
			return nil, proto.CodeMalformed.Errorf("%s: %d dimensions, vectors[0] has %d", n.path, len(n.v), dim)
		}
		for i, x := range n.v {
			if bits := math.Float32bits(x); bits&infinity == infinity {
				return nil, proto.CodeMalformed.Errorf("%s[%d]: %v is not a finite number", n.path, i, x)
			}
			b = le.AppendUint32(b, math.Float32bits(x))
		}
	}
	return b, nil
}

// infinity are the bits that an infinite f32 and a NaN have in common.
const infinity = 0x7f800000

// checkVectors checks an input that is encoded already: everything that write
// would have.
func checkVectors(taskType string, in []byte) error {
	le := binary.LittleEndian
	if len(in) < vectorHead {
		return proto.CodeMalformed.Errorf("an encoded input of %d bytes, its head has %d", len(in), vectorHead)
	}
	var h [7]uint32
	for i := range h {
		h[i] = le.Uint32(in[4*i:])
	}
	op, metric, dim, queries, vectors := h[1], h[2], uint64(h[3]), uint64(h[4]), uint64(h[5])
	switch {
	case (op == opSearch) != (taskType == proto.TypeVectorSearch) || op < opSearch || op > opNormalise:
		return proto.CodeMalformed.Errorf("an encoded input with operation %d", op)
	case metric > metrics["euclidean"]:
		return proto.CodeMalformed.Errorf("an encoded input with metric %d", metric)
	case dim == 0 || dim > maxDimension || queries > maxQueries || vectors == 0 || (queries == 0) != (op == opNormalise):
		return proto.CodeMalformed.Errorf("an encoded input of %d queries and %d vectors with %d dimensions", queries, vectors, dim)
	}
	items := in[vectorHead:]
	if 4*dim*(queries+vectors) != uint64(len(items)) {
		return proto.CodeMalformed.Errorf("an encoded input of %d bytes, its head asks for %d", len(in), vectorHead+4*dim*(queries+vectors))
	}
	for i := 0; i < len(items); i += 4 {
		if le.Uint32(items[i:])&infinity != infinity {
			continue
		}
		at, list := uint64(i/4)/dim, "queries"
		if at >= queries {
			at, list = at-queries, "vectors"
		}
		return proto.CodeMalformed.Errorf("%s[%d][%d]: not a finite number", list, at, uint64(i/4)%dim)
	}
	return nil
}

// hit is one found vector. A score that JSON cannot spell is null; the module
// gives none.
type hit struct {
	Index uint32   `json:"index"`
	Score *float64 `json:"score"`
}

func number(b []byte) *float64 {
	f := float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil
	}
	return &f
}

// decodeVector gives {"results":[hit…]} for one query, {"batches":[[hit…]…]}
// for several, {"scores":[[…]…]} or {"vectors":[[…]…]}.
func decodeVector(output []byte) (json.RawMessage, error) {
	le := binary.LittleEndian
	if len(output) < 12 {
		return nil, proto.CodeMalformed.Errorf("%d bytes, want at least 12", len(output))
	}
	op, rows, columns := le.Uint32(output), le.Uint32(output[4:]), le.Uint32(output[8:])
	items := output[12:]
	size := uint64(4)
	if op == opSearch {
		size = 8
	}
	// rows without columns would loop without bytes behind them.
	if op < opSearch || op > opNormalise || rows > maxQueries && op != opNormalise || rows > proto.MaxInput ||
		uint64(rows)*uint64(columns)*size != uint64(len(items)) || columns == 0 && rows > maxQueries {
		return nil, proto.CodeMalformed.Errorf("op %d with %d × %d items in %d bytes", op, rows, columns, len(items))
	}
	if op == opSearch {
		batches := make([][]hit, rows)
		for r := range batches {
			batches[r] = make([]hit, columns)
			for c := range batches[r] {
				batches[r][c] = hit{le.Uint32(items), number(items[4:])}
				items = items[8:]
			}
		}
		if rows == 1 {
			return json.Marshal(map[string]any{"results": batches[0]})
		}
		return json.Marshal(map[string]any{"batches": batches})
	}
	table := make([][]*float64, rows)
	for r := range table {
		table[r] = make([]*float64, columns)
		for c := range table[r] {
			table[r][c] = number(items)
			items = items[4:]
		}
	}
	name := "scores"
	if op == opNormalise {
		name = "vectors"
	}
	return json.Marshal(map[string]any{name: table})
}
