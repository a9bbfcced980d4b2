package proto

import (
	"bytes"
	"encoding/base32"
	"fmt"
	"strings"
	"unicode"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	goproto "google.golang.org/protobuf/proto"
)

// InvitePrefix starts every invite. The "1" is in no base32 alphabet, so the
// rest starts right after it.
const InvitePrefix = "edgenet1"

// Bounds of an invite.
const (
	MaxInviteAddrs = 16
	maxInviteAddr  = 256 // bytes of one address
	maxInvite      = MaxGenesis + MaxInviteAddrs*(maxInviteAddr+8) + 256
	// MaxInviteText bounds the text form, with room for line breaks.
	MaxInviteText = maxInvite * 2
)

const (
	inviteVersion = 1
	inviteSum     = 4 // bytes of the checksum: of SHA-256 over version and message
)

// inviteEncoding has small letters and digits only, so that a double click
// selects an invite and no mail program breaks it at a dash.
var inviteEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NetworkInvite is a parsed Invite. As text it is the prefix and, in base32, a
// version byte, the message and a checksum against typing errors.
type NetworkInvite struct {
	Network  *Network
	Peers    []ma.Multiaddr // with /p2p/, at most MaxInviteAddrs
	Referrer peer.ID        // "" = nobody
}

// LooksLikeInvite reports whether text means to be an invite.
func LooksLikeInvite(text string) bool {
	text = strings.TrimSpace(text)
	return len(text) >= len(InvitePrefix) && strings.EqualFold(text[:len(InvitePrefix)], InvitePrefix)
}

// String is the text form.
func (i *NetworkInvite) String() string {
	m := &Invite{Genesis: i.Network.Raw, Referrer: []byte(i.Referrer)}
	for _, a := range i.Peers {
		m.Addresses = append(m.Addresses, a.Bytes())
	}
	b, err := goproto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{inviteVersion}, m)
	if err != nil { // it has bytes only
		panic(fmt.Sprintf("marshal an invite: %v", err))
	}
	sum := HashOf(b)
	return InvitePrefix + inviteEncoding.EncodeToString(append(b, sum[:inviteSum]...))
}

// ParseInvite reads the text form; white space anywhere and capitals do not
// matter.
func ParseInvite(text string) (*NetworkInvite, error) {
	if len(text) > MaxInviteText {
		return nil, CodeTooLarge.Errorf("invite of %d characters, at most %d", len(text), MaxInviteText)
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, text)
	body, ok := strings.CutPrefix(text, InvitePrefix)
	if !ok {
		return nil, CodeMalformed.Errorf("no invite: want text that starts with %s", InvitePrefix)
	}
	b, err := inviteEncoding.DecodeString(body)
	if err != nil || len(b) < 1+inviteSum {
		return nil, CodeMalformed.Errorf("invite is cut off or has characters that belong to none")
	}
	b, sum := b[:len(b)-inviteSum], b[len(b)-inviteSum:]
	if want := HashOf(b); !bytes.Equal(sum, want[:inviteSum]) {
		return nil, CodeMalformed.Errorf("invite is incomplete or has a typing error: its checksum does not match")
	}
	if b[0] != inviteVersion {
		return nil, CodeMalformed.Errorf("invite of version %d, this build reads version %d", b[0], inviteVersion)
	}
	if len(b) > maxInvite {
		return nil, CodeTooLarge.Errorf("invite of %d bytes, at most %d", len(b), maxInvite)
	}
	m := new(Invite)
	if err := goproto.Unmarshal(b[1:], m); err != nil {
		return nil, CodeMalformed.Errorf("invite: %v", err)
	}
	return m.parse()
}

func (m *Invite) parse() (*NetworkInvite, error) {
	n, err := ParseGenesis(m.Genesis)
	if err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	i := &NetworkInvite{Network: n}
	if len(m.Addresses) > MaxInviteAddrs {
		return nil, CodeMalformed.Errorf("invite with %d addresses, at most %d", len(m.Addresses), MaxInviteAddrs)
	}
	for _, raw := range m.Addresses {
		if len(raw) > maxInviteAddr {
			return nil, CodeMalformed.Errorf("invite with an address of %d bytes, at most %d", len(raw), maxInviteAddr)
		}
		a, err := ma.NewMultiaddrBytes(raw)
		if err != nil {
			return nil, CodeMalformed.Errorf("invite: address: %v", err)
		}
		info, err := peer.AddrInfoFromP2pAddr(a)
		if err != nil || len(info.Addrs) == 0 {
			return nil, CodeMalformed.Errorf("invite: address %s: want one that ends in /p2p/ and a peer id", a)
		}
		if _, err := ParsePeer([]byte(info.ID)); err != nil {
			return nil, fmt.Errorf("invite: address %s: %w", a, err)
		}
		i.Peers = append(i.Peers, a)
	}
	if len(m.Referrer) > 0 {
		if i.Referrer, err = ParsePeer(m.Referrer); err != nil {
			return nil, fmt.Errorf("invite: referrer: %w", err)
		}
	}
	return i, nil
}
