package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/node/durable"
	"edgenet.dev/node/identity"
	"edgenet.dev/proto"
)

// founderGrant is what the founder of a private network starts with.
const founderGrant = 1_000_000 * proto.OneCredit

// initFlags say which network a new data directory belongs to.
type initFlags struct {
	genesis, join, name string
	listen              []string
}

func (a *app) initCmd() *cobra.Command {
	var f initFlags
	c := &cobra.Command{
		Use: "init", Short: "Create an identity and join or found a network", Args: takes(0, 0, ""),
		Long: `Creates the data directory with a new identity (or keeps the one that 'key
import' put there) and a network: the one of an invite or of --genesis, or a
private one whose only witness is this node and which grants it 1,000,000
credits.

The ports that the daemon listens on are chosen here, once, and written to
config.yaml. A port of 0 in --listen is replaced by a free one.`,
		Example: "  edgenetd init\n  edgenetd init --join edgenet1…\n  edgenetd init --join invite.txt\n  edgenetd init --genesis genesis.pb\n  edgenetd init --network office",
		RunE: func(c *cobra.Command, _ []string) error {
			n := 0
			for _, flag := range []string{"join", "genesis", "network"} {
				if c.Flags().Changed(flag) {
					n++
				}
			}
			if n > 1 {
				return failf(exitUsage, "--join and --genesis join a network and --network founds one; use one of them")
			}
			return a.init(f)
		},
	}
	c.Flags().StringVar(&f.join, "join", "", "invite to the network to join, as 'edgenetd invite' prints it, or a file with it; - reads standard input")
	c.Flags().StringVar(&f.genesis, "genesis", "", "genesis.pb of the network to join")
	c.Flags().StringVar(&f.name, "network", "private", "name of the private network to found")
	c.Flags().StringSliceVar(&f.listen, "listen", nil, "multiaddrs to listen on (default all interfaces, on free ports)")
	return c
}

func (a *app) init(f initFlags) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	genesisFile := filepath.Join(dir, genesisName)
	if _, err := os.Lstat(genesisFile); err == nil {
		return failf(exitRefused, "%s is set up already and was left alone; start it with 'edgenetd run --dir %s', or choose another --dir", dir, dir)
	}
	if err := checkSocket(dir); err != nil {
		return err
	}
	// All that can be refused is read before anything is written.
	invite := new(proto.NetworkInvite)
	switch {
	case f.join != "":
		if invite, err = a.readInvite(f.join); err != nil {
			return err
		}
	case f.genesis != "":
		if invite.Network, err = a.readGenesis(f.genesis); err != nil {
			return err
		}
	default:
		if err := proto.CheckNetworkName(f.name); err != nil {
			return failf(exitUsage, "--network: %v", err)
		}
	}
	before, err := fileConfig(configPath(dir))
	if err != nil {
		return err
	}
	listen, err := chosenListen(before, f.listen)
	if err != nil {
		return err
	}
	key, err := identity.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = identity.Create(dir)
	}
	if err != nil {
		return err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	network := invite.Network
	if network == nil {
		network, err = newGenesis(&proto.Genesis{
			Name: f.name, Witnesses: [][]byte{[]byte(id)},
			Grants: []*proto.Grant{{Account: []byte(id), Amount: uint64(founderGrant)}},
		})
		if err != nil {
			return err
		}
	}
	if err := checkStores(dir, network.ID); err != nil {
		return err
	}
	if err := addToConfig(configPath(dir), initConfig(before, listen, invite, id)); err != nil {
		return fmt.Errorf("write %s: %w", configPath(dir), err)
	}
	// The genesis comes last: with it the directory counts as set up.
	if err := durable.WriteNew(genesisFile, network.Raw, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", genesisFile, err)
	}
	joins := []string{}
	for _, p := range invite.Peers {
		joins = append(joins, p.String())
	}
	if before.inFile("bootstrap") {
		if own := before.list("bootstrap"); len(joins) > 0 && !slices.Equal(own, joins) && !a.quiet {
			fmt.Fprintf(a.err, "edgenetd: %s names whom to join the network by already, so the peers of the invite were not added\n", configPath(dir))
		}
		joins = before.list("bootstrap")
	}
	if listen == nil {
		listen = before.list("listen")
	}
	return a.print(report{
		data: map[string]any{
			"dir": dir, "peer_id": id.String(), "network_id": network.ID.String(),
			"network_name": network.Genesis.Name, "witness": network.IsWitness(id), "grant": uint64(network.Grants[id]),
			"listen": listen, "bootstrap": joins,
		},
		ids: []string{id.String()},
		table: func(w io.Writer) {
			row(w, "directory", dir)
			row(w, "peer id", id)
			row(w, "network", fmt.Sprintf("%s (%s)", network.Genesis.Name, network.ID))
			row(w, "witness", yesNo(network.IsWitness(id)))
			row(w, "granted", credits(network.Grants[id])+" credits")
			for _, addr := range joins {
				row(w, "joins by", addr)
			}
			row(w, "ports", portsOf(listen))
			row(w, "next", fmt.Sprintf("edgenetd run --dir %s", dir))
		},
	})
}

