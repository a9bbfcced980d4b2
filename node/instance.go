package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/multiformats/go-multistream"
	"go.uber.org/zap"

	"edgenet.dev/node/audit"
	"edgenet.dev/proto"
)

// The /instance stream: does another process have this node's key? Two that
// run from copies of one data directory would sign two events for one place, and
// be punished. Neither can dial the other, who has its own peer id, but peers see
// both: a node asks them to pass a question on to whoever else is connected under
// its id. Only a process that has the key and runs now can sign the answer, so a
// peer can keep silent about a copy but not make one up.
//
// Before its first signature a node waits for the answers of so many witnesses
// that one which is honest hears of every copy that could have something
// certified. Later it asks whoever it meets, and everybody now and then.

const (
	instanceLen     = 16
	maxInstance     = 4 << 10                 // bytes of a frame
	maxInstances    = 8                       // connections that a question is passed on to
	instanceAnswer  = 1500 * time.Millisecond // of a process that has the key; a dead connection does not answer
	instanceReply   = 5 * time.Second         // of the peer that passes the question on
	instanceEvery   = 30 * time.Second
	instancePoked   = 5 * time.Second // between two times that all are asked because somebody hints at a copy
	instanceAsked   = 16              // connected peers asked in one round
	instanceMet     = 256             // peers that wait to be asked after they were met
	instanceVoting  = 2 * time.Second // for which a witness keeps silent at most while it waits for others' answers
	instanceRetries = 500 * time.Millisecond
)

// instances notices other processes with this node's key.
type instances struct {
	n    *Node
	id   [instanceLen]byte
	need int // witnesses that have to answer before anything is signed

	poke     chan struct{}
	newcomer chan struct{} // told when a peer was met
	clear    chan struct{} // closed once nobody was found
	found    chan struct{} // closed once somebody was
	copied   atomic.Bool

	mu       sync.Mutex // guards what follows
	answered map[peer.ID]bool
	met      []peer.ID // to be asked soon, each once
}

func newInstances(n *Node) (*instances, error) {
	x := &instances{
		n: n, need: n.net.Quorum(), poke: make(chan struct{}, 1), newcomer: make(chan struct{}, 1), clear: make(chan struct{}), found: make(chan struct{}),
		answered: map[peer.ID]bool{},
	}
	if n.net.IsWitness(n.self) {
		x.need--
	}
	if x.need == 0 { // a single witness has nobody to ask before it signs
		close(x.clear)
	}
	_, err := rand.Read(x.id[:])
	return x, err
}

