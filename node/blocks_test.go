//go:build !js

package node_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/node/audit"
	"edgenet.dev/node/blocklist"
	"edgenet.dev/proto"
)

func block(t *testing.T, n *node.Node, kind blocklist.Kind, value string, force bool) {
	t.Helper()
	e, err := blocklist.New(kind, value)
	if err != nil {
		t.Fatal(err)
	}
	e.Reason = "a test"
	if _, _, err := n.Block(context.Background(), e, force); err != nil {
		t.Fatal(err)
	}
}

func unblock(t *testing.T, n *node.Node, kind blocklist.Kind, value string) {
	t.Helper()
	if _, err := n.Unblock(context.Background(), kind, value); err != nil {
		t.Fatal(err)
	}
}

func infoOf(t *testing.T, n *node.Node) peer.AddrInfo {
	t.Helper()
	info, err := peer.AddrInfoFromString(n.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	return *info
}

func knows(n *node.Node, id peer.ID) bool {
	return slices.ContainsFunc(n.KnownPeers(), func(p node.PeerInfo) bool { return p.ID == id && !p.Seen.IsZero() })
}

// A peer or an address that is blocked is hung up on at once and can neither be
// dialled nor dial, until the entry is gone. Others are not touched.
func TestBlockedConnections(t *testing.T) {
	node.LookAtBlocks(t, time.Hour) // what is seen here is not the later look
	l := newLab(t, 3)
	l.startAll(3, func(i int, c *node.Config) { c.DHT = "off" })
	a, b := l.nodes[1], l.nodes[2]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	meet := func() {
		t.Helper()
		if _, _, err := a.ConnectPeer(ctx, b.Addrs()[0]); err != nil {
			t.Fatal(err)
		}
		until(t, "they are connected", func() bool { return connected(a, b.ID()) && connected(b, a.ID()) })
	}
	for _, x := range []struct {
		kind  blocklist.Kind
		value string
		near  string // and this one is not it
		force bool
	}{
		{blocklist.Peer, b.ID().String(), someID(t).String(), false},
		{blocklist.Subnet, "127.0.0.0/8", "127.0.0.2", true},
	} {
		t.Run(string(x.kind), func(t *testing.T) {
			meet()
			until(t, "it is remembered", func() bool { return knows(a, b.ID()) })
			block(t, a, x.kind, x.near, false)
			if !connected(a, b.ID()) {
				t.Error("somebody else is hung up on")
			}
			block(t, a, x.kind, x.value, x.force)
			until(t, "the connection ends on both sides", func() bool { return !connected(a, b.ID()) && !connected(b, a.ID()) })
			if x.kind == blocklist.Peer && (!connected(a, l.nodes[0].ID()) || knows(a, b.ID())) {
				t.Error("the witness is hung up on, or the blocked peer is remembered")
			}
			if slices.Contains(a.Redials(), b.ID()) {
				t.Error("it would be dialled again")
			}
			if err := a.Dial(ctx, infoOf(t, b)); !errors.Is(err, swarm.ErrGaterDisallowedConnection) {
				t.Errorf("it is dialled: %v", err)
			}
			before := a.Counts().Blocked[string(x.kind)]
			_ = b.Dial(ctx, infoOf(t, a)) // the one that dials may learn a moment later that nobody is there
			until(t, "a call from there is counted", func() bool { return a.Counts().Blocked[string(x.kind)] > before })
			until(t, "and it ended", func() bool { return !connected(b, a.ID()) })
			if connected(a, b.ID()) {
				t.Error("it can dial")
			}
			for what, err := range map[string]error{
				"connect": second(a.ConnectPeer(ctx, b.Addrs()[0])),
				"ping":    first(a.Ping(ctx, infoOf(t, b))),
			} {
				if proto.CodeOf(err) != proto.CodeBlocked || !strings.Contains(err.Error(), string(x.kind)+" "+x.value+" is blocked by this node's operator (a test)") {
					t.Errorf("%s: %v", what, err)
				}
			}
			if x.kind == blocklist.Peer {
				if _, err := a.FindPeer(ctx, b.ID()); proto.CodeOf(err) != proto.CodeBlocked {
					t.Errorf("find: %v", err)
				}
			}
			unblock(t, a, x.kind, x.value)
			unblock(t, a, x.kind, x.near)
			meet()
		})
	}
}

func first[T any](_ T, err error) error { return err }

func second[T, U any](_ T, _ U, err error) error { return err }

// What a blocked peer says is not heard, whoever passes it on, and that costs
// the one who does nothing. What a blocked submitter says is passed on.
func TestBlockedAuthorsAreNotHeard(t *testing.T) {
	l := newLab(t, 4)
	n := l.start(0, func(c *node.Config) { c.Relay = true })
	later := time.Now().Add(time.Hour)
	id := func(i int) string {
		id, err := peer.IDFromPrivateKey(l.keys[i])
		if err != nil {
			t.Fatal(err)
		}
		return id.String()
	}
	block(t, n, blocklist.Peer, id(1), false)
	block(t, n, blocklist.Submitter, id(2), false)
	neighbour := someID(t)
	for i, want := range map[int]pubsub.ValidationResult{1: pubsub.ValidationIgnore, 2: pubsub.ValidationAccept, 3: pubsub.ValidationAccept} {
		if got := n.HearOffer(neighbour, l.offer(l.keys[i], later)); got != want {
			t.Errorf("an offer of %d: %v, want %v", i, got, want)
		}
	}
	if got := n.Counts().Blocked[string(blocklist.Peer)]; got != 1 {
		t.Errorf("%d messages are counted", got)
	}
	unblock(t, n, "", id(1))
	if got := n.HearOffer(neighbour, l.offer(l.keys[1], later)); got != pubsub.ValidationAccept {
		t.Errorf("an offer of one that is not blocked any more: %v", got)
	}
}

// Work of a blocked submitter, or with a blocked module, is not claimed and, where
// there is a lease from before, refused with the reason; it is done once that ends.
func TestBlockedWorkIsNotDone(t *testing.T) {
	l := newLab(t, 3)
	l.startAll(3, func(i int, c *node.Config) { c.Linger = time.Minute })
	payer, worker := l.nodes[1], l.nodes[2]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	job := func() proto.JobID {
		t.Helper()
		id, err := payer.Start(ctx, node.JobSpec{Type: "text", Inputs: [][]byte{[]byte(text)}, Options: market.Options{Redundancy: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	done := func(id proto.JobID) {
		t.Helper()
		if err := payer.Wait(ctx, id); err != nil {
			t.Fatal(err)
		}
		if v, _, err := payer.Job(id); err != nil || v.Record.State != market.Done {
			t.Fatalf("the job is %s: %v", v.Record.State, err)
		}
	}
	done(job()) // the worker has a lease of the payer, which lasts
	for _, x := range []struct {
		kind  blocklist.Kind
		value string
	}{{blocklist.Submitter, payer.ID().String()}, {blocklist.Module, "text"}} {
		block(t, worker, x.kind, x.value, false)
		id := job()
		l.until("the assignment is refused", func() bool {
			v, _, err := payer.Job(id)
			return err == nil && len(v.Lost) > 0 && v.Lost[0].Code == proto.CodeBlocked && strings.Contains(v.Lost[0].Reason, "the operator of this worker blocks this "+string(x.kind))
		})
		before := worker.Counts().Blocked[string(x.kind)]
		l.until("the offer is turned away", func() bool { return worker.Counts().Blocked[string(x.kind)] > before })
		if why := worker.Stats().Worker.Why; !strings.Contains(why, "blocks this "+string(x.kind)) {
			t.Errorf("the worker says %q", why)
		}
		unblock(t, worker, x.kind, x.value)
		done(id)
	}
	// It keeps nobody from submitting what he refuses to do for others.
	block(t, payer, blocklist.Module, "text", false)
	done(job())
}

// The list is in a file that survives a restart, and is read again when somebody
// changes it or asks for it. A bad line leaves what was in force.
func TestBlockedFile(t *testing.T) {
	l := newLab(t, 1)
	dir := t.TempDir()
	path := filepath.Join(dir, blocklist.Name)
	start := func() *node.Node {
		return l.start(0, func(c *node.Config) { c.Dir, c.Record = dir, audit.Open(dir).Add })
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	values := func(n *node.Node) string {
		entries, _ := n.Blocks()
		var out []string
		for _, e := range entries {
			out = append(out, e.Value)
		}
		return strings.Join(out, " ")
	}
	node.LookAtBlocks(t, 20*time.Millisecond)
	n := start()
	payer := someID(t)
	block(t, n, blocklist.Subnet, "192.0.2.1", false)
	block(t, n, blocklist.Submitter, payer.String(), false)
	l.stops[0]()
	n = start()
	if got := values(n); got != "192.0.2.1/32 "+payer.String() || !n.Worker().Blocked.Submitters[payer] {
		t.Fatalf("after a restart %q is blocked", got)
	}
	write("192.0.2.2\n192.0.2.3\n")
	l.until("the file is read again", func() bool { return values(n) == "192.0.2.2/32 192.0.2.3/32" })
	write("192.0.2.4\nnothing\n")
	l.until("the bad line is told", func() bool {
		_, problem := n.Blocks()
		return strings.Contains(problem, "line 2: \"nothing\" is no peer id")
	})
	if got := values(n); got != "192.0.2.2/32 192.0.2.3/32" {
		t.Errorf("with a bad line %q is blocked", got)
	}
	write("192.0.2.2 until=" + time.Now().Add(2*time.Second).UTC().Format(time.RFC3339) + "\n")
	l.until("the end of an entry is heard", func() bool { _, problem := n.Blocks(); return values(n) == "192.0.2.2/32" && problem == "" })
	l.until("it ends", func() bool { return values(n) == "" })
	l.stops[0]()

	node.LookAtBlocks(t, time.Hour)
	n = start()
	write("192.0.2.5\n")
	n.ReloadBlocks()
	l.until("the file is read when asked for", func() bool { return values(n) == "192.0.2.5/32" })
	write("192.0.2.66\n")
	if err := n.LookOnce(t.Context()); err != nil || values(n) != "192.0.2.5/32" {
		t.Errorf("%v: while somebody may write %q is blocked", err, values(n))
	}
	if err := n.LookOnce(t.Context()); err != nil || values(n) != "192.0.2.66/32" {
		t.Errorf("%v: once it stays as it is %q is blocked", err, values(n))
	}
	write("192.0.2.6\n")
	block(t, n, blocklist.Subnet, "192.0.2.7", false)
	if got := values(n); got != "192.0.2.6/32 192.0.2.7/32" {
		t.Errorf("after an entry beside what somebody wrote meanwhile %q is blocked", got)
	}
	entries, _, err := audit.Open(dir).Verify()
	if err != nil {
		t.Fatal(err)
	}
	var acts []string
	for _, e := range entries {
		acts = append(acts, e.Act)
	}
	if got := strings.Join(acts, " "); got != "block.add block.add block.reload block.reload block.reload block.reload block.add" {
		t.Errorf("the audit log has %s", got)
	}
}

// Nobody blocks himself, and what cuts a node off is done by force only.
func TestBlockingOneselfIsRefused(t *testing.T) {
	l := newLab(t, 2)
	l.startAll(2, nil)
	witness, n := l.nodes[0], l.nodes[1]
	ctx := context.Background()
	for _, x := range []struct {
		kind   blocklist.Kind
		value  string
		forced bool // it is done then
		why    string
	}{
		{blocklist.Peer, n.ID().String(), false, "is this node itself"},
		{blocklist.Submitter, n.ID().String(), false, "is this node itself"},
		{blocklist.Subnet, "::/0", true, "is every address there is"},
		{blocklist.Subnet, "127.0.0.1", true, "is the address of " + witness.ID().String() + ", a witness"},
		{blocklist.Peer, witness.ID().String(), true, "is a witness of this network, which certifies with 1 of 1"},
	} {
		e, err := blocklist.New(x.kind, x.value)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := n.Block(ctx, e, false); err == nil || !strings.Contains(err.Error(), x.why) {
			t.Errorf("%s: %v", e, err)
		}
		_, notes, err := n.Block(ctx, e, true)
		if x.forced != (err == nil) {
			t.Errorf("%s by force: %v", e, err)
		}
		if x.value == witness.ID().String() && (len(notes) != 1 || !strings.Contains(notes[0], "'bootstrap' names "+x.value)) {
			t.Errorf("notes on a bootstrap peer: %q", notes)
		}
	}
}
