package test

import (
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/test/daemon"
)

// A daemon and a tab work for accounts that are not theirs: a site owner's node
// and an account that runs nowhere. Every task needs both workers, and both
// owners get what the workers earn.
func TestPayee(t *testing.T) {
	net := prepared(
		t, new(proto.Genesis),
		daemon.Spec{Name: "relay", Witness: true, Flags: with(idle, "--relay")},
		daemon.Spec{Name: "submitter", Grant: thousand, Via: []string{"relay"}, Flags: idle},
		daemon.Spec{Name: "owner", Via: []string{"relay"}, Flags: idle},
		daemon.Spec{Name: "worker", Via: []string{"relay"}, Flags: server},
		daemon.Spec{Name: "site", Embedded: true},
		daemon.Spec{Name: "tab", Embedded: true},
	)
	owner, site, worker := net.Node("owner"), net.Node("site"), net.Node("worker")
	worker.Flags = with(worker.Flags, "--payee", owner.ID.String())
	running(t, net)
	tb := openTab(t, forTabs(net.Node("relay")))
	tb.startWith(net, "tab", map[string]any{"work": true, "payee": site.ID.String()})

	payer := net.Node("submitter")
	id := submit(t, payer, countJob(2, texts(10)...))
	finished(t, payer, id)
	settled(t, payer, id)
	paid := map[string]uint64{}
	for _, task := range job(t, payer, id).TaskInfo {
		if !task.Verified {
			t.Errorf("task %d is not verified", task.Index)
		}
		for _, r := range task.Replicas {
			paid[r.Worker] += r.Paid
		}
	}
	for _, x := range []struct{ worker, payee *daemon.Node }{{worker, owner}, {net.Node("tab"), site}} {
		want := paid[x.worker.ID.String()]
		if want == 0 {
			t.Errorf("%s was not paid", x.worker.Name)
		}
		eventually(t, x.payee.Name+" has what "+x.worker.Name+" earned", func() (bool, string) {
			r, err := daemon.Call(t.Context(), payer.Wallet.Balance, &api.BalanceRequest{Account: x.payee.ID.String()})
			if err != nil {
				return false, err.Error()
			}
			return r.Available+r.Receivable == want, r.String()
		})
		r, err := daemon.Call(t.Context(), payer.Wallet.Balance, &api.BalanceRequest{Account: x.worker.ID.String()})
		if err != nil {
			t.Fatal(err)
		}
		if r.Available+r.Receivable != 0 {
			t.Errorf("%s works for %s and has %d itself", x.worker.Name, x.payee.Name, r.Available+r.Receivable)
		}
	}
	eventually(t, "the owner's node sees its credits", func() (bool, string) {
		r, err := daemon.Call(t.Context(), owner.Wallet.Balance, new(api.BalanceRequest))
		if err != nil {
			return false, err.Error()
		}
		return r.Available == paid[worker.ID.String()], r.String()
	})
}
