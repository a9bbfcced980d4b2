package node

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// syncer reconciles the ledger with peers: on connect, then ever more rarely
// while both sides are equal.
type syncer struct {
	n     *Node
	mu    sync.Mutex
	peers map[peer.ID]*syncPeer
	wake  chan struct{}
}

type syncPeer struct {
	next time.Time
	last time.Time // end of the newest session
	wait time.Duration
	busy bool
}

const (
	syncFirst = 10 * time.Second
	syncLast  = 10 * time.Minute
)

func newSyncer(n *Node) *syncer {
	return &syncer{n: n, peers: map[peer.ID]*syncPeer{}, wake: make(chan struct{}, 1)}
}

func (s *syncer) run(ctx context.Context) error {
	sub, err := s.n.host.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerConnectednessChanged),
	})
	if err != nil {
		return err
	}
	defer sub.Close()
	for _, p := range s.n.host.Network().Peers() {
		s.met(p)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-sub.Out():
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				s.met(e.Peer)
			case event.EvtPeerConnectednessChanged:
				if e.Connectedness == network.NotConnected {
					s.left(e.Peer)
				}
			}
		case <-tick.C:
		}
		for _, p := range s.due(time.Now()) {
			s.n.goDo(func(ctx context.Context) {
				moved, err := s.with(ctx, p)
				if err != nil && ctx.Err() == nil {
					s.n.log.Debug("reconcile", zap.Stringer("peer", p), zap.Error(err))
				}
				s.ended(p, moved)
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers[p] != nil {
		return
	}
	next := time.Now()
	if s.n.self > p {
		next = next.Add(syncFirst)
	}
	s.peers[p] = &syncPeer{next: next, wait: syncFirst}
}

func (s *syncer) left(p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
}

func (s *syncer) due(now time.Time) []peer.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []peer.ID
	for p, sp := range s.peers {
		if !sp.busy && !now.Before(sp.next) && len(out) < 4 {
			sp.busy = true
			out = append(out, p)
		}
	}
	return out
}

// soon plans a session with everybody now: something is known to be missing.
func (s *syncer) soon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, sp := range s.peers {
		if sp.wait = syncFirst; now.Before(sp.next) && now.Sub(sp.last) > time.Second {
			sp.next = now
		}
	}
}

func (s *syncer) ended(p peer.ID, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.peers[p]
	if sp == nil {
		return
	}
	sp.busy = false
	sp.wait = min(2*sp.wait, syncLast)
	if changed {
		sp.wait = syncFirst
	}
	sp.last = time.Now()
	sp.next = sp.last.Add(sp.wait)
}

// with runs one session as the initiator and reports whether the sets differed.
func (s *syncer) with(ctx context.Context, p peer.ID) (moved bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	st, err := s.n.stream(ctx, p, "sync")
	if err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { st.Reset() })()
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		st.Reset()
		return false, err
	}
	if moved, err = s.session(st, salt); err != nil {
		st.Reset()
		return moved, err
	}
	return moved, st.Close() // what was written last may still be on its way
}

// serve runs one session that a peer began.
func (s *syncer) serve(st network.Stream) {
	st.SetDeadline(time.Now().Add(time.Minute))
	if _, err := s.session(st, nil); err != nil {
		st.Reset()
		s.n.log.Debug("reconcile", zap.Stringer("peer", st.Conn().RemotePeer()), zap.Error(err))
		return
	}
	st.Close()
	s.mu.Lock()
	if sp := s.peers[st.Conn().RemotePeer()]; sp != nil && !sp.busy { // their session was ours too
		sp.next = time.Now().Add(sp.wait)
		sp.wait = min(2*sp.wait, syncLast)
	}
	s.mu.Unlock()
}

func (s *syncer) session(st network.Stream, salt []byte) (moved bool, err error) {
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
	out := bufio.NewWriterSize(st, 64<<10)
	in := frames(st, proto.MaxSyncFrame+1024)
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
				return false, fmt.Errorf("events from %s: %w", st.Conn().RemotePeer(), err)
			}
		}
		for _, f := range send {
			moved = moved || len(f.Events) > 0
			if err := proto.WriteFrame(out, f, proto.MaxSyncFrame+1024); err != nil {
				return false, err
			}
		}
		return done, out.Flush()
	}
	done := false
	if salt != nil {
		done, err = step(nil)
	}
	for err == nil && !done {
		var f proto.SyncFrame
		if err = in.Read(&f); err == nil {
			done, err = step(&f)
		}
	}
	return moved, err
}
