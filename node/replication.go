package node

import (
	"bufio"
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
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// syncer reconciles the ledger with peers: on connect, then ever more rarely
// while both sides are equal. A peer has one session in each direction.
type syncer struct {
	n       *Node
	mu      sync.Mutex
	peers   map[peer.ID]*syncPeer
	asking  map[peer.ID]bool // sessions that run and that this node began; guarded by mu
	changed chan struct{}    // a session may be due
	first   atomic.Bool      // a session ran to its end
	serving *places          // that peers began
	agreed  atomic.Bool      // a session with a witness has ended well
	joining *places          // of these and those, the ones that a checkpoint's state comes in
}

type syncPeer struct {
	next time.Time
	last time.Time // end of the newest session
	wait time.Duration
	// mesh is when gossip brings the peer what is new here: until then it is
	// reconciled with as events come.
	mesh time.Time
	news bool // came since the newest session began
}

// syncFirst is the time to the second session with a peer; a variable for tests.
var syncFirst = 10 * time.Second

const (
	syncNews  = 20 * time.Millisecond // between two sessions with a peer that gossip does not reach yet
	syncGreet = time.Minute           // for a peer to tell what it follows
	syncLast  = 10 * time.Minute
	syncTime  = time.Minute      // of a session
	syncFrame = 10 * time.Second // of one frame
	syncWork  = time.Second      // that a frame of events or state may cost the other side
	maxSyncs  = 8                // in each direction, beside those with witnesses
	// maxJoins bounds the sessions in which a checkpoint's state comes at once:
	// each may buffer as much as a whole state.
	maxJoins = 2
	maxSync  = proto.MaxSyncFrame + 1024
)

// meshed is how long gossipsub may take to reach a peer whose topics it knows:
// with a heartbeat the peer is in a mesh, or is told of what passed.
func meshed() time.Duration { return 3 * heartbeat }

// errJoins ends a session through no fault of the other side.
var errJoins = proto.CodeBusy.Errorf("the state already comes from %d other peers", maxJoins)

func newSyncer(n *Node, witness func(peer.ID) bool) *syncer {
	s := &syncer{
		n: n, peers: map[peer.ID]*syncPeer{}, asking: map[peer.ID]bool{}, changed: make(chan struct{}, 1),
		serving: newPlaces(maxSyncs, witness, true), joining: newPlaces(maxJoins, witness, false),
	}
	s.serving.stake = n.stakeWith
	return s
}

func (s *syncer) run(ctx context.Context) error {
	sub, err := s.n.host.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
	})
	if err != nil {
		return err
	}
	defer sub.Close()
	for _, p := range s.n.host.Network().Peers() {
		s.met(p)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(s.pause(time.Now()))
		select {
		case <-ctx.Done():
			return nil
		case e := <-sub.Out():
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				s.met(e.Peer)
			case event.EvtPeerProtocolsUpdated: // it was dialled before it was ready
				s.met(e.Peer)
			case event.EvtPeerConnectednessChanged:
				if e.Connectedness == network.NotConnected {
					s.left(e.Peer)
				}
			}
		case <-s.changed:
		case <-timer.C:
		}
		for _, p := range s.due(time.Now()) {
			s.n.goDo(func(ctx context.Context) {
				moved, err := s.with(ctx, p)
				if err != nil && ctx.Err() == nil {
					s.n.log.Debug("reconcile", zap.Stringer("peer", p), zap.Error(err))
				}
				s.agree(p, err)
				if err == nil {
					s.first.Store(true)
				}
				s.ended(p, moved || proto.CodeOf(err) == proto.CodeBusy)
			})
		}
	}
}

// met plans the first session. Of two peers that met, the one with the lower
// id begins, so that a pair runs one session and not two.
func (s *syncer) met(p peer.ID) {
	protos, err := s.n.host.Peerstore().SupportsProtocols(p, s.n.net.ID.Protocol("sync"))
	if err != nil || len(protos) == 0 {
		return
	}
	greeted := slices.Contains(s.n.pubsub.ListPeers(s.n.net.ID.CreditsTopic()), p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers[p] != nil {
		return
	}
	now := time.Now()
	next := now
	if s.n.self > p {
		next = next.Add(syncFirst)
	}
	sp := &syncPeer{next: next, wait: syncFirst, mesh: now.Add(syncGreet)}
	if greeted {
		sp.mesh = now.Add(meshed())
	}
	s.peers[p] = sp
}

// follows hears that gossipsub knows a peer of the credits topic from now on. At
// the third heartbeat after it at the latest the peer is in the topic's mesh, or
// is told what passed.
func (s *syncer) follows(p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sp := s.peers[p]; sp != nil {
		sp.mesh = time.Now().Add(meshed())
	}
}

// news plans sessions with the peers that gossip does not bring what is new
// here, because they came a moment ago.
func (s *syncer) news() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for p, sp := range s.peers {
		if now.After(sp.mesh) {
			continue
		}
		sp.news = true
		if !s.asking[p] { // else when that one ends
			sp.next = earlier(sp.next, sp.last.Add(syncNews))
			wake(s.changed)
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (s *syncer) left(p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
}

// due takes places for the sessions that are due: all those with witnesses, and
// of the others the ones that wait for the longest.
func (s *syncer) due(now time.Time) []peer.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	witness, taken := s.serving.witness, 0
	for p := range s.asking {
		if !witness(p) {
			taken++
		}
	}
	var out []peer.ID
	for p, sp := range s.peers {
		if !s.asking[p] && !now.Before(sp.next) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b peer.ID) int { return s.peers[a].next.Compare(s.peers[b].next) })
	return slices.DeleteFunc(out, func(p peer.ID) bool {
		if !witness(p) {
			if taken == maxSyncs {
				return true
			}
			taken++
		}
		s.asking[p], s.peers[p].news = true, false
		return false
	})
}

// pause is for how long no session becomes due, a second at most. What is due
// and waits for a place gets one when another session ends.
func (s *syncer) pause(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := time.Second
	for p, sp := range s.peers {
		if d := sp.next.Sub(now); !s.asking[p] && d > 0 {
			wait = min(wait, d)
		}
	}
	return wait
}

// soon plans a session with everybody now: something is known to be missing.
func (s *syncer) soon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, sp := range s.peers {
		if sp.wait = syncFirst; now.Before(sp.next) && now.Sub(sp.last) > time.Second {
			sp.next = now
			wake(s.changed)
		}
	}
}

