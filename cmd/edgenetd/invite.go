package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/spf13/cobra"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

func (a *app) inviteCmd() *cobra.Command {
	var out string
	req := new(api.InviteRequest)
	c := &cobra.Command{
		Use: "invite", Short: "Print an invite to this node's network, for 'edgenetd init --join'", Args: takes(0, 0, ""),
		Long: `Prints one word that holds all a stranger needs to join: the network's genesis,
the addresses at which this node can be reached now, and this node's account as
the one that brought them in. It is no secret: it admits nobody to anything but
dialling these addresses.

Addresses of WebTransport are left out, those of WebSocket beside others, and
those on loopback unless there are no others. Behind a router that forwards a port, name what others dial with
--address.`,
		Example: "  edgenetd invite\n  edgenetd invite --out friend.txt\n  edgenetd invite --address /dns4/node.example.org/tcp/4001",
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.daemon(c.Context())
			if err != nil {
				return err
			}
			reply, err := call(c.Context(), d.nodes.Invite, req)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(reply.Addresses, usableByOthers) && !a.quiet {
				fmt.Fprintln(a.err, "edgenetd: this invite works on this machine alone, because the node listens on loopback only")
			}
			if out != "" {
				if err := saveNew(out, []byte(reply.Invite+"\n"), 0o644); err != nil {
					return err
				}
			}
			return a.print(report{
				data: map[string]any{"invite": reply.Invite, "addresses": reply.Addresses, "file": out},
				ids:  []string{reply.Invite},
				table: func(w io.Writer) {
					if out == "" {
						row(w, reply.Invite)
						return
					}
					row(w, "wrote", out)
					for _, addr := range reply.Addresses {
						row(w, "by way of", addr)
					}
				},
			})
		},
	}
	f := c.Flags()
	f.StringVar(&out, "out", "", "file to write instead of printing")
	f.StringSliceVar(&req.Addresses, "address", nil, "multiaddr at which others reach this node, instead of its own")
	f.BoolVar(&req.Anonymous, "no-referrer", false, "do not name this node's account as the one that brought the joiner in")
	return c
}

func usableByOthers(text string) bool {
	m, err := multiaddr.NewMultiaddr(text)
	return err == nil && !manet.IsIPLoopback(m)
}

// readInvite reads an invite given as itself, as a file, or as "-".
func (a *app) readInvite(text string) (*proto.NetworkInvite, error) {
	from := "the invite"
	if !proto.LooksLikeInvite(text) {
		if text != "-" {
			if _, err := os.Stat(text); errors.Is(err, fs.ErrNotExist) {
				return nil, failf(exitNotFound, "--join %.60q is neither an invite, which starts with %s, nor a file; check what you were given", text, proto.InvitePrefix)
			}
		}
		b, err := a.readFile(text, "invite", proto.MaxInviteText)
		if err != nil {
			return nil, err
		}
		from, text = "the invite in "+text, string(b)
	}
	i, err := proto.ParseInvite(text)
	if err != nil {
		return nil, failf(exitRefused, "%s cannot be used (%v); have it sent again whole, as 'edgenetd invite' prints it there", from, err)
	}
	return i, nil
}