// run asks until the node ends or a copy is found, after which this process
// signs nothing any more: only a restart asks again.
func (x *instances) run(ctx context.Context) {
	sub, err := x.n.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted), eventbus.BufSize(256))
	if err != nil {
		x.n.log.Error("other processes with this identity are looked for now and then only", zap.Error(err))
	} else {
		defer sub.Close()
		x.n.goDo(func(context.Context) { x.meet(sub) })
	}
	everybody := time.Now() // when all are asked next
	var last time.Time      // when they were asked last
	for {
		if now := time.Now(); now.Before(everybody) {
			x.round(ctx, nil, x.takeMet())
		} else {
			last, everybody = now, now.Add(instanceEvery)
			x.round(ctx, x.n.net.Witnesses, x.n.host.Network().Peers())
		}
		select {
		case <-x.clear:
		default:
			if soon := time.Now().Add(instanceRetries); soon.Before(everybody) {
				everybody = soon
			}
		}
		timer := time.NewTimer(time.Until(everybody))
		select {
		case <-timer.C:
		case <-x.newcomer:
		case <-x.poke:
			// Whoever makes it look does not make it look all the time.
			if soon := last.Add(instancePoked); soon.Before(everybody) {
				everybody = soon
			}
		case <-x.found:
			timer.Stop()
			return
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// meet notes who was identified. It waits for nobody: while one subscriber is
// behind, libp2p identifies no peer at all.
func (x *instances) meet(sub event.Subscription) {
	for e := range sub.Out() {
		e, ok := e.(event.EvtPeerIdentificationCompleted)
		if !ok {
			continue
		}
		x.mu.Lock()
		if len(x.met) < instanceMet && !slices.Contains(x.met, e.Peer) {
			x.met = append(x.met, e.Peer)
		}
		x.mu.Unlock()
		wake(x.newcomer)
	}
}

// takeMet takes those whose turn it is of the peers met.
func (x *instances) takeMet() []peer.ID {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := min(len(x.met), instanceAsked)
	out := slices.Clone(x.met[:n])
	if x.met = slices.Delete(x.met, 0, n); len(x.met) > 0 {
		wake(x.newcomer)
	}
	return out
}

// round asks those of the given witnesses that have not answered yet, and of the
// given peers those that know what to answer.
func (x *instances) round(ctx context.Context, witnesses, peers []peer.ID) {
	ctx, cancel := context.WithTimeout(ctx, instanceReply)
	defer cancel()
	var asking sync.WaitGroup
	ask := func(p peer.ID) {
		asking.Go(func() {
			if err := x.ask(ctx, p); err != nil && ctx.Err() == nil {
				x.n.log.Debug("ask about other processes with this identity", zap.Stringer("peer", p), zap.Error(err))
			}
		})
	}
	x.mu.Lock()
	asked := map[peer.ID]bool{x.n.self: true}
	for _, p := range witnesses {
		if !asked[p] && !x.answered[p] {
			asked[p] = true
			ask(p)
		}
	}
	x.mu.Unlock()
	more := 0
	for _, p := range peers {
		ours, err := x.n.host.Peerstore().SupportsProtocols(p, x.n.net.ID.Protocol("instance"))
		if asked[p] || err != nil || len(ours) == 0 || more == instanceAsked {
			continue
		}
		more++
		ask(p)
	}
	asking.Wait()
}

// ask asks one peer. One that does not know the protocol has said all it can.
func (x *instances) ask(ctx context.Context, p peer.ID) error {
	nonce := make([]byte, instanceLen)
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	s, err := x.n.stream(ctx, p, "instance")
	var unknown multistream.ErrNotSupported[protocol.ID]
	if err != nil && !errors.As(err, &unknown) {
		return err
	}
	r := new(proto.InstanceReply)
	if err == nil {
		defer s.Reset()
		if r, err = question(ctx, s, &proto.InstanceRequest{Nonce: nonce, Id: x.id[:]}); err != nil {
			return err
		}
	}
	for _, raw := range r.Instances[:min(len(r.Instances), maxInstances)] {
		if other, err := x.verify(raw, nonce); err != nil {
			return err // the peer makes something up
		} else if other {
			x.discover(p)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.n.net.IsWitness(p) || x.answered[p] {
		return nil
	}
	x.answered[p] = true
	if len(x.answered) == x.need && !x.copied.Load() {
		close(x.clear)
	}
	return nil
}

// verify checks that a process with this node's key signed raw for nonce, and
// reports whether it is another one.
func (x *instances) verify(raw, nonce []byte) (other bool, err error) {
	s, err := proto.Unseal(x.n.net.ID, raw, proto.KindInstance)
	if err != nil {
		return false, err
	}
	i := s.Payload.GetInstance()
	if s.Signer != x.n.self || !bytes.Equal(i.Nonce, nonce) {
		return false, proto.CodeBadSignature.Errorf("an answer of %s to another question", s.Signer)
	}
	return !bytes.Equal(i.Id, x.id[:]), nil
}

// discover stops all signing and work.
func (x *instances) discover(from peer.ID) {
	if !x.copied.CompareAndSwap(false, true) {
		return
	}
	close(x.found)
	x.n.log.Error(copiedSentence, zap.Stringer("seen_by", from))
	x.n.record(audit.Copied, "account", x.n.self.String(), "seen_by", from.String())
	wake(x.n.halting)
}

const copiedSentence = "another process runs with this identity, from a copy of the data directory, so this one signs nothing and takes no work: " +
	"end the other one, then restart this one; to run both, give one of them an identity of its own with 'edgenetd init' in a fresh directory"

// check returns nil once something may be signed.
func (x *instances) check(ctx context.Context) error {
	select {
	case <-x.clear:
	case <-x.found:
	case <-ctx.Done():
		return fmt.Errorf("ask the witnesses whether this identity runs elsewhere: %w", context.Cause(ctx))
	}
	return x.err()
}

func (x *instances) err() error {
	if x.copied.Load() {
		return proto.CodeConflict.Errorf(copiedSentence)
	}
	return nil
}

// mayVote returns nil once a witness may vote. Witnesses that cannot be reached
// keep it waiting for a moment only.
func (x *instances) mayVote(ctx context.Context) error {
	left := time.Until(x.n.started.Add(instanceVoting))
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-x.clear:
	case <-x.found:
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return x.err()
}

func (n *Node) serveInstance(s network.Stream) {
	if err := n.answerInstance(s); err != nil {
		s.Reset()
		return
	}
	s.Close()
}

func (n *Node) answerInstance(s network.Stream) error {
	s.SetDeadline(time.Now().Add(instanceReply))
	p := s.Conn().RemotePeer()
	if !n.gossip.budgets.asks(p, time.Now()) {
		return proto.CodeRateLimited.Err()
	}
	var q proto.InstanceRequest
	if err := frames(s, maxInstance).Read(&q); err != nil {
		return err
	}
	if len(q.Nonce) != instanceLen || len(q.Id) != instanceLen {
		return proto.CodeMalformed.Err()
	}
	r := new(proto.InstanceReply)
	if q.PassedOn {
		if !bytes.Equal(q.Id, n.instances.id[:]) { // a peer says so: ask for a proof
			wake(n.instances.poke)
		}
		raw, err := n.seal(&proto.Payload{Body: &proto.Payload_Instance{Instance: &proto.Instance{Nonce: q.Nonce, Id: n.instances.id[:]}}})
		if err != nil {
			return err
		}
		r.Instances = append(r.Instances, raw)
	} else {
		r.Instances = n.othersOf(s.Conn(), &q)
	}
	return proto.WriteFrame(s, r, maxInstance)
}

// othersOf passes a question on over the other connections of the peer that
// asks. What comes back is for that peer to judge.
func (n *Node) othersOf(own network.Conn, q *proto.InstanceRequest) [][]byte {
	ctx, cancel := context.WithTimeout(n.ctx, instanceAnswer)
	defer cancel()
	answers := make(chan []byte, maxInstances)
	asked := 0
	for _, c := range n.host.Network().ConnsToPeer(own.RemotePeer()) {
		if c == own || asked == maxInstances {
			continue
		}
		asked++
		n.goDo(func(context.Context) {
			raw, err := n.passOn(ctx, c, q)
			if err != nil {
				n.log.Debug("another connection of a peer", zap.Stringer("peer", own.RemotePeer()), zap.Error(err))
			}
			answers <- raw
		})
	}
	var out [][]byte
	for range asked {
		if raw := <-answers; raw != nil {
			out = append(out, raw)
		}
	}
	return out
}

func (n *Node) passOn(ctx context.Context, c network.Conn, q *proto.InstanceRequest) ([]byte, error) {
	s, err := c.NewStream(network.WithAllowLimitedConn(ctx, "edgenet"))
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	// The host's own NewStream would choose the connection.
	if err := multistream.SelectProtoOrFail(n.net.ID.Protocol("instance"), s); err != nil {
		return nil, err
	}
	r, err := question(ctx, s, &proto.InstanceRequest{Nonce: q.Nonce, Id: q.Id, PassedOn: true})
	if err != nil {
		return nil, err
	}
	if len(r.Instances) != 1 {
		return nil, proto.CodeMalformed.Err()
	}
	return r.Instances[0], nil
}

func question(ctx context.Context, s network.Stream, q *proto.InstanceRequest) (*proto.InstanceReply, error) {
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	if err := proto.WriteFrame(s, q, maxInstance); err != nil {
		return nil, err
	}
	r := new(proto.InstanceReply)
	if err := frames(s, maxInstance).Read(r); err != nil {
		return nil, err
	}
	return r, nil
}
