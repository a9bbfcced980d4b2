package node

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
)

// Names of other packages that a program which only submits needs.
type (
	Options = market.Options
	Result  = market.Result
	Credit  = proto.Credit
	JobID   = proto.JobID
)

// OneCredit is a credit in the microcredits of Options.MaxCredits.
const OneCredit = proto.OneCredit

// Payload is the input of one task whose output is an R: Text, VectorSearch,
// VectorSearches, Scores, Normalise and Module.
type Payload[R any] interface {
	spec() (JobSpec, error) // with one input
	result(output []byte) (R, error)
}

// Answer is the verified result of a task, decoded.
type Answer[R any] struct {
	Value R
	*Result
}

// Submit runs one task on other nodes, waits and decodes its output. A task
// that failed is an error with the network's code (proto.CodeOf). options has
// at most one element; without it every default holds.
func Submit[R any](ctx context.Context, n *Node, p Payload[R], options ...Options) (*Answer[R], error) {
	as, err := SubmitAll(ctx, n, []Payload[R]{p}, options...)
	if err != nil {
		return nil, err
	}
	return as[0], nil
}

// SubmitAll is Submit for many payloads of one kind as one job, whose budget
// is Options.MaxCredits. Answers come in the order of payloads. It fails when
// one of them does.
func SubmitAll[R any, P Payload[R]](ctx context.Context, n *Node, payloads []P, options ...Options) ([]*Answer[R], error) {
	job, err := specOf(payloads, options)
	if err != nil {
		return nil, err
	}
	results, err := n.SubmitBatch(ctx, job)
	if err != nil {
		return nil, err
	}
	answers := make([]*Answer[R], len(results))
	for i, r := range results {
		if r.State != market.Done {
			return nil, n.failureOf(r)
		}
		value, err := payloads[i].result(r.Output)
		if err != nil {
			return nil, fmt.Errorf("task %s: %w", r.Task, err)
		}
		answers[i] = &Answer[R]{Value: value, Result: r}
	}
	return answers, nil
}

// failureOf says why a task failed. What ended the whole job is told of the job.
func (n *Node) failureOf(r *Result) error {
	code, reason := r.Code, r.Reason
	if v, err := n.view(r.Task.Job); err == nil && reason == "" {
		code, reason = v.Record.Code, v.Record.Reason
	}
	if code == proto.CodeInsufficient {
		reason += fmt.Sprintf("; send credits to this account with 'edgenetd wallet transfer %s AMOUNT' on a node that has them", n.self)
	}
	return code.Errorf("task %s %s: %s", r.Task, r.State, reason)
}

// StartAll is SubmitAll without waiting: follow the job with Watch.
func StartAll[R any, P Payload[R]](ctx context.Context, n *Node, payloads []P, options ...Options) (JobID, error) {
	job, err := specOf(payloads, options)
	if err != nil {
		return JobID{}, err
	}
	return n.Start(ctx, job)
}

func specOf[R any, P Payload[R]](payloads []P, options []Options) (job JobSpec, err error) {
	if len(options) > 1 {
		return job, proto.CodeMalformed.Errorf("%d options, want one or none: they hold for the whole job", len(options))
	}
	for i, p := range payloads {
		one, err := p.spec()
		if err != nil {
			return job, fmt.Errorf("payload %d: %w", i, err)
		}
		if i == 0 {
			job = JobSpec{Type: one.Type, Module: one.Module}
		} else if one.Type != job.Type || string(one.Module) != string(job.Module) {
			return job, proto.CodeMalformed.Errorf("payload %d is of another task type or module than payload 0; submit it as a job of its own", i)
		}
		job.Inputs = append(job.Inputs, one.Inputs...)
	}
	if len(options) == 1 {
		job.Options = options[0]
	}
	return job, nil
}

// Text counts the words of a text.
type Text string

func (t Text) spec() (JobSpec, error) {
	return JobSpec{Type: proto.TypeText, Inputs: [][]byte{[]byte(t)}}, nil
}

func (Text) result(output []byte) (map[string]uint64, error) {
	return modules.MergeCounts(output)
}

// Module is a WebAssembly module of one's own with its standard input. Its
// result is what it wrote to standard output.
type Module struct {
	Code  []byte
	Input []byte
}

func (m Module) spec() (JobSpec, error) {
	return JobSpec{Module: m.Code, Inputs: [][]byte{m.Input}}, nil
}

func (Module) result(output []byte) ([]byte, error) { return output, nil }

