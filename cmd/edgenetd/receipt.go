package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

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

// checkReceipts refuses, before anything is paid for, a file that saveReceipts
// could not write.
func checkReceipts(path string) error {
	if path == "" {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return failf(exitRefused, "%s exists already and was left alone; choose another name for --receipts", path)
	}
	dir := filepath.Dir(path)
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, ".receipts-*"); err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	if err != nil {
		return failf(exitStorage, "--receipts %s cannot be written: %w; name a file in a directory of yours", path, err)
	}
	return nil
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
	var line int
	show := &cobra.Command{
		Use: "show FILE", Short: "Show every field of signed receipts, offline", Args: takes(1, 1, "a receipts FILE"),
		Long:    "Shows what 'receipt verify' checks, field by field. It ends with code 5 as well when one of them is not valid.",
		Example: "  edgenetd receipt show r.jsonl --line 1\n  edgenetd receipt show r.jsonl --genesis genesis.pb -o json",
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("line") && line < 1 {
				return failf(exitUsage, "--line %d: lines count from 1", line)
			}
			return a.receiptShow(args[0], genesis, line)
		},
	}
	show.Flags().IntVar(&line, "line", 0, "only the receipt of this line")
	for _, c := range []*cobra.Command{show, verify} {
		c.Flags().StringVar(&genesis, "genesis", "", "genesis.pb of the network (default the data directory's)")
	}
	return family("receipt", "Show and check signed receipts", show, verify)
}

type receiptView struct {
	Line         int    `json:"line"`
	Valid        bool   `json:"valid"`
	Reason       string `json:"reason,omitempty"`
	Task         string `json:"task,omitempty"`
	Replica      uint32 `json:"replica"`
	Worker       string `json:"worker,omitempty"`
	Submitter    string `json:"submitter,omitempty"`
	Payee        string `json:"payee,omitempty"`
	Module       string `json:"module,omitempty"`
	MeterVersion uint32 `json:"meter_version"`
	InputHash    string `json:"input_hash,omitempty"`
	OutputHash   string `json:"output_hash,omitempty"`
	OutputSize   uint64 `json:"output_size"`
	LogHash      string `json:"log_hash,omitempty"`
	Status       string `json:"status,omitempty"`
	ExitCode     int32  `json:"exit_code"`
	Fuel         uint64 `json:"fuel"`
	FuelLimit    uint64 `json:"fuel_limit"`
	MemoryLimit  uint64 `json:"memory_limit"`
	OutputLimit  uint64 `json:"output_limit"`
	Epoch        uint64 `json:"epoch"`            // that the assignment named
	Price        uint64 `json:"price"`            // microcredits per 60 Gfuel
	Pay          uint64 `json:"pay"`              // what follows from fuel and price
	Signed       string `json:"signed,omitempty"` // when, by the worker's clock, a hint
	Root         string `json:"batch_root,omitempty"`
	Index        uint32 `json:"batch_index"`
	Leaves       uint32 `json:"batch_leaves"`
}

// checkedReceipts reads a receipts file and checks each receipt for a network.
func (a *app) checkedReceipts(path, genesis string) (n *proto.Network, views []receiptView, bad int, err error) {
	if genesis != "" {
		n, err = a.readGenesis(genesis)
	} else {
		var dir string
		if dir, err = a.dir(); err == nil {
			n, err = a.network(dir)
		}
	}
	if err != nil {
		return nil, nil, 0, err
	}
	b, err := a.readFile(path, "receipts file", maxReceiptFile)
	if err != nil {
		return nil, nil, 0, err
	}
	raws, err := parseReceipts(b)
	if err != nil {
		return nil, nil, 0, failf(exitRefused, "%s is no receipts file (%v); use one that --receipts wrote", path, err)
	}
	for i, raw := range raws {
		v := checkReceipt(n, raw)
		v.Line = i + 1
		if !v.Valid {
			bad++
		}
		views = append(views, v)
	}
	return n, views, bad, nil
}

func (a *app) receiptVerify(path, genesis string) error {
	n, views, bad, err := a.checkedReceipts(path, genesis)
	if err != nil {
		return err
	}
	r := receiptReport(n, views, bad)
	r.table = func(w io.Writer) {
		row(w, "LINE", "VALID", "TASK", "WORKER", "STATUS", "FUEL", "OUTPUT", "REASON")
		for _, v := range views {
			row(w, v.Line, yesNo(v.Valid), dash(v.Task), dash(v.Worker), dash(v.Status), v.Fuel, dash(v.OutputHash[:min(16, len(v.OutputHash))]), dash(v.Reason))
		}
		row(w)
		row(w, fmt.Sprintf("%d valid, %d invalid", len(views)-bad, bad))
	}
	if err := a.print(r); err != nil {
		return err
	}
	return untrusted(n, path, bad, len(views))
}

