package ledger

import (
	"bytes"

	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

// Disable switches a countermeasure off until the returned function is called.
func Disable(name string) (restore func()) {
	was := disabled
	switch name {
	case "fingerprints":
		disabled.fingerprints = true
	default:
		panic("no countermeasure " + name)
	}
	return func() { disabled = was }
}

// ShortHeadIDs lets only n bytes of listed head ids differ.
func ShortHeadIDs(n int) (restore func()) {
	was := headIDLen
	headIDLen = n
	return func() { headIDLen = was }
}

// Unsigned is Verify without signatures.
func Unsigned(net *proto.Network, wire *proto.CertifiedEvent) (*Certified, error) {
	c, err := decode(net, wire.Event, false)
	if err != nil {
		return nil, err
	}
	c.Wire = wire
	return c, nil
}

// UnsignedChain makes a chain of n events, transfers to itself excluded, with
// the sizes of signed and certified ones. It grants the account what it needs.
func UnsignedChain(net *proto.Network, key [32]byte, n int) []*Certified {
	id, err := accountOfKey(key[:])
	if err != nil {
		panic(err)
	}
	net.Grants[id] = proto.Credit(n)
	to, err := accountOfKey(make([]byte, keyLen))
	if err != nil {
		panic(err)
	}
	var out []*Certified
	for seq := range n {
		ev := &proto.Event{Account: []byte(id), Seq: uint64(seq), Post: &proto.Post{Avail: uint64(n - seq)}, AuthorTimeUnixMs: 1_700_000_000_000}
		if seq == 0 {
			ev.Body = &proto.Event_Open{Open: &proto.Open{}}
		} else {
			ev.Prev = out[seq-1].ID.Bytes()
			ev.Body = &proto.Event_Transfer{Transfer: &proto.Transfer{To: []byte(to), Amount: 1}}
		}
		payload, err := goproto.Marshal(&proto.Payload{Body: &proto.Payload_Event{Event: ev}})
		if err != nil {
			panic(err)
		}
		env, err := goproto.Marshal(&proto.Envelope{Payload: payload, Signer: []byte(id), Signature: bytes.Repeat([]byte{1}, 64)})
		if err != nil {
			panic(err)
		}
		c, err := Unsigned(net, &proto.CertifiedEvent{Event: env, Certificate: &proto.Certificate{Commits: [][]byte{make([]byte, 200)}}})
		if err != nil {
			panic(err)
		}
		out = append(out, c)
	}
	return out
}
