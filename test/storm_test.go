package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/test/daemon"
)

// storm sends small payments from some nodes to each other for as long as it
// lives, each with a memo of its own.
type storm struct {
	nodes []*daemon.Node
	group sync.WaitGroup
	stop  context.CancelFunc

	mu   sync.Mutex
	sent map[string]string // memo of every payment that was asked for -> event, once answered
}

func pay(ctx context.Context, nodes []*daemon.Node) *storm {
	ctx, stop := context.WithCancel(ctx)
	s := &storm{nodes: nodes, stop: stop, sent: map[string]string{}}
	for i, nd := range nodes {
		wallet := nd.Wallet // the same over restarts: one socket path
		s.group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				memo := fmt.Sprintf("%s/%d", nd.Name, n)
				s.mu.Lock()
				s.sent[memo] = ""
				s.mu.Unlock()
				call, cancel := context.WithTimeout(ctx, 20*time.Second)
				r, err := daemon.Call(call, wallet.Transfer, &api.TransferRequest{
					To: nodes[(i+1+n%(len(nodes)-1))%len(nodes)].ID.String(), Amount: uint64(1 + n%1000), Memo: memo,
				})
				cancel()
				if err == nil {
					s.mu.Lock()
					s.sent[memo] = r.Event
					s.mu.Unlock()
				}
				select {
				case <-time.After(50 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	return s
}

func (s *storm) end() {
	s.stop()
	s.group.Wait()
}

// check wants every payment that was answered in its sender's history, as the
// event of the answer, and no payment there twice.
func (s *storm) check(t *testing.T) {
	t.Helper()
	found := map[string]string{}
	for _, nd := range s.nodes {
		h, err := daemon.Call(t.Context(), nd.Wallet.History, &api.HistoryRequest{Limit: 100_000, Kinds: []string{"transfer"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range h.Entries {
			if old, ok := found[e.Memo]; ok {
				t.Errorf("payment %q was made twice: %s and %s", e.Memo, old, e.Event)
			}
			if _, asked := s.sent[e.Memo]; !asked {
				t.Errorf("payment %q was never asked for", e.Memo)
			}
			found[e.Memo] = e.Event
		}
	}
	answered := 0
	for memo, event := range s.sent {
		if event == "" {
			continue
		}
		if answered++; found[memo] != event {
			t.Errorf("payment %q was answered with event %s, the history has %q", memo, event, found[memo])
		}
	}
	if answered == 0 {
		t.Error("no payment was answered: nothing was shown")
	}
	t.Logf("%d payments asked for, %d answered, %d made", len(s.sent), answered, len(found))
}

// ended waits for the end of a job that may lose a task: after five workers of
// it were killed a task is given up, and says so.
func ended(t *testing.T, nd *daemon.Node, id string) {
	t.Helper()
	var j *api.Job
	eventually(t, "job "+id+" ends", func() (bool, string) {
		j = job(t, nd, id)
		return final(j.State), describe(j) + "; " + why(t, nd, id)
	})
	if j.Done+j.Failed != j.Tasks || j.Verified != j.Done || j.Failed > 0 && j.Code != proto.CodeWorkerGone.String() {
		t.Fatalf("job %s: %s", id, describe(j))
	}
}

// Seven daemons, four of them witnesses, pay each other and settle jobs while
// one after the other is killed and started again: no credit is lost or made,
// every answered payment was made once, every worker has what its receipts say.
// TEST_KILLS sets how many are killed.
func TestKillAnyone(t *testing.T) {
	kills := 20
	if s := os.Getenv("TEST_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	specs := []daemon.Spec{
		{Name: "witness0", Grant: thousand, Witness: true, Flags: idle},
		{Name: "witness1", Grant: thousand, Witness: true, Flags: idle, Via: []string{"witness0"}},
		{Name: "witness2", Grant: thousand, Witness: true, Flags: idle, Via: []string{"witness0", "witness1"}},
		{Name: "witness3", Witness: true, Flags: idle, Via: []string{"witness0", "witness1"}},
		{Name: "submitter", Grant: thousand, Flags: idle, Via: []string{"witness0", "witness1", "witness2"}},
		{Name: "worker0", Flags: server, Via: []string{"witness0", "witness1", "witness2"}},
		{Name: "worker1", Flags: server, Via: []string{"witness0", "witness1", "witness2"}},
	}
	net := networkOf(t, &proto.Genesis{EpochSeconds: 5}, specs...)
	for _, nd := range net.Nodes { // for restarts, when the others have addresses
		nd.Via = slices.DeleteFunc([]string{"witness0", "witness1", "witness2"}, func(n string) bool { return n == nd.Name })
		nd.Flags = with(nd.Flags, "--keep-epochs", "2")
	}
	payer := net.Node("submitter")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	pause := func(most time.Duration) { time.Sleep(time.Duration(rng.Int64N(int64(most)))) }

	before := equalBooks(t, net)
	s := pay(t.Context(), []*daemon.Node{net.Node("witness0"), net.Node("witness1"), payer})
	defer s.end()
	var jobs []string
	crashes := uint64(0) // of the submitter
	for i := range kills {
		if len(jobs) < 1+kills/4 && i%4 == 0 {
			jobs = append(jobs, submit(t, payer, spinJob(2, rounds(6, quick)...)))
		}
		victim := net.Nodes[rng.IntN(len(net.Nodes))]
		if victim == payer {
			crashes++
		}
		pause(800 * time.Millisecond)
		if err := victim.Kill(); err != nil {
			t.Fatal(err)
		}
		pause(400 * time.Millisecond)
		start(t, victim)
	}
	for _, id := range jobs {
		ended(t, payer, id)
		settled(t, payer, id)
	}
	s.end()
	after := equalBooks(t, net)
	s.check(t)

	due, dearest := map[peer.ID]uint64{}, uint64(0)
	for _, id := range jobs {
		for _, task := range job(t, payer, id).TaskInfo {
			for _, rep := range task.Replicas {
				if rep.State == "trial" {
					due[account(t, rep.Worker)] += rep.Paid
				}
				dearest = max(dearest, rep.Paid)
			}
		}
		for _, r := range results(t, payer, id) {
			for _, raw := range r.Receipts {
				rc := receipt(t, net.Network, raw)
				due[peer.ID(rc.Worker)] += uint64(proto.PayFor(proto.Fuel(rc.Fuel), proto.Credit(rc.Price)))
			}
		}
	}
	for _, name := range []string{"worker0", "worker1"} {
		nd := net.Node(name)
		// A submitter that is killed between a result and its record has it done
		// again, and the worker proves the first one, too, when its lane ends.
		spare := crashes * 6 * dearest
		if got := after.total[nd.ID] - before.total[nd.ID]; got < due[nd.ID] || got > due[nd.ID]+spare || got == 0 {
			t.Errorf("%s earned %d, its receipts say %d, and up to %d may be of results that were lost with the submitter", name, got, due[nd.ID], spare)
		}
	}
}
