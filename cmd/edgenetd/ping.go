package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edgenet.dev/proto/api"
)

type pingView struct {
	PeerID    string `json:"peer_id"`
	RTTMicros uint64 `json:"rtt_us"`
	Address   string `json:"address"`
	Relayed   bool   `json:"relayed"`
}

func (a *app) pingCmd() *cobra.Command {
	var count uint32
	c := &cobra.Command{
		Use: "ping PEER", Short: "Measure the way to a peer, given by its id or a multiaddr", Args: takes(1, 1, "a PEER"),
		RunE: func(c *cobra.Command, args []string) error { return a.ping(c.Context(), args[0], count) },
	}
	c.Flags().Uint32Var(&count, "count", 3, "how often to ask")
	return c
}

func (a *app) ping(ctx context.Context, peer string, count uint32) error {
	if count < 1 || count > 1000 {
		return failf(exitUsage, "--count %d: want 1 to 1000", count)
	}
	if !strings.HasPrefix(peer, "/") { // else the daemon reads the multiaddr
		if err := checkPeer(peer); err != nil {
			return err
		}
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	list := []pingView{}
	for i := range count {
		if i > 0 {
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		p, err := call(ctx, d.nodes.Ping, &api.PingRequest{Peer: peer})
		if err != nil {
			return err
		}
		list = append(list, pingView{p.Id, p.RttUs, p.Address, p.Relayed})
	}
	return a.print(report{data: list, ids: []string{list[0].PeerID}, table: func(w io.Writer) {
		row(w, "PEER", "RTT", "RELAYED", "ADDRESS")
		for _, p := range list {
			row(w, p.PeerID, fmt.Sprint(time.Duration(p.RTTMicros)*time.Microsecond), yesNo(p.Relayed), dash(p.Address))
		}
	}})
}
