package node

import (
	"crypto/rand"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Only a process that has the key can say that there is another one, and only
// for the question that was asked: no peer can stop a node by a lie.
func TestACopyIsProven(t *testing.T) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	liar, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	network := &proto.Network{ID: proto.NetworkOf([]byte("one"))}
	x := &instances{n: &Node{self: self, net: network}, id: [instanceLen]byte{1}}
	nonce, stale, another := make([]byte, instanceLen), append(make([]byte, instanceLen-1), 1), append(make([]byte, instanceLen-1), 2)
	for _, c := range []struct {
		name      string
		key       crypto.PrivKey
		net       proto.NetworkID
		nonce, id []byte
		other, ok bool
	}{
		{"a copy", key, network.ID, nonce, another, true, true},
		{"this process on another connection", key, network.ID, nonce, x.id[:], false, true},
		{"a liar", liar, network.ID, nonce, another, false, false},
		{"an answer of an earlier process", key, network.ID, stale, another, false, false},
		{"an answer in another network", key, proto.NetworkOf([]byte("two")), nonce, another, false, false},
	} {
		raw, err := proto.Seal(c.key, c.net, &proto.Payload{Body: &proto.Payload_Instance{Instance: &proto.Instance{Nonce: c.nonce, Id: c.id}}})
		if err != nil {
			t.Fatal(err)
		}
		if other, err := x.verify(raw, nonce); other != c.other || (err == nil) != c.ok {
			t.Errorf("%s: other %v, %v", c.name, other, err)
		}
	}
	if _, err := x.verify([]byte("junk"), nonce); err == nil {
		t.Error("junk is an answer")
	}
}