// VectorSearch finds the K vectors that are nearest to Query.
type VectorSearch struct {
	Query   []float32   `json:"query"`
	Vectors [][]float32 `json:"vectors"`          // each of Query's length
	K       int         `json:"k,omitempty"`      // 0 = 10
	Metric  string      `json:"metric,omitempty"` // cosine, dot or euclidean; "" = cosine
}

// Match is a vector that was found.
type Match struct {
	Index int     `json:"index"` // into Vectors
	Score float64 `json:"score"` // by the metric; the best match comes first
}

func (v VectorSearch) spec() (JobSpec, error) {
	for i, x := range v.Query {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return JobSpec{}, proto.CodeMalformed.Errorf("payload of %s: query[%d]: %v is no number to reckon with", proto.TypeVectorSearch, i, x)
		}
	}
	return encodedJSON(proto.TypeVectorSearch, v, field{"vectors", v.Vectors})
}

func (VectorSearch) result(output []byte) ([]Match, error) {
	var out struct{ Results []Match }
	return out.Results, decodeJSON(proto.TypeVectorSearch, output, &out)
}

// VectorSearches is VectorSearch with several queries over the same vectors.
// Its result has the matches of each.
type VectorSearches struct {
	Queries [][]float32 `json:"queries"`
	Vectors [][]float32 `json:"vectors"`
	K       int         `json:"k,omitempty"`
	Metric  string      `json:"metric,omitempty"`
}

func (v VectorSearches) spec() (JobSpec, error) {
	return encodedJSON(proto.TypeVectorSearch, v, field{"queries", v.Queries}, field{"vectors", v.Vectors})
}

func (VectorSearches) result(output []byte) ([][]Match, error) {
	var out struct {
		Batches [][]Match
		Results []Match // of a single query
	}
	err := decodeJSON(proto.TypeVectorSearch, output, &out)
	if out.Batches == nil && out.Results != nil {
		out.Batches = [][]Match{out.Results}
	}
	return out.Batches, err
}

// Scores compares every query with every vector. Its result has a row for each
// query.
type Scores struct {
	Op      string      `json:"op"` // dot, cosine or euclidean
	Queries [][]float32 `json:"queries"`
	Vectors [][]float32 `json:"vectors"`
}

func (s Scores) spec() (JobSpec, error) {
	return encodedJSON(proto.TypeVectors, s, field{"queries", s.Queries}, field{"vectors", s.Vectors})
}

func (Scores) result(output []byte) ([][]float64, error) {
	var out struct{ Scores [][]float64 }
	err := decodeJSON(proto.TypeVectors, output, &out)
	return out.Scores, err
}

// Normalise scales vectors to length 1.
type Normalise struct {
	Vectors [][]float32 `json:"vectors"`
}

func (v Normalise) spec() (JobSpec, error) {
	return encodedJSON(proto.TypeVectors, struct {
		Op string `json:"op"`
		Normalise
	}{"normalise", v}, field{"vectors", v.Vectors})
}

func (Normalise) result(output []byte) ([][]float64, error) {
	var out struct{ Vectors [][]float64 }
	err := decodeJSON(proto.TypeVectors, output, &out)
	return out.Vectors, err
}

// encodedJSON takes the way that a payload from a file takes, so that the same
// faults get the same words. vectors are those in payload, checked for what
// JSON cannot spell.
func encodedJSON(taskType string, payload any, vectors ...field) (JobSpec, error) {
	for _, f := range vectors {
		if err := f.finite(); err != nil {
			return JobSpec{}, proto.CodeMalformed.Errorf("payload of %s: %v", taskType, err)
		}
	}
	js, err := json.Marshal(payload)
	if err != nil {
		return JobSpec{}, fmt.Errorf("payload of %s: %w", taskType, err)
	}
	in, err := modules.Encode(taskType, js)
	return JobSpec{Type: taskType, Inputs: [][]byte{in}}, err
}

// field is a list of vectors under the name that it has in JSON.
type field struct {
	name    string
	vectors [][]float32
}

func (f field) finite() error {
	for i, v := range f.vectors {
		for j, x := range v {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				return fmt.Errorf("%s[%d][%d]: %v is no number to reckon with", f.name, i, j, x)
			}
		}
	}
	return nil
}

func decodeJSON(taskType string, output []byte, v any) error {
	js, err := modules.Decode(taskType, output)
	if err == nil {
		err = json.Unmarshal(js, v)
	}
	return err
}
