package test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/test/daemon"
)

// books are what one daemon says about every account, and its audit terms.
type books struct {
	hash  string
	total map[peer.ID]uint64 // everything an account has, wherever it lies
	audit *api.AuditReply
}

// read asks one daemon, through its own socket, for every account.
func read(t *testing.T, net *daemon.Net, at *daemon.Node) books {
	t.Helper()
	b := books{total: map[peer.ID]uint64{}}
	var err error
	if b.audit, err = daemon.Call(t.Context(), at.Wallet.Audit, new(api.AuditRequest)); err != nil {
		t.Fatalf("audit of %s: %v", at.Name, err)
	}
	b.hash = b.audit.StateHash
	for _, nd := range net.Nodes {
		r, err := daemon.Call(t.Context(), at.Wallet.Balance, &api.BalanceRequest{Account: nd.ID.String()})
		if err != nil {
			t.Fatalf("balance of %s at %s: %v", nd.Name, at.Name, err)
		}
		b.total[nd.ID] = r.Available + r.Held + r.Staked + r.Unbonding + r.Receivable
	}
	return b
}

// equalBooks waits until every running daemon reports one state hash, that hash
// has stayed while all were read, and nothing is held or on its way. Then it
// checks conservation on each and returns the books.
func equalBooks(t *testing.T, net *daemon.Net) books {
	t.Helper()
	var granted uint64
	for _, nd := range net.Nodes {
		granted += uint64(nd.Grant)
	}
	var all []books
	eventually(t, "all daemons have equal balances", func() (bool, string) {
		all = nil
		hashes := map[string][]string{}
		for _, nd := range net.Nodes {
			if !nd.Running() {
				continue
			}
			b := read(t, net, nd)
			st := status(t, nd)
			hashes[b.hash] = append(hashes[b.hash], nd.Name)
			if st.StateHash != b.hash {
				hashes[st.StateHash] = append(hashes[st.StateHash], nd.Name)
			}
			all = append(all, b)
		}
		a := all[0].audit
		return len(hashes) == 1 && a.Held == 0 && a.Receivable == 0, fmt.Sprintf("%v, %d held, %d receivable", hashes, a.Held, a.Receivable)
	})
	if all[0].hash == "" {
		t.Fatal("the state hash is empty")
	}
	for i, b := range all {
		conserved(t, b, granted)
		if !maps.Equal(b.total, all[0].total) {
			t.Errorf("balances differ under one state hash: %v and %v", all[0].total, all[i].total)
		}
	}
	return all[0]
}

// conserved adds every term by itself; none is what the others leave over.
func conserved(t *testing.T, b books, granted uint64) {
	t.Helper()
	a := b.audit
	sum := a.Available + a.Held + a.Staked + a.Unbonding + a.Receivable + a.Burned
	if sum != a.Genesis+a.Minted {
		t.Errorf("conservation: %d+%d+%d+%d+%d+%d = %d, but %d granted + %d minted",
			a.Available, a.Held, a.Staked, a.Unbonding, a.Receivable, a.Burned, sum, a.Genesis, a.Minted)
	}
	if !a.Conserved {
		t.Error("the audit says that its terms do not add up")
	}
	if a.Genesis != granted || a.Minted != 0 {
		t.Errorf("audit counts %d granted and %d minted, the genesis grants %d", a.Genesis, a.Minted, granted)
	}
	var accounts uint64
	for _, v := range b.total {
		accounts += v
	}
	if accounts+a.Burned != granted {
		t.Errorf("accounts hold %d and %d is burned, the genesis grants %d", accounts, a.Burned, granted)
	}
}

// paidOnce compares what the ledger moved with the signed receipts of the
// jobs' results: every worker got the sum of its receipts and nothing else,
// each (task, worker) once; the payer lost that sum and the fee; the fee is
// what the rules say. It returns the sum.
func paidOnce(t *testing.T, net *daemon.Net, payer *daemon.Node, before, after books, jobs ...string) proto.Credit {
	t.Helper()
	return paid(t, net, payer, before, after, 0, jobs...)
}

