package proto

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multihash"
)

// Hash is a sha2-256 digest.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h was never set.
func (h Hash) IsZero() bool { return h == Hash{} }

// HashOf is sha2-256 of b.
func HashOf(b []byte) Hash { return sha256.Sum256(b) }

// ToHash copies a 32-byte slice.
func ToHash(b []byte) (Hash, error) {
	if len(b) != 32 {
		return Hash{}, CodeMalformed.Errorf("hash of %d bytes, want 32", len(b))
	}
	return Hash(b), nil
}

// CIDOf is the id of a blob or element: CIDv1, raw, sha2-256 of b.
func CIDOf(b []byte) cid.Cid { return HashOf(b).CID() }

// CID is the CIDv1 (raw, sha2-256) with digest h.
func (h Hash) CID() cid.Cid {
	mh, _ := multihash.Encode(h[:], multihash.SHA2_256) // fails for unknown codes only
	return cid.NewCidV1(cid.Raw, mh)
}

// CIDHash is the sha2-256 digest in an id made by CIDOf. Other codecs and
// hashes are refused, so that one id has one spelling.
func CIDHash(c cid.Cid) (Hash, error) {
	p := c.Prefix()
	if !c.Defined() || p.Version != 1 || p.Codec != cid.Raw || p.MhType != multihash.SHA2_256 || p.MhLength != 32 {
		return Hash{}, CodeMalformed.Errorf("cid %s: want CIDv1 raw sha2-256", c)
	}
	d, err := multihash.Decode(c.Hash())
	if err != nil {
		return Hash{}, CodeMalformed.Errorf("cid %s: %v", c, err)
	}
	return Hash(d.Digest), nil
}

// ParseCID reads CID bytes of the one accepted form.
func ParseCID(b []byte) (cid.Cid, error) {
	if len(b) != 36 {
		return cid.Undef, CodeMalformed.Errorf("cid of %d bytes, want 36", len(b))
	}
	c, err := cid.Cast(b)
	if err != nil {
		return cid.Undef, CodeMalformed.Errorf("cid: %v", err)
	}
	if _, err := CIDHash(c); err != nil {
		return cid.Undef, err
	}
	return c, nil
}

// ed25519Prefix starts every Ed25519 peer id: an identity multihash of 36 bytes
// over the protobuf of the public key, whose 32 bytes follow.
const ed25519Prefix = "\x00\x24\x08\x01\x12\x20"

// ParsePeer reads peer id bytes and accepts Ed25519 identities only.
func ParsePeer(b []byte) (peer.ID, error) {
	if len(b) != len(ed25519Prefix)+32 {
		return "", CodeMalformed.Errorf("peer id of %d bytes, want 38 (Ed25519)", len(b))
	}
	if string(b[:len(ed25519Prefix)]) != ed25519Prefix {
		return "", CodeMalformed.Errorf("peer id: want that of an Ed25519 key")
	}
	return peer.ID(b), nil
}

// JobID names a job and its offer: 16 random bytes.
type JobID [16]byte

var jobEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func (j JobID) String() string { return jobEncoding.EncodeToString(j[:]) }

// IsZero reports whether j was never set.
func (j JobID) IsZero() bool { return j == JobID{} }

// ToJobID copies a 16-byte slice.
func ToJobID(b []byte) (JobID, error) {
	if len(b) != 16 {
		return JobID{}, CodeMalformed.Errorf("job id of %d bytes, want 16", len(b))
	}
	return JobID(b), nil
}

// ParseJobID reads the 26-letter form.
func ParseJobID(s string) (JobID, error) {
	b, err := jobEncoding.DecodeString(strings.ToLower(s))
	if err != nil || len(b) != 16 {
		return JobID{}, fmt.Errorf("job id %q: want 26 letters and digits as printed by submit", s)
	}
	return JobID(b), nil
}

// TaskID names a task of a job.
type TaskID struct {
	Job   JobID
	Index uint32
}

func (t TaskID) String() string { return fmt.Sprintf("%s/%d", t.Job, t.Index) }

// Seed is the seed of the task's deterministic random numbers, equal for all
// replicas.
func (t TaskID) Seed() Hash {
	b := append([]byte("edgenet/task-seed/1\x00"), t.Job[:]...)
	return HashOf(binary.BigEndian.AppendUint32(b, t.Index))
}

// Ref names one execution: a task, tried for the n-th time on one worker.
type Ref struct {
	Task    TaskID
	Attempt uint32
}

func (r Ref) String() string { return fmt.Sprintf("%s#%d", r.Task, r.Attempt) }

// NetworkID is the CID of the bytes of genesis.pb.
type NetworkID struct{ h Hash }

// NetworkOf is the id of the network whose genesis.pb holds b.
func NetworkOf(b []byte) NetworkID { return NetworkID{HashOf(b)} }

// CID is the id as a CID.
func (n NetworkID) CID() cid.Cid { return n.h.CID() }

func (n NetworkID) String() string { return n.CID().String() }

// Short is id8: the first 8 bytes of the digest in hex. It prefixes protocols
// and topics.
func (n NetworkID) Short() string { return hex.EncodeToString(n.h[:8]) }

// Protocol is a stream protocol of the network: "/edgenet/<id8>/<name>/1".
func (n NetworkID) Protocol(name string) protocol.ID {
	return protocol.ID("/edgenet/" + n.Short() + "/" + name + "/1")
}

// DHTPrefix is the protocol prefix of the network's Kademlia.
func (n NetworkID) DHTPrefix() protocol.ID { return protocol.ID("/edgenet/" + n.Short()) }

// OffersTopic, ClaimsTopic and CreditsTopic name the gossip topics.
func (n NetworkID) OffersTopic(shard uint32) string {
	return fmt.Sprintf("/edgenet/%s/offers/%d", n.Short(), shard)
}

// ClaimsTopic names the claims topic of a shard.
func (n NetworkID) ClaimsTopic(shard uint32) string {
	return fmt.Sprintf("/edgenet/%s/claims/%d", n.Short(), shard)
}

// CreditsTopic names the topic of certified events.
func (n NetworkID) CreditsTopic() string { return "/edgenet/" + n.Short() + "/credits" }

// Shard of a task type (or, for custom modules, of the module's CID).
func Shard(taskType string, module cid.Cid, shards uint32) uint32 {
	if shards <= 1 {
		return 0
	}
	key := []byte(taskType)
	if taskType == "" {
		key = module.Bytes()
	}
	h := HashOf(key)
	return binary.BigEndian.Uint32(h[:4]) % shards
}

// CommitHash is what a worker commits to before any replica is revealed:
// sha2-256("edgenet/commit/1\0" || job || task || worker || receipt hash). The
// receipt holds output hash, fuel, status and a random salt, so the commitment
// binds the whole claim and cannot be guessed.
func CommitHash(t TaskID, worker peer.ID, receipt []byte) Hash {
	b := append([]byte("edgenet/commit/1\x00"), t.Job[:]...)
	b = binary.BigEndian.AppendUint32(b, t.Index)
	b = append(b, worker...)
	rh := HashOf(receipt)
	return HashOf(append(b, rh[:]...))
}

// MarshalText writes h in hex, so that stored records stay readable.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != 64 {
		return CodeMalformed.Errorf("hash %q: want 64 hex digits", b)
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// MarshalText writes j as printed.
func (j JobID) MarshalText() ([]byte, error) { return []byte(j.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (j *JobID) UnmarshalText(b []byte) error {
	id, err := ParseJobID(string(b))
	*j = id
	return err
}
