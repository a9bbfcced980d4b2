package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/ipfs/go-cid"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/transport"
)

// Node is one participant. Its methods are safe for concurrent use.
type Node struct {
	cfg      Config
	addrs    parsed
	self     peer.ID
	net      *proto.Network
	log      *zap.Logger
	started  time.Time
	builtins map[proto.Hash][]byte
	needs    *lru.Cache[cid.Cid, need] // of modules submitted here

	kv    kv
	store ledger.Store

	// Owned by Run, set before ready is closed.
	host   host.Host
	dht    kademlia // nil when off, and in tabs
	pubsub *pubsub.PubSub
	gossip *gossip

	jobs      *jobs        // the market machine and what hangs on it
	wallet    *wallet      // the ledger, its author and, if named so, its witness
	leases    *leases      // streams to workers
	work      *work        // streams from submitters, executions
	claims    *claims      // proof of this worker's unpaid work
	evidence  *evidence    // of wrong results
	sync      *syncer      // reconciliation
	light     *lightClient // nil but on a light node
	standings *standings   // of others; nil but on a light node
	traffic   *bandwidth
	activity  *activity
	health    *healthCheck
	reachable atomic.Int32                  // network.Reachability
	peerbook  *peerbook                     // of earlier connections
	silent    rarely                        // peers that do not answer, for the log
	paused    atomic.Bool                   // by Pause
	offered   atomic.Pointer[market.Worker] // what the market offers for this node
	settings  atomic.Pointer[market.Worker] // what was asked for: offered, unless the node is halted
	applying  sync.Mutex                    // orders changes of offered
	instances *instances                    // other processes with this key
	blocks    *blocks                       // what the operator refuses to deal with
	frozen    atomic.Bool                   // this account is
	halting   chan struct{}                 // something may keep the node from working
	serving   *serving                      // blobs being served
	secret    []byte                        // of the keys for its blobs
	walks     walks                         // for those who ask the directory
	proving   *serving                      // proofs being made
	failing   chan struct{}                 // an execution failed for a reason of this machine's own
	fault     atomic.Pointer[string]        // what the worker's self-test found, "" for nothing
	sizes     storeSizes

	ready    chan struct{}
	running  atomic.Bool
	group    *errgroup.Group // every goroutine; owned by Run
	ctx      context.Context // of group
	handlers sync.WaitGroup  // stream handlers that libp2p started
	closing  sync.Mutex      // guards stopped against handlers.Add
	stopped  bool
	cancel   context.CancelFunc
	done     chan struct{} // closed when Run returned
	close    sync.Once
	closeErr error
	held     io.Closer // the data directory's lock, of a node that Open made
}

// ErrClosed is returned by calls on a node that is not running any more.
var ErrClosed = errors.New("node is closed")

// PortTakenError is what Run fails with when another process listens on an
// address of Config.Listen.
type PortTakenError = transport.PortTakenError

