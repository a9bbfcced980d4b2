package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"edgenet.dev/node/audit"
	"edgenet.dev/node/blocklist"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox/modules"
)

func (a *app) blockCmd() *cobra.Command {
	var reason, duration string
	var force bool
	add := &cobra.Command{
		Use: "add [KIND] VALUE", Short: "Refuse a peer, a subnet, a submitter or a module", Args: takes(1, 2, "a KIND and a VALUE"),
		Long: `Refuses from now on, without a restart:

  peer       a peer id: no connection, nothing that it says is heard, no work of
             it and none for it
  subnet     an address, or a subnet such as 203.0.113.0/24: no connection to or
             from it
  submitter  an account, which is a peer id: its offers and tasks only
  module     a CID as 'edgenetd module check' prints it, a .wasm file, or a
             built-in task type: it is not executed here

KIND may be left out: a peer id is a peer then. What waits for a slot is given
back, what runs is stopped. Jobs of this node are not kept from it. Adding what
is there already replaces its reason and its end.`,
		Example: "  edgenetd block add 12D3KooW… --reason 'floods offers'\n" +
			"  edgenetd block add subnet 203.0.113.0/24 --for 7d\n" +
			"  edgenetd block add submitter 12D3KooW…\n" +
			"  edgenetd block add module miner.wasm",
		RunE: func(c *cobra.Command, args []string) error {
			e, err := a.entryOf(args)
			if err != nil {
				return err
			}
			var most time.Duration
			if duration != "" {
				if most, err = parseAge(duration); err != nil || most < time.Second {
					return failf(exitUsage, "--for %q: want a time such as 30d or 36h; leave it out to block for good", duration)
				}
			}
			e.Reason = strings.Join(strings.Fields(reason), " ")
			if len(e.Reason) > blocklist.MaxReason {
				return failf(exitUsage, "--reason has %d bytes; want at most %d", len(e.Reason), blocklist.MaxReason)
			}
			return a.block(c.Context(), e, most, force)
		},
	}
	f := add.Flags()
	f.StringVar(&reason, "reason", "", "why, for whoever reads the list")
	f.StringVar(&duration, "for", "", "end it after so long, such as 36h or 30d (default for good)")
	f.BoolVar(&force, "force", false, "do it though it cuts this node off from a witness or from everybody")
	return family("block", "Block peers, subnets, submitters and modules, and see what is blocked", add,
		&cobra.Command{
			Use: "list", Short: "List what is blocked", Args: takes(0, 0, ""),
			Long: "Lists what is blocked, from the running daemon or else from the file 'blocked' in\nthe data directory.",
			RunE: func(c *cobra.Command, _ []string) error { return a.blockList(c.Context()) },
		},
		&cobra.Command{
			Use: "rm [KIND] VALUE", Short: "Block something no longer", Args: takes(1, 2, "a KIND and a VALUE"),
			Long: "Ends what 'block add' or the file began. KIND may be left out unless a peer id is\nblocked both as peer and as submitter.",
			RunE: func(c *cobra.Command, args []string) error {
				e, err := a.entryOf(args)
				if err != nil {
					return err
				}
				if len(args) == 1 {
					e.Kind = ""
				}
				return a.unblock(c.Context(), e)
			},
		})
}

// entryOf reads KIND and VALUE, or VALUE alone.
func (a *app) entryOf(args []string) (blocklist.Entry, error) {
	kind, value := blocklist.Kind(""), args[len(args)-1]
	if len(args) == 2 {
		kind = blocklist.Kind(args[0])
		if kinds := blocklist.Kinds(); !slices.Contains(kinds, kind) {
			return blocklist.Entry{}, failf(exitUsage, "%q is no kind of what can be blocked; there are %v", args[0], strings.Trim(fmt.Sprint(kinds), "[]"))
		}
	}
	if (kind == "" || kind == blocklist.Module) && strings.HasSuffix(value, ".wasm") {
		m, _, _, err := a.loadModule(value)
		if err != nil {
			return blocklist.Entry{}, err
		}
		value = m.ID.String()
	}
	e, err := blocklist.New(kind, value)
	if err != nil {
		return e, failf(exitUsage, "%w", err)
	}
	return e, nil
}

