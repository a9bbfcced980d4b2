package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"go.uber.org/zap"

	"edgenet.dev/node"
	"edgenet.dev/node/durable"
)

// Ports are chosen below the range from which systems take the local ports of
// connections, so that none of those has one when the daemon starts again.
const (
	lowestPort  = 10_000
	highestPort = 30_000
)

// everywhere are the addresses of all interfaces: port for TCP, QUIC and
// WebTransport, sockets for WebSocket. 0 is any free port.
func everywhere(port, sockets int) []string {
	var out []string
	for _, ip := range []string{"/ip4/0.0.0.0", "/ip6/::"} {
		if ip == "/ip6/::" && !canBind("tcp6", "[::]:0") {
			continue // the machine has no IPv6
		}
		out = append(
			out,
			fmt.Sprintf("%s/tcp/%d", ip, port),
			fmt.Sprintf("%s/udp/%d/quic-v1", ip, port),
			fmt.Sprintf("%s/udp/%d/quic-v1/webtransport", ip, port),
			fmt.Sprintf("%s/tcp/%d/ws", ip, sockets),
		)
	}
	return out
}

// choosePorts is everywhere with two ports that are free now: they are written
// down once, and a network finds its nodes again after a restart.
func choosePorts() ([]string, error) {
	port, err := freePort("tcp", "udp")
	if err != nil {
		return nil, err
	}
	sockets, err := freePort("tcp")
	if err != nil {
		return nil, err
	}
	return everywhere(port, sockets), nil
}

// fixPorts gives every address of port 0 a free port for good. QUIC and
// WebTransport, which are told apart by their handshake, share one.
func fixPorts(addrs []string) ([]string, error) {
	out := make([]string, len(addrs))
	udp := 0
	for i, text := range addrs {
		if err := portAddress(text); err != nil {
			return nil, failf(exitUsage, "--listen: %v", err)
		}
		if err := tryListen(text); errors.Is(err, syscall.EADDRINUSE) {
			return nil, failf(exitBusy, "--listen %s: the port is in use by another program; end that, choose another port, or 0 for a free one", text)
		}
		out[i] = text
		for _, network := range []string{"tcp", "udp"} {
			head, tail, ok := strings.Cut(text+"/", "/"+network+"/0/")
			if !ok {
				continue
			}
			port := udp
			if port == 0 || network == "tcp" {
				var err error
				if port, err = freePort(network); err != nil {
					return nil, err
				}
			}
			if network == "udp" {
				udp = port
			}
			out[i] = strings.TrimSuffix(fmt.Sprintf("%s/%s/%d/%s", head, network, port, tail), "/")
		}
	}
	return out, nil
}

func freePort(networks ...string) (int, error) {
	for range 1000 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		if !slices.ContainsFunc(networks, func(network string) bool { return !portFree(network, port) }) {
			return port, nil
		}
	}
	return 0, failf(exitBusy, "no free port was found between %d and %d; name addresses to listen on with --listen", lowestPort, highestPort)
}

func portFree(network string, port int) bool {
	p := strconv.Itoa(port)
	return canBind(network+"4", "0.0.0.0:"+p) && (!canBind("tcp6", "[::]:0") || canBind(network+"6", "[::]:"+p))
}

func canBind(network, addr string) bool {
	var l io.Closer
	var err error
	if strings.HasPrefix(network, "udp") {
		l, err = net.ListenPacket(network, addr)
	} else {
		l, err = net.Listen(network, addr)
	}
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// tryListen binds the port of a multiaddr and lets it go. What it does not know
// how to bind is no error.
func tryListen(text string) error {
	addr, err := multiaddr.NewMultiaddr(text)
	if err != nil {
		return nil
	}
	plain, _ := multiaddr.SplitFunc(addr, func(c multiaddr.Component) bool {
		switch c.Protocol().Code {
		case multiaddr.P_IP4, multiaddr.P_IP6, multiaddr.P_TCP, multiaddr.P_UDP:
			return false
		}
		return true
	})
	network, at, err := manet.DialArgs(plain)
	if err != nil {
		return nil
	}
	var l io.Closer
	if strings.HasPrefix(network, "udp") {
		l, err = net.ListenPacket(network, at)
	} else {
		l, err = net.Listen(network, at)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

// listenOn is what the daemon listens on.
func listenOn(cfg *config) []string {
	if l := cfg.list("listen"); len(l) > 0 {
		return l
	}
	return everywhere(0, 0)
}

// busyPort gives the error of a taken port its sentence.
func busyPort(cfg *config, err error) error {
	var taken *node.PortTakenError
	if !errors.As(err, &taken) {
		return err
	}
	return failf(exitBusy, "a port of 'listen' (from %s) is in use by another program: %s; end that program, or change the port in 'listen' there and tell those who dial this node", cfg.sources["listen"], taken.Addr)
}

// tellReach says which of the daemon's addresses are of use to others.
func tellReach(log *zap.Logger, n *node.Node, cfg *config) {
	public, private := n.UsableAddrs()
	switch {
	case len(public)+len(private) == 0:
		log.Info("only this machine can reach this node, because it listens on loopback only",
			zap.String("listen_from", cfg.sources["listen"]), zap.String("to_change", "set listen to addresses such as /ip4/0.0.0.0/tcp/4001"))
	case len(public) == 0:
		log.Info("the local network can reach this node, as far as firewalls let it; others cannot unless the router forwards the ports",
			zap.Strings("local", private))
	default:
		log.Info("others can reach this node, as far as firewalls let them", zap.Strings("anywhere", public), zap.Strings("local", private))
	}
	if len(cfg.list("listen")) == 0 {
		log.Info("ports are chosen anew at every start, so others lose this node; set 'listen' to keep them, as 'edgenetd init' does")
	}
}

// addToConfig appends top-level keys to a configuration, which may be missing,
// and writes it whole or not at all. It refuses what could not be read again.
func addToConfig(path, block string) error {
	if block == "" {
		return nil
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(old) == 0 {
		old = []byte("# EdgeNet configuration. Flags and EDGENET_* variables override it.\n# 'edgenetd config show' lists every key.\n")
	}
	if !bytes.HasSuffix(old, []byte("\n")) {
		old = append(old, '\n')
	}
	return durable.Replace(path, append(old, block...), 0o600, func(name string) error {
		c, err := fileConfig(name)
		if err != nil {
			return failf(exitRefused, "%s was left alone, because it cannot be read with what would be added to it; move it away and run the command again, then add what it had (%v)", path, err)
		}
		return c.check()
	})
}

// configBlock is one key with a comment.
func configBlock(comment, key string, value any) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n# %s\n%s:", comment, key)
	switch v := value.(type) {
	case []string:
		b.WriteString("\n")
		for _, s := range v {
			fmt.Fprintf(&b, "  - %q\n", s)
		}
	default:
		fmt.Fprintf(&b, " %q\n", fmt.Sprint(v))
	}
	return b.String()
}