func receiptReport(n *proto.Network, views []receiptView, bad int) report {
	r := report{data: map[string]any{"network_id": n.ID.String(), "receipts": views, "valid": len(views) - bad, "invalid": bad}}
	for _, v := range views {
		if v.Valid {
			r.ids = append(r.ids, v.Task+" "+v.Worker)
		}
	}
	return r
}

func untrusted(n *proto.Network, path string, bad, of int) error {
	if bad == 0 {
		return nil
	}
	return failf(exitRefused, "%d of %d receipts in %s are not valid for network %s; check that the genesis is the right one, and do not trust them", bad, of, path, n.ID)
}

// receiptShow prints every field; line 0 is all of them.
func (a *app) receiptShow(path, genesis string, line int) error {
	n, views, bad, err := a.checkedReceipts(path, genesis)
	if err != nil {
		return err
	}
	if line > len(views) {
		return failf(exitNotFound, "%s has %d receipts, so there is none in line %d", path, len(views), line)
	}
	if line > 0 {
		views, bad = views[line-1:line], 0
		if !views[0].Valid {
			bad = 1
		}
	}
	r := receiptReport(n, views, bad)
	r.table = func(w io.Writer) {
		for i, v := range views {
			if i > 0 {
				row(w)
			}
			row(w, "line", v.Line)
			if !v.Valid {
				row(w, "valid", "no: "+v.Reason)
				continue
			}
			row(w, "valid", "yes, for network "+n.ID.String())
			row(w, "task", fmt.Sprintf("%s, replica %d", v.Task, v.Replica))
			row(w, "worker", v.Worker)
			row(w, "paid to", v.Payee)
			row(w, "submitter", v.Submitter)
			row(w, "module", fmt.Sprintf("%s, meter version %d", v.Module, v.MeterVersion))
			row(w, "input", v.InputHash)
			row(w, "output", fmt.Sprintf("%s, %s", v.OutputHash, bytesText(v.OutputSize)))
			row(w, "log", v.LogHash)
			status := v.Status
			if v.ExitCode != 0 { // of a program; a trap has none
				status = fmt.Sprintf("%s, exit code %d", status, v.ExitCode)
			}
			row(w, "status", status)
			row(w, "fuel", fmt.Sprintf("%d of %d", v.Fuel, v.FuelLimit))
			row(w, "limits", fmt.Sprintf("%s of memory, %s of output", bytesText(v.MemoryLimit), bytesText(v.OutputLimit)))
			row(w, "epoch", v.Epoch)
			row(w, "price", credits(v.Price)+" credits per 60 Gfuel")
			row(w, "pay", credits(v.Pay)+" credits")
			row(w, "signed", fmt.Sprintf("%s, receipt %d of %d under root %s", v.Signed, v.Index+1, v.Leaves, v.Root))
		}
	}
	if err := a.print(r); err != nil {
		return err
	}
	return untrusted(n, path, bad, len(views))
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
		Valid: true, Replica: r.Replica, Worker: peer.ID(r.Worker).String(), Submitter: peer.ID(r.Submitter).String(), Payee: peer.ID(r.Worker).String(),
		MeterVersion: r.MeterVersion, Status: proto.Status(r.Status).String(), ExitCode: r.ExitCode, Fuel: r.Fuel, Price: r.Price,
		Pay:       uint64(proto.PayFor(proto.Fuel(r.Fuel), proto.Credit(r.Price))),
		InputHash: fmt.Sprintf("%x", r.InputHash), OutputHash: fmt.Sprintf("%x", r.OutputHash), OutputSize: r.OutputSize,
		LogHash: fmt.Sprintf("%x", r.LogHash), Index: sr.Index,
		FuelLimit: r.FuelLimit, MemoryLimit: r.MemoryLimit, OutputLimit: r.OutputLimit, Epoch: r.Epoch,
	}
	if s, err := proto.Inspect(sr.Batch, proto.KindReceipts); err == nil { // checked above
		b := s.Payload.GetReceipts()
		v.Root, v.Leaves = fmt.Sprintf("%x", b.GetRoot()), b.GetLeaves()
		v.Signed = proto.UnixMs(b.GetTimeUnixMs()).UTC().Format(time.RFC3339)
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
