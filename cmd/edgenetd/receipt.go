package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

// maxReceiptFile bounds what 'receipt verify' reads.
const maxReceiptFile = 256 << 20

// receiptLine is one line of a receipts file. Only receipt is needed to
// verify; the rest tells people what it is about.
type receiptLine struct {
	Task    uint32 `json:"task"`
	Worker  string `json:"worker,omitempty"`
	Receipt []byte `json:"receipt"` // marshalled SignedReceipt
}

// saveReceipts writes the receipts of results, one JSON object a line; an
// empty path writes none.
func saveReceipts(path string, rs []*api.TaskResult) error {
	if path == "" {
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, r := range rs {
		for _, raw := range r.Receipts {
			line := receiptLine{Task: r.Index, Receipt: raw}
			sr, rec := new(proto.SignedReceipt), new(proto.Receipt)
			if goproto.Unmarshal(raw, sr) == nil && goproto.Unmarshal(sr.Receipt, rec) == nil {
				line.Worker = peer.ID(rec.Worker).String()
			}
			if err := enc.Encode(line); err != nil {
				return err
			}
		}
	}
	return saveNew(path, b.Bytes(), 0o644)
}

func (a *app) receiptCmd() *cobra.Command {
	var genesis string
	verify := &cobra.Command{
		Use: "verify FILE", Short: "Check signed receipts offline: signatures, batch paths, workers", Args: takes(1, 1, "a receipts FILE"),
		Long: `Checks receipts that 'submit', 'batch', 'devnet' or 'task result' wrote with
--receipts. No daemon is needed, only the network's genesis, whose id is part of
every signature.`,
		Example: "  edgenetd submit text --input book.txt --receipts r.jsonl\n  edgenetd receipt verify r.jsonl --genesis genesis.pb",
		RunE:    func(_ *cobra.Command, args []string) error { return a.receiptVerify(args[0], genesis) },
	}
	verify.Flags().StringVar(&genesis, "genesis", "", "genesis.pb of the network (default the data directory's)")
	return family("receipt", "Check signed receipts", verify)
}

type receiptView struct {
	Line       int    `json:"line"`
	Valid      bool   `json:"valid"`
	Reason     string `json:"reason,omitempty"`
	Task       string `json:"task,omitempty"`
	Worker     string `json:"worker,omitempty"`
	Submitter  string `json:"submitter,omitempty"`
	Payee      string `json:"payee,omitempty"`
	Module     string `json:"module,omitempty"`
	InputHash  string `json:"input_hash,omitempty"`
	OutputHash string `json:"output_hash,omitempty"`
	Status     string `json:"status,omitempty"`
	Fuel       uint64 `json:"fuel"`
	Price      uint64 `json:"price"`
}

func (a *app) receiptVerify(path, genesis string) error {
	var n *proto.Network
	var err error
	if genesis != "" {
		n, err = a.readGenesis(genesis)
	} else {
		var dir string
		if dir, err = a.dir(); err == nil {
			n, err = a.network(dir)
		}
	}
	if err != nil {
		return err
	}
	b, err := a.readFile(path, "receipts file", maxReceiptFile)
	if err != nil {
		return err
	}
	raws, err := parseReceipts(b)
	if err != nil {
		return failf(exitRefused, "%s is no receipts file (%v); use one that --receipts wrote", path, err)
	}
	views := []receiptView{}
	bad := 0
	r := report{}
	for i, raw := range raws {
		v := checkReceipt(n, raw)
		v.Line = i + 1
		if !v.Valid {
			bad++
		} else {
			r.ids = append(r.ids, v.Task+" "+v.Worker)
		}
		views = append(views, v)
	}
	r.data = map[string]any{"network_id": n.ID.String(), "receipts": views, "valid": len(raws) - bad, "invalid": bad}
	r.table = func(w io.Writer) {
		row(w, "LINE", "VALID", "TASK", "WORKER", "STATUS", "FUEL", "OUTPUT", "REASON")
		for _, v := range views {
			row(w, v.Line, yesNo(v.Valid), dash(v.Task), dash(v.Worker), dash(v.Status), v.Fuel, dash(v.OutputHash[:min(16, len(v.OutputHash))]), dash(v.Reason))
		}
		row(w)
		row(w, fmt.Sprintf("%d valid, %d invalid", len(raws)-bad, bad))
	}
	if err := a.print(r); err != nil {
		return err
	}
	if bad > 0 {
		return failf(exitRefused, "%d of %d receipts in %s are not valid for network %s; check that the genesis is the right one, and do not trust them", bad, len(raws), path, n.ID)
	}
	return nil
}

// parseReceipts reads a receipts file, or lines of bare base64 as JSON output
// shows them.
func parseReceipts(b []byte) ([][]byte, error) {
	var out [][]byte
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		text := bytes.TrimSpace(sc.Bytes())
		if len(text) == 0 {
			continue
		}
		var line receiptLine
		if text[0] == '{' {
			if err := json.Unmarshal(text, &line); err != nil {
				return nil, fmt.Errorf("line %d: %v", n, err)
			}
		} else {
			raw, err := base64.StdEncoding.DecodeString(string(bytes.Trim(text, `"`)))
			if err != nil {
				return nil, fmt.Errorf("line %d: neither JSON nor base64", n)
			}
			line.Receipt = raw
		}
		out = append(out, line.Receipt)
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("it holds no receipt")
	}
	return out, nil
}

func checkReceipt(n *proto.Network, raw []byte) receiptView {
	sr := new(proto.SignedReceipt)
	if err := goproto.Unmarshal(raw, sr); err != nil || len(raw) == 0 {
		return receiptView{Reason: "not a signed receipt"}
	}
	r, err := proto.VerifyReceipt(n.ID, sr)
	if err != nil {
		return receiptView{Reason: err.Error()}
	}
	v := receiptView{
		Valid: true, Worker: peer.ID(r.Worker).String(), Submitter: peer.ID(r.Submitter).String(),
		Status: proto.Status(r.Status).String(), Fuel: r.Fuel, Price: r.Price,
		InputHash: fmt.Sprintf("%x", r.InputHash), OutputHash: fmt.Sprintf("%x", r.OutputHash),
	}
	if len(r.Payee) > 0 {
		v.Payee = peer.ID(r.Payee).String()
	}
	if job, err := proto.ToJobID(r.Job); err == nil {
		v.Task = proto.TaskID{Job: job, Index: r.Task}.String()
	}
	if c, err := proto.ParseCID(r.Module); err == nil {
		v.Module = c.String()
	}
	return v
}
