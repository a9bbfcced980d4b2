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

func (a *app) peersCmd() *cobra.Command {
	var find string
	var known bool
	c := &cobra.Command{
		Use: "peers", Short: "List connected peers, find, connect or forget one", Args: takes(0, 0, ""),
		Long: `Lists the connected peers. A daemon remembers the peers of its network that it
was connected to and dials them again after a restart; --known lists those, too.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if find != "" {
				if err := checkPeer(find); err != nil {
					return err
				}
			}
			d, err := a.daemon(c.Context())
			if err != nil {
				return err
			}
			if find != "" {
				return a.findPeer(c.Context(), d, find)
			}
			return a.peers(c.Context(), d, known)
		},
	}
	c.Flags().StringVar(&find, "find", "", "peer id whose addresses to look up in the DHT")
	c.Flags().BoolVar(&known, "known", false, "list remembered peers, too")
	c.AddCommand(
		&cobra.Command{
			Use: "connect ADDRESS", Short: "Dial a peer and remember it", Args: takes(1, 1, "one ADDRESS"),
			Long: "Dials a peer at a multiaddr that ends in /p2p/ and its id, as 'edgenetd id' prints it\nthere. A peer that answers is remembered and dialled again after a restart.",
			RunE: func(c *cobra.Command, args []string) error { return a.connectPeer(c.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "forget PEER", Short: "Hang up on a peer and forget its addresses", Args: takes(1, 1, "one PEER id"),
			Long: "Ends the connections to a peer and forgets its addresses. It is no ban, as 'block\nadd' is: the peer may connect again, and a peer of 'bootstrap' is dialled again.",
			RunE: func(c *cobra.Command, args []string) error { return a.forgetPeer(c.Context(), args[0]) },
		})
	return c
}

func checkPeer(text string) error {
	if _, err := parseAccount(text); err != nil {
		return failf(exitUsage, "%q is no peer id such as 12D3KooW…, as 'edgenetd id' prints it", text)
	}
	return nil
}

func (a *app) connectPeer(ctx context.Context, addr string) error {
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	reply, err := call(ctx, d.nodes.Connect, &api.ConnectRequest{Address: addr})
	if err != nil {
		return err
	}
	return a.print(report{
		data:  map[string]any{"peer_id": reply.Id, "address": reply.Address},
		ids:   []string{reply.Id},
		table: func(w io.Writer) { row(w, "connected", fmt.Sprintf("%s at %s", reply.Id, reply.Address)) },
	})
}

func (a *app) forgetPeer(ctx context.Context, id string) error {
	if err := checkPeer(id); err != nil {
		return err
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	reply, err := call(ctx, d.nodes.Forget, &api.ForgetRequest{Id: id})
	if err != nil {
		return err
	}
	if !reply.Known && !reply.Bootstrap {
		return failf(exitNotFound, "%s is neither connected nor remembered; 'edgenetd peers --known' lists those that are", id)
	}
	return a.print(report{
		data: map[string]any{"peer_id": id, "bootstrap": reply.Bootstrap},
		ids:  []string{id},
		table: func(w io.Writer) {
			row(w, "forgotten", id)
			if reply.Bootstrap {
				row(w, "but", "'bootstrap' names it, so it is dialled again; take it out of there, too")
			}
		},
	})
}

func (a *app) findPeer(ctx context.Context, d *client, id string) error {
	reply, err := call(ctx, d.nodes.FindPeer, &api.FindPeerRequest{Id: id})
	if err != nil {
		return err
	}
	return a.print(report{
		data: map[string]any{"peer_id": id, "addresses": reply.Addresses},
		ids:  reply.Addresses,
		table: func(w io.Writer) {
			for _, addr := range reply.Addresses {
				row(w, addr)
			}
		},
	})
}

type peerView struct {
	ID        string   `json:"id"`
	Connected bool     `json:"connected"`
	Direction string   `json:"direction"`
	RTTMicros uint64   `json:"rtt_us"`
	Relayed   bool     `json:"relayed"`
	Agent     string   `json:"agent"`
	Addresses []string `json:"addresses"`
	Seen      uint64   `json:"seen_unix_ms,omitempty"`
}

func (a *app) peers(ctx context.Context, d *client, known bool) error {
	reply, err := call(ctx, d.nodes.Peers, &api.PeersRequest{Known: known})
	if err != nil {
		return err
	}
	list := []peerView{}
	r := report{}
	for _, p := range reply.Peers {
		list = append(list, peerView{p.Id, p.Connected, p.Direction, p.RttUs, p.Relayed, p.Agent, p.Addresses, p.SeenUnixMs})
		r.ids = append(r.ids, p.Id)
	}
	r.data = list
	r.table = func(w io.Writer) {
		if known {
			row(w, "PEER", "CONNECTED", "LAST SEEN", "AGENT", "ADDRESS")
		} else {
			row(w, "PEER", "DIRECTION", "RTT", "RELAYED", "AGENT", "ADDRESS")
		}
		for _, p := range list {
			addr := dash(strings.Join(p.Addresses[:min(1, len(p.Addresses))], ""))
			if known {
				row(w, p.ID, yesNo(p.Connected), clock(p.Seen), dash(p.Agent), addr)
			} else {
				row(w, p.ID, dash(p.Direction), time.Duration(p.RTTMicros)*time.Microsecond, yesNo(p.Relayed), dash(p.Agent), addr)
			}
		}
	}
	return a.print(r)
}