// paid is paidOnce of a payer that may have been killed between results and their
// records: it had them done again, and their workers prove up to lost credits each
// for the first ones when their lanes end.
func paid(t *testing.T, net *daemon.Net, payer *daemon.Node, before, after books, lost uint64, jobs ...string) proto.Credit {
	t.Helper()
	due := map[peer.ID]uint64{}
	seen := map[string]bool{}
	for _, id := range jobs {
		info := job(t, payer, id)
		rs := results(t, payer, id)
		if len(info.TaskInfo) != len(rs) {
			t.Fatalf("job %s: %d tasks described, %d results", id, len(info.TaskInfo), len(rs))
		}
		for i, r := range rs {
			paid := map[string]uint64{}
			var price proto.Credit
			for _, raw := range r.Receipts {
				price = proto.Credit(receipt(t, net.Network, raw).Price)
			}
			for _, rep := range info.TaskInfo[i].Replicas {
				if rep.Paid == 0 {
					continue
				}
				if rep.State == "trial" { // all who agreed that the fuel ran out are paid for it
					key := fmt.Sprintf("%s/%d/%s/%d", id, i, rep.Worker, rep.Fuel)
					if want := uint64(proto.PayFor(proto.Fuel(rep.Fuel), price)); rep.Paid != want || seen[key] {
						t.Errorf("task %d: %s was paid %d for a trial of %d fuel, worth %d; twice: %t", i, rep.Worker, rep.Paid, rep.Fuel, want, seen[key])
					}
					seen[key] = true
					due[account(t, rep.Worker)] += rep.Paid
					continue
				}
				if !rep.Agreed {
					t.Errorf("task %d: %s did not agree and was paid %d", i, rep.Worker, rep.Paid)
				}
				if paid[rep.Worker] != 0 {
					t.Errorf("task %d: %s was paid twice", i, rep.Worker)
				}
				paid[rep.Worker] = rep.Paid
			}
			for _, raw := range r.Receipts {
				rc := receipt(t, net.Network, raw)
				worker := peer.ID(rc.Worker)
				key := fmt.Sprintf("%x/%d/%s", rc.Job, rc.Task, worker)
				if seen[key] {
					t.Errorf("two receipts for %s", key)
				}
				seen[key] = true
				want := uint64(proto.PayFor(proto.Fuel(rc.Fuel), proto.Credit(rc.Price)))
				if paid[worker.String()] != want {
					t.Errorf("task %d: %s was paid %d, its receipt is worth %d", i, worker, paid[worker.String()], want)
				}
				due[worker] += want
				delete(paid, worker.String())
			}
			for w, amount := range paid {
				t.Errorf("task %d: %s was paid %d without a receipt", i, w, amount)
			}
		}
	}
	var sum uint64
	for _, v := range due {
		sum += v
	}
	if sum == 0 {
		t.Fatal("nothing was due: the test compares nothing")
	}
	for _, nd := range net.Nodes {
		if got := after.total[nd.ID] - before.total[nd.ID]; due[nd.ID] > 0 && got > due[nd.ID] && got <= due[nd.ID]+lost {
			sum += got - due[nd.ID]
			due[nd.ID] = got
		}
	}
	burned := after.audit.Burned - before.audit.Burned
	for _, nd := range net.Nodes {
		want := before.total[nd.ID] + due[nd.ID]
		if nd == payer {
			want -= sum + burned
		}
		if after.total[nd.ID] != want {
			t.Errorf("%s has %d, want %d (%d before, %d due to it)", nd.Name, after.total[nd.ID], want, before.total[nd.ID], due[nd.ID])
		}
	}
	// The fee is rounded up once per hold, and a job uses one hold or, after a
	// restart, a few.
	holds := holdsOf(t, payer)
	fee := uint64(proto.Fee(proto.Credit(sum), net.Network.Genesis.FeePpm))
	if holds < 1 || burned < fee || burned >= fee+holds {
		t.Errorf("%d burned; the fee on %d is %d, over %d holds", burned, sum, fee, holds)
	}
	return proto.Credit(sum)
}

func holdsOf(t *testing.T, nd *daemon.Node) (n uint64) {
	t.Helper()
	h, err := daemon.Call(t.Context(), nd.Wallet.History, &api.HistoryRequest{Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range h.Entries {
		if e.Kind == "hold" {
			n++
		}
	}
	return n
}

func account(t *testing.T, id string) peer.ID {
	t.Helper()
	p, err := peer.Decode(id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// receipt checks a portable receipt offline.
func receipt(t *testing.T, net *proto.Network, raw []byte) *proto.Receipt {
	t.Helper()
	sr := new(proto.SignedReceipt)
	if err := goproto.Unmarshal(raw, sr); err != nil {
		t.Fatalf("receipt: %v", err)
	}
	rc, err := proto.VerifyReceipt(net.ID, sr)
	if err != nil {
		t.Fatalf("receipt: %v", err)
	}
	return rc
}

// agree wants every task verified by different workers whose receipts state
// one output hash, fuel and status, none of them the submitter.
func agree(t *testing.T, net *daemon.Net, payer *daemon.Node, id string) {
	t.Helper()
	j := job(t, payer, id)
	for i, r := range results(t, payer, id) {
		if !r.Verified || len(r.Receipts) < int(j.Redundancy) {
			t.Errorf("task %d: verified %t with %d receipts", i, r.Verified, len(r.Receipts))
			continue
		}
		hash := proto.HashOf(r.Output)
		var workers []string
		for _, raw := range r.Receipts {
			rc := receipt(t, net.Network, raw)
			workers = append(workers, string(rc.Worker))
			if !slices.Equal(rc.OutputHash, hash[:]) || rc.Fuel != r.Fuel || rc.Fuel == 0 || proto.Status(rc.Status).String() != r.Status {
				t.Errorf("task %d: receipt of %s says output %x, fuel %d, %s; the result is %s, %d, %s",
					i, peer.ID(rc.Worker), rc.OutputHash, rc.Fuel, proto.Status(rc.Status), hash, r.Fuel, r.Status)
			}
			if int(rc.Task) != i || peer.ID(rc.Submitter) != payer.ID || peer.ID(rc.Worker) == payer.ID {
				t.Errorf("task %d: receipt names task %d, submitter %s, worker %s", i, rc.Task, peer.ID(rc.Submitter), peer.ID(rc.Worker))
			}
		}
		slices.Sort(workers)
		if len(slices.Compact(workers)) != len(r.Receipts) {
			t.Errorf("task %d: one worker ran two replicas", i)
		}
	}
}