// ended plans the next session: before long when there may be more to get.
func (s *syncer) ended(p peer.ID, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.asking, p)
	sp := s.peers[p]
	if sp == nil {
		return
	}
	sp.wait = min(2*sp.wait, syncLast)
	if more {
		sp.wait = syncFirst
	}
	sp.last = time.Now()
	sp.next = sp.last.Add(sp.wait)
	if sp.news {
		sp.next = sp.last.Add(syncNews)
		wake(s.changed)
	}
}

// with runs one session as the initiator and reports whether the sets differed.
func (s *syncer) with(ctx context.Context, p peer.ID) (moved bool, err error) {
	sess := newSyncSession(ctx)
	defer sess.end()
	opening, cancel := context.WithTimeout(sess, syncFrame)
	st, err := s.n.stream(opening, p, "sync")
	cancel()
	if err != nil {
		return false, err
	}
	defer context.AfterFunc(sess, func() { st.Reset() })()
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		st.Reset()
		return false, err
	}
	if moved, err = s.session(sess, st, frames(st, maxSync), salt, nil); err != nil {
		st.Reset()
		return moved, err
	}
	return moved, st.Close() // what was written last may still be on its way
}

// serve runs one session that a peer began.
func (s *syncer) serve(st network.Stream) {
	p := st.Conn().RemotePeer()
	st.SetDeadline(time.Now().Add(syncFrame))
	in := frames(st, maxSync)
	first := new(proto.SyncFrame)
	err := in.Read(first) // only then it takes a place
	sess := newSyncSession(s.n.ctx)
	sess.site = siteOf(st.Conn())
	defer sess.end()
	switch {
	case err != nil:
	case !s.serving.take(time.Now(), p, sess):
		err = proto.WriteFrame(st, &proto.SyncFrame{Code: uint32(proto.CodeBusy)}, maxSync)
	default:
		stop := context.AfterFunc(sess, func() { st.Reset() })
		_, err = s.session(sess, st, in, nil, first)
		stop()
		if err == nil {
			s.first.Store(true)
		}
		s.serving.leave(time.Now(), p, sess, err == nil || errors.Is(err, errJoins))
		s.agree(p, err)
		s.served(p, err)
	}
	if err != nil {
		st.Reset()
		s.n.log.Debug("reconcile", zap.Stringer("peer", p), zap.Error(err))
		return
	}
	st.Close()
}

// agree notes that a session came to its end: both sides had the same then.
func (s *syncer) agree(p peer.ID, err error) {
	if err == nil && s.n.net.IsWitness(p) {
		s.agreed.Store(true)
	}
}

// served plans the next session after one that a peer began.
func (s *syncer) served(p peer.ID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sp := s.peers[p]; err == nil && sp != nil && !s.asking[p] && !sp.news { // their session was ours too
		sp.next = time.Now().Add(sp.wait)
		sp.wait = min(2*sp.wait, syncLast)
	}
}

// session runs to its end. The initiator brings a salt, the other side the
// first frame that came.
func (s *syncer) session(run *syncSession, st network.Stream, in *proto.FrameReader, salt []byte, first *proto.SyncFrame) (moved bool, err error) {
	w := s.n.wallet
	w.mu.Lock()
	sess := ledger.NewSync(w.l, salt, salt != nil)
	epoch, base := w.l.Epoch(), w.l.Base()
	w.mu.Unlock()
	defer func() { // checkpoints and state are installed by the session itself
		w.mu.Lock()
		changed := w.l.Epoch() != epoch || w.l.Base() != base
		w.mu.Unlock()
		if changed {
			moved = true
			w.newEpoch()
		}
	}()
	p := st.Conn().RemotePeer()
	joins := false
	defer func() {
		if joins {
			s.joining.leave(time.Now(), p, run, err == nil)
		}
	}()
	out := bufio.NewWriterSize(st, 64<<10)
	step := func(f *proto.SyncFrame) (bool, error) {
		w.mu.Lock()
		send, received, done, err := sess.Step(f)
		w.mu.Unlock()
		if err != nil {
			return false, err
		}
		if len(received) > 0 {
			moved = true
			if err := w.absorb(received); err != nil {
				return false, fmt.Errorf("events from %s: %w", p, err)
			}
		}
		for _, f := range send {
			moved = moved || len(f.Events) > 0
			if f.WantState && !joins {
				if joins = s.joining.take(time.Now(), p, run); !joins {
					return false, errJoins
				}
			}
			st.SetWriteDeadline(time.Now().Add(syncFrame))
			if err := proto.WriteFrame(out, f, maxSync); err != nil {
				return false, err
			}
			run.moved(time.Now())
		}
		err = out.Flush()
		st.SetReadDeadline(time.Now().Add(syncFrame + time.Duration(len(send))*syncWork))
		return done, err
	}
	done, err := step(first)
	for err == nil && !done {
		var f proto.SyncFrame
		if err = in.Read(&f); err == nil {
			run.moved(time.Now())
			done, err = step(&f)
		}
	}
	return moved, err
}
