//go:build !js

package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/proto/api/apiconnect"
)

// Sizes and times that bound what a local client can ask of the daemon.
const (
	maxMessage   = 128 << 20 // one request: a batch with its inputs
	maxHeader    = 64 << 10
	maxList      = 10_000
	waitingLook  = 500 * time.Millisecond // between two looks at whom a job could run on
	watchPause   = 50 * time.Millisecond  // between two messages of one Watch
	stopGrace    = 2 * time.Second
	readHeaderIn = 10 * time.Second
)

type server struct {
	node     *node.Node
	version  string
	stop     func()
	started  time.Time
	settings []*api.Setting
}

// Serve answers on ln until ctx ends, then lets running calls finish for two
// seconds. stop is called by the Stop method and must not block. Serve closes
// ln and returns nil when ctx ended. settings are what the node was configured
// with, for the Settings method.
func Serve(ctx context.Context, ln net.Listener, n *node.Node, version string, stop func(), settings ...*api.Setting) error {
	s := &server{node: n, version: version, stop: stop, started: time.Now(), settings: settings}
	srv := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: readHeaderIn,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		srv.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	with := connect.WithHandlerOptions(connect.WithReadMaxBytes(maxMessage), connect.WithInterceptors(mending{}))
	mux.Handle(apiconnect.NewNodeServiceHandler(s, with))
	mux.Handle(apiconnect.NewTaskServiceHandler(taskServer{s}, with))
	mux.Handle(apiconnect.NewWalletServiceHandler(walletServer{s}, with))
	return mux
}

func (s *server) Status(_ context.Context, req *connect.Request[api.StatusRequest]) (*connect.Response[api.StatusReply], error) {
	st, network := s.node.Stats(), s.node.Network()
	reply := &api.StatusReply{
		PeerId:          s.node.ID().String(),
		NetworkId:       network.ID.String(),
		NetworkName:     network.Genesis.Name,
		Version:         s.version,
		Pid:             int32(os.Getpid()),
		UptimeMs:        uint64(time.Since(s.started).Milliseconds()),
		Addresses:       s.node.Addrs(),
		Peers:           int32(st.Peers),
		DhtPeers:        int32(st.DHTPeers),
		OfferTopicPeers: int32(st.OfferTopicPeers),
		Witness:         st.Witness,
		StateHash:       s.node.StateHash().String(),
		Events:          uint64(st.Events),
		RssBytes:        residentBytes(),
		BytesIn:         st.BytesIn,
		BytesOut:        st.BytesOut,
		Problems:        st.Problems,
		Worker: &api.WorkerStatus{
			Enabled:     st.Worker.Enabled,
			Slots:       int32(st.Worker.Slots),
			Busy:        int32(st.Worker.Busy),
			TasksDone:   st.Worker.Done,
			TasksFailed: st.Worker.Failed,
			Types:       st.Worker.Types,
			Why:         st.Worker.Why,
		},
	}
	if req.Msg.Served {
		reply.Worker.Served = s.node.Served()
	}
	for _, x := range s.node.Stores() {
		reply.Stores = append(reply.Stores, &api.StoreSize{Name: x.Name, Bytes: x.Bytes, Limit: x.Limit})
	}
	blocked, problem := s.node.Blocks()
	reply.Blocked, reply.BlockedProblem = uint32(len(blocked)), problem
	for _, g := range st.Gossip {
		reply.Gossip = append(reply.Gossip, &api.GossipCount{Topic: g.Topic, Sent: g.Sent, Received: g.Received})
	}
	return connect.NewResponse(reply), nil
}

// residentBytes is the process's memory as the kernel counts it, 0 where
// there is no /proc.
func residentBytes() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

func (s *server) Peers(_ context.Context, req *connect.Request[api.PeersRequest]) (*connect.Response[api.PeersReply], error) {
	reply := new(api.PeersReply)
	list := s.node.Peers
	if req.Msg.Known {
		list = s.node.KnownPeers
	}
	for _, p := range list() {
		out := &api.Peer{
			Id: p.ID.String(), Addresses: p.Addrs, Agent: p.Agent, Direction: p.Direction,
			RttUs: uint64(max(0, p.RTT.Microseconds())), Relayed: p.Relayed, Connected: p.Connected,
		}
		if !p.Seen.IsZero() {
			out.SeenUnixMs = uint64(p.Seen.UnixMilli())
		}
		reply.Peers = append(reply.Peers, out)
	}
	return connect.NewResponse(reply), nil
}

func (s *server) Connect(ctx context.Context, req *connect.Request[api.ConnectRequest]) (*connect.Response[api.ConnectReply], error) {
	id, addr, err := s.node.ConnectPeer(ctx, req.Msg.Address)
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(&api.ConnectReply{Id: id.String(), Address: addr}), nil
}

func (s *server) Forget(_ context.Context, req *connect.Request[api.ForgetRequest]) (*connect.Response[api.ForgetReply], error) {
	id, err := parsePeer(req.Msg.Id)
	if err != nil {
		return nil, failure(err)
	}
	known, bootstrap, err := s.node.ForgetPeer(id)
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(&api.ForgetReply{Known: known, Bootstrap: bootstrap}), nil
}

func (s *server) Invite(_ context.Context, req *connect.Request[api.InviteRequest]) (*connect.Response[api.InviteReply], error) {
	var referrer peer.ID
	if !req.Msg.Anonymous {
		referrer = s.node.ID()
	}
	i, err := s.node.Invite(req.Msg.Addresses, referrer)
	if err != nil {
		return nil, failure(err)
	}
	reply := &api.InviteReply{Invite: i.String()}
	for _, a := range i.Peers {
		reply.Addresses = append(reply.Addresses, a.String())
	}
	return connect.NewResponse(reply), nil
}

func (s *server) Stop(context.Context, *connect.Request[api.StopRequest]) (*connect.Response[api.StopReply], error) {
	s.stop()
	return connect.NewResponse(new(api.StopReply)), nil
}

func (s *server) FindPeer(ctx context.Context, req *connect.Request[api.FindPeerRequest]) (*connect.Response[api.FindPeerReply], error) {
	id, err := parsePeer(req.Msg.Id)
	if err != nil {
		return nil, failure(err)
	}
	info, err := s.node.FindPeer(ctx, id)
	if err != nil {
		return nil, failure(err)
	}
	reply := new(api.FindPeerReply)
	for _, a := range info.Addrs {
		reply.Addresses = append(reply.Addresses, a.String())
	}
	return connect.NewResponse(reply), nil
}

// parsePeer reads the text form of a peer id and takes Ed25519 ids only, as
// every account is one.
func parsePeer(text string) (peer.ID, error) {
	if len(text) > 128 {
		return "", proto.CodeMalformed.Errorf("peer id of %d characters: want one like 12D3KooW…", len(text))
	}
	id, err := peer.Decode(text)
	if err != nil {
		return "", proto.CodeMalformed.Errorf("peer id %q: want one like 12D3KooW…", text)
	}
	return proto.ParsePeer([]byte(id))
}
