package test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/test/daemon"
)

func connectRequest[T any](m *T) *connect.Request[T] { return connect.NewRequest(m) }

// texts for the word counter, all different.
func texts(n int) []string {
	words := strings.Fields("light passes through the prism and parts into colours of which each keeps its own angle")
	out := make([]string, n)
	for i := range out {
		out[i] = strings.Join(append(slices.Repeat(words, 1+i%7), words[:i%len(words)]...), " ")
	}
	return out
}

// Two daemons that know only a third one find each other through Kademlia, and
// a task of one runs on the other. With Kademlia off the same lookup fails and
// the same task finds no worker that it can reach.
func TestKademlia(t *testing.T) {
	specs := func(flags ...string) []daemon.Spec {
		return []daemon.Spec{
			{Name: "c", Witness: true, Flags: with(flags, "--no-work")},
			{Name: "a", Grant: thousand, Via: []string{"c"}, Flags: with(flags, "--no-work")},
			{Name: "b", Via: []string{"c"}, Flags: flags},
		}
	}
	find := func(net *daemon.Net) ([]string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		r, err := daemon.Call(ctx, net.Node("a").Nodes.FindPeer, &api.FindPeerRequest{Id: net.Node("b").ID.String()})
		if err != nil {
			return nil, err
		}
		return r.Addresses, nil
	}
	connected := func(net *daemon.Net, name string) {
		eventually(t, name+" is connected to c", func() (bool, string) {
			r, err := daemon.Call(t.Context(), net.Node(name).Nodes.Peers, new(api.PeersRequest))
			if err != nil {
				return false, err.Error()
			}
			return slices.ContainsFunc(r.Peers, func(p *api.Peer) bool { return p.Id == net.Node("c").ID.String() }), "not yet"
		})
	}

	t.Run("on", func(t *testing.T) {
		net := network(t, specs("--dht", "server", "--mdns=false")...)
		connected(net, "a")
		connected(net, "b")
		eventually(t, "a finds b", func() (bool, string) {
			addrs, err := find(net)
			if err != nil {
				return false, err.Error()
			}
			for _, got := range addrs {
				if slices.ContainsFunc(net.Node("b").Addrs(), func(own string) bool { return strings.HasPrefix(own, withoutPeer(got)) }) {
					return true, ""
				}
			}
			return false, strings.Join(addrs, " ")
		})
		id := submit(t, net.Node("a"), countJob(1, "a b a"))
		finished(t, net.Node("a"), id)
		if w := results(t, net.Node("a"), id)[0].Workers; len(w) != 1 || w[0] != net.Node("b").ID.String() {
			t.Errorf("the task ran on %v, want b", w)
		}
	})

	t.Run("off", func(t *testing.T) {
		net := network(t, specs("--dht", "off", "--mdns=false")...)
		connected(net, "a")
		connected(net, "b")
		if addrs, err := find(net); err == nil {
			t.Errorf("a found b without Kademlia at %v", addrs)
		}
		req := countJob(1, "a b a")
		req.TimeoutMs = 5000
		id := submit(t, net.Node("a"), req)
		eventually(t, "the job gives up", func() (bool, string) {
			j := job(t, net.Node("a"), id)
			return final(j.State), describe(j)
		})
		if j := job(t, net.Node("a"), id); j.State == "done" {
			t.Error("the job was done: a reached b by some other way than Kademlia")
		}
	})
}

func withoutPeer(a string) string {
	a, _, _ = strings.Cut(a, "/p2p/")
	return a
}

func gossiped(t *testing.T, nd *daemon.Node, topic string) (sent, received uint64) {
	t.Helper()
	for _, c := range status(t, nd).Gossip {
		if c.Topic == topic {
			return c.Sent, c.Received
		}
	}
	return 0, 0
}

// Offers and claims reach by gossip even a worker that gets no task; replicas
// agree; settlement makes balances equal everywhere and conserves them.
func TestFiveVerbs(t *testing.T) {
	specs := append(usual(3), daemon.Spec{
		Name: "bystander", Via: []string{"witness"}, Flags: with(server, "--price", "1000"), // asks more than the job pays
	})
	net := network(t, specs...)
	payer := net.Node("submitter")
	before := equalBooks(t, net)
	id := submit(t, payer, countJob(2, texts(24)...))
	finished(t, payer, id)
	agree(t, net, payer, id)

	if sent, _ := gossiped(t, payer, "offers"); sent == 0 {
		t.Error("the submitter gossiped no offer")
	}
	if _, received := gossiped(t, payer, "claims"); received == 0 {
		t.Error("the submitter heard no claim by gossip")
	}
	by := net.Node("bystander")
	eventually(t, "the bystander hears offers and claims by gossip", func() (bool, string) {
		_, offers := gossiped(t, by, "offers")
		_, claims := gossiped(t, by, "claims")
		return offers > 0 && claims > 0, "none"
	})
	if done := status(t, by).Worker.TasksDone; done != 0 {
		t.Errorf("the bystander ran %d tasks, so it was no bystander", done)
	}

	j := settled(t, payer, id)
	after := equalBooks(t, net)
	sum := paidOnce(t, net, payer, before, after, id)
	if burned := after.audit.Burned - before.audit.Burned; j.Cost != uint64(sum)+burned {
		t.Errorf("the job says it cost %d; %d was paid and %d burned", j.Cost, sum, burned)
	}
}