// New validates cfg, opens the stores and replays the ledger. It starts no
// goroutine of its own. When it fails, cfg.Store is still the caller's.
func New(cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	addrs, err := cfg.parse()
	if err != nil {
		return nil, err
	}
	self, err := peer.IDFromPrivateKey(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("node: key: %w", err)
	}
	store := cfg.Store
	if store == nil {
		store = mem.New()
	}
	n := &Node{
		cfg: cfg, addrs: addrs, self: self, net: cfg.Network, log: cfg.Log,
		started: time.Now(), builtins: builtinBlobs(), store: store,
		traffic: newBandwidth(cfg.Bandwidth), activity: newActivity(cfg.Log), health: newHealthCheck(),
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	n.serving = newServing(maxBlobStreams, maxBlobsOfPeer, blobTurn, cfg.Network.IsWitness, n.stakeWith)
	n.walks.serving = newServing(maxWalks, 1, directoryWait, func(peer.ID) bool { return false }, n.stakeWith)
	n.proving = newServing(maxProofs, maxProofsOf, proofTurn, cfg.Network.IsWitness, func(id peer.ID) proto.Credit { return n.wallet.worth(id) })
	if n.secret, err = blobSecret(cfg); err != nil {
		return nil, err
	}
	if n.blocks, err = newBlocks(n); err != nil {
		return nil, err
	}
	n.cfg.Worker.Blocked = n.blocks.work()
	n.offered.Store(&n.cfg.Worker)
	if n.needs, err = lru.New[cid.Cid, need](needsKept); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	n.settings.Store(&n.cfg.Worker)
	n.halting, n.failing = make(chan struct{}, 1), make(chan struct{}, 1)
	n.fault.Store(new(string))
	if n.instances, err = newInstances(n); err != nil {
		return nil, err
	}
	if n.kv, err = openKV(cfg.Dir); err != nil {
		return nil, err
	}
	fail := func(err error) (*Node, error) {
		return nil, errors.Join(err, n.kv.close())
	}
	if err := n.belong(); err != nil {
		return fail(err)
	}
	n.peerbook = newPeerbook(n)
	n.silent = newRarely()
	if err := n.peerbook.load(); err != nil {
		return fail(err)
	}
	if cfg.Light {
		n.light = newLightClient(n)
		n.standings = newStandings(n)
	}
	if n.wallet, err = newWallet(n); err != nil {
		return fail(err)
	}
	if err := n.wallet.afterRestore(); err != nil {
		return fail(err)
	}
	if n.jobs, err = newJobs(n); err != nil {
		return fail(err)
	}
	n.leases = newLeases(n)
	n.work = newWork(n)
	n.claims = newClaims(n)
	if err := n.claims.load(); err != nil {
		return fail(err)
	}
	n.evidence = newEvidence(n)
	n.sync = newSyncer(n, n.net.IsWitness)
	return n, nil
}

// Run starts the node and blocks until ctx ends or Close is called (nil), or a
// part fails for good.
func (n *Node) Run(ctx context.Context) error {
	if !n.running.CompareAndSwap(false, true) {
		return errors.New("node: Run was called before")
	}
	defer close(n.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.closing.Lock()
	if n.stopped {
		n.closing.Unlock()
		return ErrClosed
	}
	n.cancel = cancel
	n.group, n.ctx = errgroup.WithContext(ctx)
	n.traffic.ctx = n.ctx
	n.closing.Unlock()

	err := n.start()
	if err == nil {
		close(n.ready)
		<-n.ctx.Done()
	}
	stopErr := n.stop(cancel)
	if err != nil {
		return err
	}
	return stopErr
}

// Up runs the node in the background and returns once it is ready, or with
// what kept it from starting. Close ends it and waits.
func (n *Node) Up(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	select {
	case <-n.ready:
		return nil
	case err := <-ended:
		if err == nil {
			err = ErrClosed
		}
		return err
	}
}

// start brings up host, discovery, gossip and streams, then the loops.
func (n *Node) start() error {
	if err := n.openHost(); err != nil {
		return err
	}
	if err := n.openGossip(); err != nil {
		return err
	}
	if err := n.jobs.begin(n.ctx); err != nil {
		return err
	}
	n.handle("task", n.work.serve)
	n.handle("blob", n.serveBlob)
	n.handle("vote", n.wallet.votes.serve)
	if n.light == nil { // whom peers do not ask for sync, they do not expect to follow the credits topic
		n.handle("sync", n.sync.serve)
		n.handle("proof", n.serveProof)
		n.goRun("sync", n.sync.run)
	} else {
		n.goDo(n.light.run)
		n.goDo(n.standings.run)
	}
	n.handle("directory", n.serveDirectory)
	n.handle("clock", n.serveClock)
	n.handle("instance", n.serveInstance)
	n.goDo(n.instances.run)
	n.goDo(n.watchHalt)
	if n.cfg.Executor != nil {
		n.goDo(n.watchHealth)
	}

	n.goRun("jobs", n.jobs.run)
	n.goDo(n.jobs.retain)
	n.goRun("wallet", n.wallet.run)
	n.goRun("peerbook", n.peerbook.run)
	n.goRun("connections", n.keepConnected)
	n.goRun("discovery", n.discover)
	n.goRun("gossip", n.gossip.run)
	n.goRun("leases", n.leases.run)
	n.goRun("activity", n.watchActivity)
	n.goDo(n.protect)
	n.blocks.run()
	n.goDo(n.claims.run)
	n.goDo(n.evidence.run)
	if n.wallet.witness != nil && n.cfg.Executor != nil {
		n.goDo(n.evidence.judge)
	}
	return nil
}

// stop ends in the reverse order: no new streams, loops, then the host.
func (n *Node) stop(cancel context.CancelFunc) error {
	cancel()
	n.closing.Lock()
	n.stopped = true
	n.closing.Unlock()
	var errs []error
	if n.host != nil {
		for _, p := range []string{"task", "blob", "sync", "vote", "proof", "directory", "clock", "instance"} {
			n.host.RemoveStreamHandler(n.net.ID.Protocol(p))
		}
	}
	if err := n.group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		errs = append(errs, err)
	}
	if n.dht != nil {
		errs = append(errs, n.dht.Close())
	}
	if n.host != nil {
		errs = append(errs, n.host.Close()) // resets streams, so handlers end
	}
	n.handlers.Wait()
	return errors.Join(errs...)
}

// Close ends Run, waits for it and closes the stores. It may be called at any
// time and more than once.
func (n *Node) Close() error {
	n.close.Do(func() {
		n.closing.Lock()
		n.stopped = true
		if n.cancel != nil {
			n.cancel()
		}
		n.closing.Unlock()
		if n.running.Load() {
			<-n.done
		}
		n.closeErr = errors.Join(n.kv.close(), n.store.Close())
		if n.held != nil {
			n.closeErr = errors.Join(n.closeErr, n.held.Close())
		}
	})
	return n.closeErr
}

// goRun starts a loop of the node. When it fails, the node ends.
func (n *Node) goRun(name string, run func(context.Context) error) {
	n.group.Go(func() error {
		if err := run(n.ctx); err != nil && n.ctx.Err() == nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// goDo starts a piece of work that cannot fail the node.
func (n *Node) goDo(work func(context.Context)) {
	n.group.Go(func() error {
		work(n.ctx)
		return nil
	})
}

// Ready is closed once the node listens and its loops run. It does not wait
// for peers.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// ID is the node's peer id, which is also its account.
func (n *Node) ID() peer.ID { return n.self }

// Network is the network the node belongs to.
func (n *Node) Network() *proto.Network { return n.net }