// blocking runs online with the daemon when one answers, else offline with the
// file, while no daemon can start.
func (a *app) blocking(ctx context.Context, online func(*client) error, offline func(path string, self peer.ID, of *proto.Network) error) error {
	switch d, err := a.daemon(ctx); {
	case err == nil:
		return online(d)
	case exitCode(err) != exitNoDaemon:
		return err
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	key, err := loadKey(dir)
	if err != nil {
		return err
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	network, err := a.network(dir)
	if err != nil {
		return err
	}
	lock, err := takeDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	return blockFailure(offline(filepath.Join(dir, blocklist.Name), self, network))
}

// blockFailure gives what package blocklist says its exit code.
func blockFailure(err error) error {
	var bad *blocklist.LineError
	switch code := proto.CodeOf(err); {
	case errors.As(err, &bad):
		return failf(exitRefused, "%w; correct the file", err)
	case code == proto.CodeNotFound:
		return &exitError{exitNotFound, err}
	case code == proto.CodeMalformed, code == proto.CodeLimits:
		return &exitError{exitRefused, err}
	}
	return err
}

func (a *app) block(ctx context.Context, e blocklist.Entry, most time.Duration, force bool) error {
	return a.blocking(ctx, func(d *client) error {
		reply, err := call(ctx, d.nodes.Block, &api.BlockRequest{
			Kind: string(e.Kind), Value: e.Value, Reason: e.Reason, ForMs: uint64(most.Milliseconds()), Force: force,
		})
		if err != nil {
			return err
		}
		return a.printBlocked(viewOfBlocked(reply.Entry), reply.Replaced, reply.Notes)
	}, func(path string, self peer.ID, of *proto.Network) error {
		if err := e.Itself(self); err != nil {
			return err
		}
		if err := e.Endangers(of); err != nil && !force {
			return err
		}
		text, err := blocklist.Load(path, self)
		if err != nil {
			return err
		}
		now := time.Now()
		e.Since = now.Truncate(time.Second)
		if most > 0 {
			e.Until = now.Add(most)
		}
		text.Prune(now)
		replaced, err := text.Add(e)
		if err != nil {
			return err
		}
		if err := text.Save(path); err != nil {
			return err
		}
		if err := audit.Open(filepath.Dir(path)).Add(now, audit.Block, e.Pairs()...); err != nil {
			return err
		}
		return a.printBlocked(viewOf(e), replaced, nil)
	})
}

func (a *app) unblock(ctx context.Context, e blocklist.Entry) error {
	return a.blocking(ctx, func(d *client) error {
		reply, err := call(ctx, d.nodes.Unblock, &api.UnblockRequest{Kind: string(e.Kind), Value: e.Value})
		if err != nil {
			return err
		}
		return a.printUnblocked(viewOfBlocked(reply.Entry))
	}, func(path string, self peer.ID, _ *proto.Network) error {
		text, err := blocklist.Load(path, self)
		if err != nil {
			return err
		}
		text.Prune(time.Now())
		gone, err := text.Remove(e.Kind, e.Value)
		if err != nil {
			return err
		}
		if err := text.Save(path); err != nil {
			return err
		}
		if err := audit.Open(filepath.Dir(path)).Add(time.Now(), audit.Unblock, "kind", string(gone.Kind), "value", gone.Value); err != nil {
			return err
		}
		return a.printUnblocked(viewOf(gone))
	})
}

func (a *app) blockList(ctx context.Context) error {
	d, err := a.daemon(ctx)
	if err == nil {
		reply, err := call(ctx, d.nodes.Blocks, &api.BlocksRequest{})
		if err != nil {
			return err
		}
		list := []blockedView{}
		for _, e := range reply.Entries {
			list = append(list, viewOfBlocked(e))
		}
		if reply.Problem != "" {
			fmt.Fprintf(a.err, "the daemon goes on with the list of before, because the file cannot be read: %s\n", harmless(reply.Problem))
		}
		return a.printBlocks(list)
	}
	if exitCode(err) != exitNoDaemon {
		return err
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	text, err := blocklist.Load(filepath.Join(dir, blocklist.Name), "")
	if err != nil {
		return blockFailure(err)
	}
	list := []blockedView{}
	for _, e := range blocklist.Of(text.Entries(), time.Now()).Entries() {
		list = append(list, viewOf(e))
	}
	return a.printBlocks(list)
}

type blockedView struct {
	Kind   string `json:"kind"`
	Value  string `json:"value"`
	Since  uint64 `json:"since_unix_ms,omitempty"`
	Until  uint64 `json:"until_unix_ms,omitempty"` // absent: for good
	Reason string `json:"reason,omitempty"`
}

func viewOfBlocked(e *api.Blocked) blockedView {
	return blockedView{e.GetKind(), e.GetValue(), e.GetSinceUnixMs(), e.GetUntilUnixMs(), e.GetReason()}
}

func viewOf(e blocklist.Entry) blockedView {
	v := blockedView{Kind: string(e.Kind), Value: e.Value, Reason: e.Reason}
	if !e.Since.IsZero() {
		v.Since = uint64(e.Since.UnixMilli())
	}
	if !e.Until.IsZero() {
		v.Until = uint64(e.Until.UnixMilli())
	}
	return v
}

func (v blockedView) end() string {
	if v.Until == 0 {
		return "for good"
	}
	return "until " + clock(v.Until)
}

func (a *app) printBlocked(v blockedView, replaced bool, notes []string) error {
	type added struct {
		blockedView
		Replaced bool     `json:"replaced"`
		Notes    []string `json:"notes,omitempty"`
	}
	return a.print(report{data: added{v, replaced, notes}, ids: []string{v.Value}, table: func(w io.Writer) {
		row(w, "blocked", fmt.Sprintf("%s %s %s", v.Kind, v.Value, v.end()))
		if replaced {
			row(w, "instead of", "what the list said of it before")
		}
		for _, n := range notes {
			row(w, "note", n)
		}
	}})
}

func (a *app) printUnblocked(v blockedView) error {
	return a.print(report{data: v, ids: []string{v.Value}, table: func(w io.Writer) {
		row(w, "not blocked any more", v.Kind+" "+v.Value)
	}})
}

func (a *app) printBlocks(list []blockedView) error {
	r := report{data: list, table: func(w io.Writer) {
		row(w, "KIND", "VALUE", "SINCE", "UNTIL", "REASON")
		for _, v := range list {
			row(w, v.Kind, v.Value, clock(v.Since), clock(v.Until), dash(v.Reason))
		}
	}}
	for _, v := range list {
		r.ids = append(r.ids, v.Value)
	}
	return a.print(r)
}

// completeBlock offers kinds, then what may follow: peers and task types, or for
// rm what is blocked.
func (a *app) completeBlock(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if len(args) == 0 {
		for _, k := range blocklist.Kinds() {
			out = append(out, string(k))
		}
	}
	kind := strings.Join(args, " ")
	if c.Name() == "rm" {
		a.asking(c, func(ctx context.Context, d *client) {
			reply, err := call(ctx, d.nodes.Blocks, &api.BlocksRequest{})
			if err != nil {
				return
			}
			for _, e := range reply.Entries {
				if len(args) == 0 || kind == e.Kind {
					out = append(out, e.Value+"\t"+e.Kind+" "+e.Reason)
				}
			}
		})
		return out, cobra.ShellCompDirectiveNoFileComp
	}
	switch blocklist.Kind(kind) {
	case blocklist.Peer, blocklist.Submitter:
		return a.completePeers(c, nil, word)
	case blocklist.Module:
		return append(out, modules.Types()...), cobra.ShellCompDirectiveDefault // or a file
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
