package webtransport

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multihash"
)

// endpoint is the path and query that libp2p's WebTransport servers answer.
const endpoint = "/.well-known/libp2p-webtransport?type=noise"

// maxHashes bounds the certificate hashes of one address: a server has the
// current and the next one.
const maxHashes = 16

// target is a WebTransport address as a browser needs it.
type target struct {
	url    string
	hashes [][]byte     // SHA-256 digests of certificates, 32 bytes each, at least one
	addr   ma.Multiaddr // without hashes and peer id
}

// parseTarget reads an address of the form
// /<ip4|ip6|dns|dns4|dns6>/udp/<port>/quic-v1[/sni/<name>]/webtransport/certhash/<h>…[/p2p/<id>].
// A browser accepts certificates by SHA-256 only, and names the host to the
// server itself, so sni is dropped.
func parseTarget(a ma.Multiaddr) (target, error) {
	var t target
	path := hostPath(a)
	rest, ok := strings.CutPrefix(path, "host/udp/quic-v1/")
	rest = strings.TrimPrefix(rest, "sni/")
	if !ok || (rest != "webtransport" && !strings.HasPrefix(rest, "webtransport/")) {
		return t, fmt.Errorf("address %s: not WebTransport", a)
	}
	for _, c := range a {
		switch c.Code() {
		case ma.P_CERTHASH:
			h, err := multihash.Decode(c.RawValue())
			if err != nil {
				return t, fmt.Errorf("address %s: certificate hash: %w", a, err)
			}
			if h.Code != multihash.SHA2_256 || len(h.Digest) != 32 {
				return t, fmt.Errorf("address %s: certificate hash is not SHA-256", a)
			}
			t.hashes = append(t.hashes, h.Digest)
		}
	}
	rest = strings.TrimPrefix(strings.TrimPrefix(rest, "webtransport"), "/")
	rest = strings.TrimSuffix(rest, "p2p")
	if strings.ReplaceAll(strings.ReplaceAll(rest, "certhash", ""), "/", "") != "" {
		return t, fmt.Errorf("address %s: not WebTransport", a)
	}
	if len(t.hashes) == 0 {
		return t, fmt.Errorf("address %s: no certificate hash", a)
	}
	if len(t.hashes) > maxHashes {
		return t, fmt.Errorf("address %s: more than %d certificate hashes", a, maxHashes)
	}
	host, err := hostPort(a)
	if err != nil {
		return t, err
	}
	t.url = "https://" + host + endpoint
	t.addr, _ = ma.SplitFunc(a, func(c ma.Component) bool { return c.Code() == ma.P_CERTHASH })
	return t, nil
}

// parseWebSocket returns the URL of an address of the form
// /<host>/tcp/<port>/<ws|wss|tls/ws|tls/sni/<name>/ws>[/p2p/<id>]. With sni the
// URL names that host, whose certificate the server has. Browsers refuse plain
// ws:// from secure pages to anything but loopback, and so does this everywhere.
func parseWebSocket(a ma.Multiaddr) (string, error) {
	kind, ok := strings.CutPrefix(hostPath(a), "host/tcp/")
	if !ok {
		return "", fmt.Errorf("address %s: not WebSocket", a)
	}
	host, err := hostPort(a)
	if err != nil {
		return "", err
	}
	switch strings.TrimSuffix(kind, "/p2p") {
	case "ws":
		if !loopback(a) {
			return "", fmt.Errorf("address %s: plain WebSocket is for loopback only", a)
		}
		return "ws://" + host + "/", nil
	case "wss", "tls/ws":
		return "wss://" + host + "/", nil
	case "tls/sni/ws":
		name, err := a.ValueForProtocol(ma.P_SNI)
		if err != nil {
			return "", fmt.Errorf("address %s: %w", a, err)
		}
		_, port, err := net.SplitHostPort(host)
		if err != nil {
			return "", fmt.Errorf("address %s: %w", a, err)
		}
		return "wss://" + net.JoinHostPort(name, port) + "/", nil
	}
	return "", fmt.Errorf("address %s: not WebSocket", a)
}

// hostPath is the address as protocol names, where any kind of host is "host".
func hostPath(a ma.Multiaddr) string {
	var names []string
	for i, c := range a {
		name := c.Protocol().Name
		switch c.Code() {
		case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
			if i == 0 {
				name = "host"
			}
		}
		names = append(names, name)
	}
	return strings.Join(names, "/")
}

// hostPort is the authority part of a URL. Names are checked because they come
// from strangers: a slash or an at sign would make another URL of it.
func hostPort(a ma.Multiaddr) (string, error) {
	_, hp, err := manet.DialArgs(a)
	if err != nil {
		return "", fmt.Errorf("address %s: %w", a, err)
	}
	if strings.ContainsAny(hp, "/\\@?#% \t\r\n") {
		return "", fmt.Errorf("address %s: host is not a name", a)
	}
	if _, port, err := net.SplitHostPort(hp); err != nil || port == "0" {
		return "", fmt.Errorf("address %s: no port", a)
	}
	return hp, nil
}

// loopback tells whether the browser treats the host as this machine.
func loopback(a ma.Multiaddr) bool {
	host := a[0].Value()
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// named tells whether the address begins with a name that the browser itself
// resolves when it dials; Go under js has no resolver.
func named(a ma.Multiaddr) bool {
	if len(a) == 0 {
		return false
	}
	switch a[0].Code() {
	case ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		return true
	}
	return false
}

// errHashMissing means that the server does not vouch for a certificate hash
// that was dialled: somebody between could have chosen the certificate.
var errHashMissing = errors.New("the server does not know a certificate hash of the dialled address")

// vouched checks what libp2p's WebTransport specification demands: every
// dialled hash is among the multihashes that the server sent inside Noise.
func vouched(dialled [][]byte, sent [][]byte) error {
	known := make([][]byte, 0, len(sent))
	for _, b := range sent {
		h, err := multihash.Decode(b)
		if err != nil {
			return fmt.Errorf("certificate hash from server: %w", err)
		}
		if h.Code == multihash.SHA2_256 {
			known = append(known, h.Digest)
		}
	}
next:
	for _, d := range dialled {
		for _, k := range known {
			if bytes.Equal(d, k) {
				continue next
			}
		}
		return fmt.Errorf("%w: %x", errHashMissing, d)
	}
	return nil
}
