package modules

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"

	"edgenet.dev/proto"
)

// Header of the vector module's input; see src/vector.c.
const (
	vectorMagic  = 0x31564e45
	opSearch     = 1
	opScore      = 2
	opNormalise  = 3
	maxDimension = 65_536
	maxQueries   = 65_536
)

var metrics = map[string]uint32{"dot": 0, "cosine": 1, "euclidean": 2}

// vectorPayload is what people write. Search takes query or queries, vectors,
// k (10 unless given) and metric (cosine unless given). Vectors takes op: dot,
// cosine or euclidean score every query against every vector; normalise needs
// vectors only.
type vectorPayload struct {
	Op      string      `json:"op,omitempty"`
	Metric  string      `json:"metric,omitempty"`
	Query   []float32   `json:"query,omitempty"`
	Queries [][]float32 `json:"queries,omitempty"`
	Vectors [][]float32 `json:"vectors"`
	K       *uint32     `json:"k,omitempty"`
}

func readVectorPayload(payload []byte) (p vectorPayload, err error) {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, proto.CodeMalformed.Errorf("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return p, proto.CodeMalformed.Errorf("more than one JSON value")
	}
	if p.Query != nil {
		p.Queries = append([][]float32{p.Query}, p.Queries...)
	}
	return p, nil
}

func encodeSearch(payload []byte) ([]byte, error) {
	p, err := readVectorPayload(payload)
	if err != nil {
		return nil, err
	}
	if p.Op != "" {
		return nil, proto.CodeMalformed.Errorf("op belongs to task type vectors")
	}
	if p.Metric == "" {
		p.Metric = "cosine"
	}
	k := uint32(10)
	if p.K != nil {
		k = *p.K
	}
	return encodeVector(opSearch, p.Metric, k, p)
}

func encodeVectors(payload []byte) ([]byte, error) {
	p, err := readVectorPayload(payload)
	if err != nil {
		return nil, err
	}
	if p.K != nil || p.Metric != "" {
		return nil, proto.CodeMalformed.Errorf("k and metric belong to task type vector_search; give op")
	}
	if p.Op == "normalise" || p.Op == "normalize" {
		if len(p.Queries) > 0 {
			return nil, proto.CodeMalformed.Errorf("normalise takes vectors only")
		}
		return encodeVector(opNormalise, "dot", 0, p)
	}
	return encodeVector(opScore, p.Op, 0, p)
}

func encodeVector(op uint32, metric string, k uint32, p vectorPayload) ([]byte, error) {
	m, ok := metrics[metric]
	if !ok {
		return nil, proto.CodeMalformed.Errorf("metric %q: want dot, cosine or euclidean", metric)
	}
	if len(p.Vectors) == 0 {
		return nil, proto.CodeMalformed.Errorf("no vectors")
	}
	if op != opNormalise && len(p.Queries) == 0 {
		return nil, proto.CodeMalformed.Errorf("no query")
	}
	dim := len(p.Vectors[0])
	if dim == 0 || dim > maxDimension || len(p.Queries) > maxQueries {
		return nil, proto.CodeMalformed.Errorf("%d dimensions and %d queries, want 1 to %d and at most %d", dim, len(p.Queries), maxDimension, maxQueries)
	}
	size := 28 + 4*dim*(len(p.Queries)+len(p.Vectors))
	if size > proto.MaxInput {
		return nil, proto.CodeTooLarge.Errorf("%d bytes, at most %d: split the vectors", size, proto.MaxInput)
	}
	le := binary.LittleEndian
	b := make([]byte, 0, size)
	for _, v := range []uint32{vectorMagic, op, m, uint32(dim), uint32(len(p.Queries)), uint32(len(p.Vectors)), k} {
		b = le.AppendUint32(b, v)
	}
	for _, group := range [][][]float32{p.Queries, p.Vectors} {
		for i, v := range group {
			if len(v) != dim {
				return nil, proto.CodeMalformed.Errorf("vector %d has %d dimensions, the first has %d", i, len(v), dim)
			}
			for _, x := range v {
				b = le.AppendUint32(b, math.Float32bits(x))
			}
		}
	}
	return b, nil
}

// hit is one found vector. A score that JSON cannot spell is null.
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