// chosenListen is what init writes to the configuration: nil where that says
// already what to listen on.
func chosenListen(before *config, flags []string) ([]string, error) {
	switch {
	case before.inFile("listen") && (len(flags) == 0 || slices.EqualFunc(flags, before.list("listen"), chosenFor)):
		return nil, nil
	case len(flags) > 0:
		return fixPorts(flags)
	}
	return choosePorts()
}

var portZero = regexp.MustCompile(`/(tcp|udp)/0(/|$)`)

// chosenFor reports whether an address is what a flag asks for, where a port of 0
// asks for any.
func chosenFor(flag, addr string) bool {
	want := portZero.ReplaceAllString(regexp.QuoteMeta(flag), "/$1/[0-9]+$2")
	return regexp.MustCompile("^" + want + "$").MatchString(addr)
}

// initConfig is what init adds to the configuration: keys that it lacks. They are
// there already when an init was cut off before it wrote the genesis.
func initConfig(before *config, listen []string, invite *proto.NetworkInvite, self peer.ID) string {
	var b strings.Builder
	if listen != nil {
		b.WriteString(configBlock("Chosen once by 'edgenetd init': others find this node there again after a restart.", "listen", listen))
	}
	if len(invite.Peers) > 0 && !before.inFile("bootstrap") {
		var addrs []string
		for _, p := range invite.Peers {
			addrs = append(addrs, p.String())
		}
		b.WriteString(configBlock("From the invite: whom to join the network by.", "bootstrap", addrs))
	}
	if invite.Referrer != "" && invite.Referrer != self && !before.inFile("referrer") {
		b.WriteString(configBlock("From the invite: who brought this node in.", "referrer", invite.Referrer.String()))
	}
	return b.String()
}

// portsOf sums up listened addresses for whoever configures a firewall.
func portsOf(listen []string) string {
	var out []string
	for _, text := range listen {
		a, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			continue
		}
		for _, code := range []int{multiaddr.P_TCP, multiaddr.P_UDP} {
			if v, err := a.ValueForProtocol(code); err == nil {
				port := strings.ToUpper(multiaddr.ProtocolWithCode(code).Name) + " " + v
				if !slices.Contains(out, port) {
					out = append(out, port)
				}
			}
		}
	}
	return dash(strings.Join(out, ", "))
}

// newGenesis marshals g once, with a fresh nonce; those bytes are the network.
func newGenesis(g *proto.Genesis) (*proto.Network, error) {
	g.Nonce = make([]byte, 16)
	if _, err := rand.Read(g.Nonce); err != nil {
		return nil, err
	}
	raw, err := goproto.MarshalOptions{Deterministic: true}.Marshal(g)
	if err != nil {
		return nil, err
	}
	return proto.ParseGenesis(raw)
}

// loadKey reads the identity in dir or says how to make one.
func loadKey(dir string) (crypto.PrivKey, error) {
	key, err := identity.Load(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, failf(exitNotFound, "%s holds no identity; run 'edgenetd init --dir %s' first", dir, dir)
	case err != nil:
		return nil, failf(exitRefused, "%w", err)
	}
	return key, nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
