package proto_test

import (
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

func idOf(t testing.TB) peer.ID {
	t.Helper()
	id, err := peer.IDFromPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func invite(t testing.TB) *proto.NetworkInvite {
	t.Helper()
	id := idOf(t)
	raw, err := goproto.Marshal(&proto.Genesis{Name: "town hall", Nonce: make([]byte, 16), Witnesses: [][]byte{[]byte(id)}})
	if err != nil {
		t.Fatal(err)
	}
	n, err := proto.ParseGenesis(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &proto.NetworkInvite{Network: n, Referrer: id, Peers: []ma.Multiaddr{
		ma.StringCast("/ip4/192.0.2.7/tcp/4001/p2p/" + id.String()),
		ma.StringCast("/dns4/example.org/udp/4001/quic-v1/p2p/" + id.String()),
	}}
}

func TestInvite(t *testing.T) {
	want := invite(t)
	text := want.String()
	folded := strings.ToUpper(text[:40]) + "\r\n  " + text[40:100] + "\n" + text[100:] + "\n"
	for _, s := range []string{text, folded} {
		got, err := proto.ParseInvite(s)
		if err != nil {
			t.Fatal(err)
		}
		if got.Network.ID != want.Network.ID || got.Referrer != want.Referrer || len(got.Peers) != 2 || !got.Peers[1].Equal(want.Peers[1]) {
			t.Errorf("read %+v, want %+v", got, want)
		}
		if !proto.LooksLikeInvite(s) || got.String() != text {
			t.Errorf("%s is not read as it was written", s)
		}
	}
	// Every letter counts: one that changed, went missing or was doubled is told.
	for i := len(proto.InvitePrefix); i < len(text); i++ {
		other := "a"
		if text[i] == 'a' {
			other = "b"
		}
		for _, bad := range []string{text[:i] + other + text[i+1:], text[:i] + text[i+1:], text[:i] + text[i:i+1] + text[i:], text[:i]} {
			if got, err := proto.ParseInvite(bad); err == nil && got.String() != text {
				t.Fatalf("%s was read", bad)
			}
		}
	}
	for _, bad := range []string{"", "edgenet1", "edgenet2" + text[8:], "hello", strings.Repeat("a", proto.MaxInviteText+1)} {
		if _, err := proto.ParseInvite(bad); err == nil {
			t.Errorf("%.20q was read", bad)
		}
	}
}

func TestInviteBounds(t *testing.T) {
	with := func(change func(*proto.NetworkInvite)) string {
		i := invite(t)
		change(i)
		return i.String()
	}
	for what, text := range map[string]string{
		"too many addresses": with(func(i *proto.NetworkInvite) {
			for range proto.MaxInviteAddrs {
				i.Peers = append(i.Peers, i.Peers[0])
			}
		}),
		"an address without a peer": with(func(i *proto.NetworkInvite) { i.Peers[0] = ma.StringCast("/ip4/192.0.2.7/tcp/4001") }),
		"a peer without an address": with(func(i *proto.NetworkInvite) { i.Peers[0] = ma.StringCast("/p2p/" + i.Referrer.String()) }),
		"a long address": with(func(i *proto.NetworkInvite) {
			i.Peers[0] = ma.StringCast("/dns4/" + strings.Repeat("a", 300) + "/tcp/1/p2p/" + i.Referrer.String())
		}),
		"a referrer that is none": with(func(i *proto.NetworkInvite) { i.Referrer = "bob" }),
		"no genesis":              with(func(i *proto.NetworkInvite) { i.Network = new(proto.Network) }),
	} {
		if _, err := proto.ParseInvite(text); err == nil {
			t.Errorf("an invite with %s was read", what)
		}
	}
}

func FuzzInvite(f *testing.F) {
	i := invite(f)
	f.Add(i.String())
	f.Add("edgenet1")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := proto.ParseInvite(text)
		if err != nil {
			return
		}
		again, err := proto.ParseInvite(got.String())
		if err != nil || again.String() != got.String() {
			t.Fatalf("%q: written again it is not read: %v", text, err)
		}
	})
}