// A worker that alters its output before it signs is outvoted and gets
// nothing; the job is verified all the same.
func TestLyingWorker(t *testing.T) {
	specs := usual(2)
	specs = append(specs, daemon.Spec{Name: "liar", Grant: thousand, Via: []string{"witness"}, Flags: with(server, "--fault", "lie")})
	net := network(t, specs...)
	payer, liar := net.Node("submitter"), net.Node("liar")
	before := equalBooks(t, net)
	tx := texts(16)
	var honest []byte

	// The liar must have voted, or nothing was shown: submit until it has.
	var jobs []string
	lied := 0
	for lied == 0 && len(jobs) < 10 {
		id := submit(t, payer, countJob(2, tx...))
		jobs = append(jobs, id)
		j := finished(t, payer, id)
		agree(t, net, payer, id)
		for i, task := range j.TaskInfo {
			for _, rep := range task.Replicas {
				if rep.Worker != liar.ID.String() {
					continue
				}
				if rep.Agreed || rep.Paid != 0 {
					t.Errorf("task %d: the liar agreed (%t) and was paid %d", i, rep.Agreed, rep.Paid)
				}
				if rep.OutputHash != "" {
					lied++
					if rep.OutputHash == task.OutputHash {
						t.Errorf("task %d: the liar told the truth", i)
					}
				}
			}
		}
	}
	if lied == 0 {
		t.Fatal("the liar never voted")
	}
	for _, id := range jobs {
		settled(t, payer, id)
		if out := results(t, payer, id)[0].Output; honest == nil {
			honest = out
		} else if string(out) != string(honest) {
			t.Error("two jobs over one text have different results")
		}
	}
	after := equalBooks(t, net)
	paidOnce(t, net, payer, before, after, jobs...)
	if after.total[liar.ID] != before.total[liar.ID] {
		t.Errorf("the liar had %d and has %d", before.total[liar.ID], after.total[liar.ID])
	}
}

// A restarted daemon is the same peer and knows its jobs and results.
func TestRestart(t *testing.T) {
	net := network(t, usual(2)...)
	payer := net.Node("submitter")
	id := submit(t, payer, countJob(2, texts(4)...))
	finished(t, payer, id)
	settled(t, payer, id)
	before := equalBooks(t, net)
	was, results1 := status(t, payer), results(t, payer, id)
	if !payer.Terminate(time.Minute) {
		t.Errorf("the daemon did not end by itself with code 0: %s", net.Logs(1000))
	}
	if sock := filepath.Join(payer.Dir, "edgenetd.sock"); exists(sock) {
		t.Error("the daemon left its socket behind")
	}
	start(t, payer)
	is := status(t, payer)
	if is.PeerId != was.PeerId || is.PeerId != payer.ID.String() || is.NetworkId != was.NetworkId || is.Pid == was.Pid {
		t.Errorf("restarted as %s of %s (pid %d), was %s of %s (pid %d)", is.PeerId, is.NetworkId, is.Pid, was.PeerId, was.NetworkId, was.Pid)
	}
	if j := job(t, payer, id); j.State != "done" || j.Verified != 4 {
		t.Errorf("after the restart the job is %s", describe(j))
	}
	for i, r := range results(t, payer, id) {
		if string(r.Output) != string(results1[i].Output) || len(r.Receipts) != len(results1[i].Receipts) {
			t.Errorf("task %d has another result after the restart", i)
		}
	}
	if after := equalBooks(t, net); after.hash != before.hash {
		t.Error("the restart changed the ledger")
	}
	again := submit(t, payer, countJob(2, texts(4)...))
	finished(t, payer, again)
	info, err := os.Stat(filepath.Join(payer.Dir, "key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v %v", info, err)
	}
}

// A transfer is certified by the witness and seen by a third party.
func TestTransfer(t *testing.T) {
	net := network(t, usual(2)...)
	from, to := net.Node("submitter"), net.Node("worker0")
	before := equalBooks(t, net)
	r, err := daemon.Call(t.Context(), from.Wallet.Transfer, &api.TransferRequest{To: to.ID.String(), Amount: uint64(7 * proto.OneCredit), Memo: "for the prism"})
	if err != nil {
		t.Fatal(err)
	}
	var after books
	eventually(t, "the transfer is everywhere", func() (bool, string) {
		after = equalBooks(t, net)
		return after.total[to.ID] == before.total[to.ID]+uint64(7*proto.OneCredit), "not yet"
	})
	if after.total[from.ID] != before.total[from.ID]-uint64(7*proto.OneCredit) {
		t.Errorf("the sender has %d, had %d", after.total[from.ID], before.total[from.ID])
	}
	h, err := daemon.Call(t.Context(), from.Wallet.History, &api.HistoryRequest{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(h.Entries, func(e *api.HistoryEntry) bool {
		return e.Event == r.Event && e.Memo == "for the prism" && e.Counterparty == to.ID.String() && e.Amount == -int64(7*proto.OneCredit)
	}) {
		t.Errorf("the history does not show the transfer: %v", h.Entries)
	}
	if _, err := daemon.Call(t.Context(), from.Wallet.Transfer, &api.TransferRequest{To: to.ID.String(), Amount: uint64(2 * thousand)}); err == nil {
		t.Error("sent more than there is")
	}
	if got := equalBooks(t, net); got.hash != after.hash {
		t.Error("a refused transfer changed the ledger")
	}
}
