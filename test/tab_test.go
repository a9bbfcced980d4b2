package test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/node/identity"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox/modules"
	"edgenet.dev/test/daemon"
)

type tabStats struct {
	PeerID       string `json:"peerId"`
	Peers        int
	CreditsMicro string
	TasksRun     int
	Paused       string
	StateHash    string
}

type tabOutcome struct {
	CostMicro string
	Results   []struct {
		Status   string
		JSON     string
		Verified bool
		Workers  []string
		Receipts []jsBytes
		Error    *struct{ Code, Message string }
	}
}

func (tb *tab) stats() tabStats {
	tb.t.Helper()
	var s tabStats
	tb.call(&s, "stats")
	return s
}

// start starts the tab's node as the node of that name.
func (tb *tab) start(net *daemon.Net, name string, work bool) {
	tb.t.Helper()
	tb.startWith(net, name, map[string]any{"work": work})
}

// startWith is start with other settings than a test's usual ones.
func (tb *tab) startWith(net *daemon.Net, name string, set map[string]any) {
	tb.t.Helper()
	key, err := identity.Load(net.Node(name).Dir)
	if err != nil {
		tb.t.Fatal(err)
	}
	raw, err := key.Raw()
	if err != nil {
		tb.t.Fatal(err)
	}
	all := map[string]any{
		"genesis": jsBytes(net.Network.Raw), "seed": jsBytes(raw[:32]), "bootstrap": tb.relays, "db": "edgenet-" + name,
		"types": modules.Types(), "slots": 1, "memory": 1 << 30, "cpuPercent": 100,
	}
	maps.Copy(all, set)
	var started struct{ PeerID string }
	tb.call(&started, "start", all)
	if want := net.Node(name).ID.String(); started.PeerID != want {
		tb.t.Fatalf("the tab is %s, its key is %s's", started.PeerID, want)
	}
}

// forTabs are the addresses of a daemon that a tab can dial.
func forTabs(nd *daemon.Node) (addrs []string) {
	for _, a := range nd.Addrs() {
		if strings.Contains(a, "/certhash/") && !strings.Contains(a, "/p2p-circuit") {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// A tab works beside daemons, is paid, submits work of its own, and is the
// same node after a reload.
func TestTab(t *testing.T) {
	net := network(
		t,
		daemon.Spec{Name: "relay", Witness: true, Flags: with(idle, "--relay")},
		daemon.Spec{Name: "submitter", Grant: thousand, Via: []string{"relay"}, Flags: idle},
		daemon.Spec{Name: "worker0", Via: []string{"relay"}, Flags: server},
		daemon.Spec{Name: "worker1", Via: []string{"relay"}, Flags: server},
		daemon.Spec{Name: "tab", Grant: thousand, Embedded: true},
	)
	relay, submitter, self := net.Node("relay"), net.Node("submitter"), net.Node("tab").ID
	tb := openTab(t, forTabs(relay))
	tb.start(net, "tab", true)
	eventually(t, "the tab finds its relay", func() (bool, string) {
		s := tb.stats()
		return s.Peers > 0, fmt.Sprint(s)
	})

	// Three workers, redundancy three: every task needs the tab.
	req := &api.SubmitRequest{Type: proto.TypeText, Redundancy: 3, MaxCredits: uint64(100 * proto.OneCredit), TimeoutMs: 170_000}
	for i := range 10 {
		req.Inputs = append(req.Inputs, []byte(fmt.Sprintf("task %d of ten", i)))
	}
	id := submit(t, submitter, req)
	finished(t, submitter, id)
	for _, r := range results(t, submitter, id) {
		if !slices.Contains(r.Workers, self.String()) {
			t.Errorf("task %d was agreed on by %v, without the tab", r.Index, r.Workers)
		}
		mine := false
		for _, raw := range r.Receipts {
			mine = mine || receiptSigner(t, net, raw) == self.String()
		}
		if !mine || !r.Verified || len(r.Receipts) != 3 {
			t.Errorf("task %d: verified %t, %d receipts, one of the tab: %t", r.Index, r.Verified, len(r.Receipts), mine)
		}
	}
	eventually(t, "the tab says that it ran ten tasks", func() (bool, string) {
		s := tb.stats() // renewed twice a second
		return s.TasksRun >= 10, fmt.Sprint(s)
	})
	settled(t, submitter, id)
	var earned uint64
	eventually(t, "a daemon's ledger shows what the tab earned", func() (bool, string) {
		r, err := daemon.Call(t.Context(), submitter.Wallet.Balance, &api.BalanceRequest{Account: self.String()})
		if err != nil {
			return false, err.Error()
		}
		earned = r.Available
		return earned > uint64(thousand) && r.Receivable == 0, r.String()
	})
	eventually(t, "the tab sees it, too", func() (bool, string) {
		s := tb.stats()
		return s.CreditsMicro == strconv.FormatUint(earned, 10), s.CreditsMicro
	})

	// The tab pays two daemons.
	var out tabOutcome
	tb.call(&out, "submit", map[string]any{
		"tasks":      []any{map[string]any{"type": "text", "payload": `"a b a"`}, map[string]any{"type": "text", "payload": `"c"`}},
		"redundancy": 2, "maxMicro": "100000000", "priority": 1, "timeoutMs": 170_000,
	})
	for i, want := range []string{`"a":2`, `"c":1`} {
		r := out.Results[i]
		if r.Error != nil {
			t.Fatalf("task %d: %s %s", i, r.Error.Code, r.Error.Message)
		}
		if r.Status != "ok" || !r.Verified || len(r.Workers) != 2 || len(r.Receipts) != 2 || slices.Contains(r.Workers, self.String()) || !strings.Contains(strings.ReplaceAll(r.JSON, " ", ""), want) {
			t.Errorf("task %d: %+v, want %s", i, r, want)
		}
	}

	var balance *api.BalanceReply
	eventually(t, "the tab's job is paid", func() (bool, string) {
		r, err := daemon.Call(t.Context(), submitter.Wallet.Balance, &api.BalanceRequest{Account: self.String()})
		if err != nil {
			return false, err.Error()
		}
		balance = r
		return r.Held == 0 && r.Available < earned, r.String()
	})
	eventually(t, "the tab agrees", func() (bool, string) {
		s := tb.stats()
		return s.CreditsMicro == strconv.FormatUint(balance.Available, 10), s.CreditsMicro
	})

	before := tb.stats()
	tb.reload()
	var s *tabStats
	if tb.call(&s, "stats"); s != nil {
		t.Fatalf("the Worker outlived the page: %+v", s)
	}
	tb.start(net, "tab", true)
	if now := tb.stats(); now.PeerID != before.PeerID || now.CreditsMicro != before.CreditsMicro {
		t.Errorf("after a reload %+v, before %+v", now, before)
	}
	tb.call(nil, "disconnect")
	for _, e := range tb.seen("exit") {
		t.Errorf("the node ended: %s", e)
	}
}

func receiptSigner(t *testing.T, net *daemon.Net, raw []byte) string {
	t.Helper()
	sr := new(proto.SignedReceipt)
	if err := goproto.Unmarshal(raw, sr); err != nil {
		t.Fatal(err)
	}
	r, err := proto.VerifyReceipt(net.Network.ID, sr)
	if err != nil {
		t.Fatal(err)
	}
	id, err := proto.ParsePeer(r.Worker)
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}
