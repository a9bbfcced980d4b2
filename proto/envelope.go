package proto

import (
	"crypto/ed25519"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Kind tells signed elements apart. It is the field number in Payload.body,
// so it is inside the signed bytes and cannot be changed without breaking the
// id; it also separates signature domains.
type Kind uint32

// Kinds, append-only.
const (
	KindOffer Kind = iota + 2 // 1 was never sent
	KindWithdrawal
	KindClaim
	KindAssignments
	KindReceipts
	KindVoucher
	KindDone
	KindEvent
	KindPropose
	KindReport
	KindPrepare
	KindCommit
	KindSkip
	KindHeadReport
	KindEvidence
	KindCheckpoint
	KindWorkClaim
	KindClaimList
	KindProbeReport
	KindWrongReport

	KindInstance Kind = 32
)

// kinds holds the domain name and the payload cap in bytes of each kind.
var kinds = [...]struct {
	name string
	cap  int
}{
	KindOffer:       {"offer", 1 << 10},
	KindWithdrawal:  {"withdrawal", 128},
	KindClaim:       {"claim", 1 << 10},
	KindAssignments: {"assignments", 32 << 10},
	KindReceipts:    {"receipts", 128},
	KindVoucher:     {"voucher", 256},
	KindDone:        {"done", 128},
	KindEvent:       {"event", 32 << 10}, // of an account's owner 4 KiB, see ledger
	KindPropose:     {"propose", 512 << 10},
	KindReport:      {"report", 64 << 10},
	KindPrepare:     {"prepare", 256},
	KindCommit:      {"commit", 256},
	KindSkip:        {"skip", 128},
	KindHeadReport:  {"head-report", 64 << 10},
	KindEvidence:    {"evidence", 16 << 10},
	KindCheckpoint:  {"checkpoint", 4 << 10},
	KindWorkClaim:   {"work-claim", 256 << 10},
	KindClaimList:   {"claim-list", 4 << 10},
	KindProbeReport: {"probe-report", 10 << 10},
	KindWrongReport: {"wrong-report", 4 << 10},
	KindInstance:    {"instance", 64},
}

func (k Kind) known() bool { return int64(k) < int64(len(kinds)) && kinds[k].cap > 0 }

func (k Kind) String() string {
	if k.known() {
		return kinds[k].name
	}
	return fmt.Sprintf("kind-%d", uint32(k))
}

// Cap is the largest payload of the kind in bytes.
func (k Kind) Cap() int {
	if k.known() {
		return kinds[k].cap
	}
	return 0
}

// envelopeOverhead bounds what an envelope adds to its payload: signer,
// signature, tags and lengths.
const envelopeOverhead = 38 + 64 + 16

// Signed is an element whose signature was checked: who signed it, its id and
// the payload bytes exactly as they came.
type Signed struct {
	Kind    Kind
	Signer  peer.ID
	ID      cid.Cid
	Payload *Payload
	Size    int    // of the payload in bytes
	Raw     []byte // the whole envelope as received; not to be changed
}

// Seal signs body for network n. The returned bytes are a marshalled Envelope.
func Seal(key crypto.PrivKey, n NetworkID, body *Payload) ([]byte, error) {
	kind := kindOf(body)
	if kind == 0 {
		return nil, CodeUnknownKind.Errorf("seal: payload has no body")
	}
	payload, err := goproto.MarshalOptions{Deterministic: true}.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", kind, err)
	}
	if len(payload) > kind.Cap() {
		return nil, CodeTooLarge.Errorf("seal %s: %d bytes, at most %d", kind, len(payload), kind.Cap())
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", kind, err)
	}
	if _, err := ParsePeer([]byte(id)); err != nil {
		return nil, fmt.Errorf("seal %s: %w", kind, err)
	}
	sig, err := key.Sign(signedBytes(kind, n, payload))
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", kind, err)
	}
	return goproto.Marshal(&Envelope{Payload: payload, Signer: []byte(id), Signature: sig})
}

// Unseal checks an envelope: size, codec, that its kind is one of want, and the
// signature over the payload bytes as received. It never looks at local state,
// so a failure is the sender's fault.
func Unseal(n NetworkID, raw []byte, want ...Kind) (*Signed, error) {
	return open(n, raw, true, want)
}

// Inspect decodes an envelope without checking its signature: only for bytes
// that this process checked before it stored them.
func Inspect(raw []byte, want ...Kind) (*Signed, error) {
	return open(NetworkID{}, raw, false, want)
}

func open(n NetworkID, raw []byte, verify bool, want []Kind) (*Signed, error) {
	limit := 0
	for _, k := range want {
		limit = max(limit, k.Cap())
	}
	if len(raw) > limit+envelopeOverhead {
		return nil, CodeTooLarge.Errorf("envelope of %d bytes, at most %d", len(raw), limit+envelopeOverhead)
	}
	var env Envelope
	if err := goproto.Unmarshal(raw, &env); err != nil {
		return nil, CodeMalformed.Errorf("envelope: %v", err)
	}
	if len(env.Signature) != ed25519.SignatureSize {
		return nil, CodeBadSignature.Errorf("signature of %d bytes", len(env.Signature))
	}
	signer, err := ParsePeer(env.Signer)
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	body := new(Payload)
	if err := goproto.Unmarshal(env.Payload, body); err != nil {
		return nil, CodeMalformed.Errorf("payload: %v", err)
	}
	kind := kindOf(body)
	ok := false
	for _, k := range want {
		ok = ok || k == kind
	}
	if !ok {
		return nil, CodeUnknownKind.Errorf("%s where %v was expected", kind, want)
	}
	if len(env.Payload) > kind.Cap() {
		return nil, CodeTooLarge.Errorf("%s of %d bytes, at most %d", kind, len(env.Payload), kind.Cap())
	}
	if verify {
		if err := verifySignature(signer, signedBytes(kind, n, env.Payload), env.Signature); err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
	}
	return &Signed{Kind: kind, Signer: signer, ID: CIDOf(env.Payload), Payload: body, Size: len(env.Payload), Raw: raw}, nil
}

func verifySignature(signer peer.ID, msg, sig []byte) error {
	known := checked.Load()
	if known == nil {
		return computeSignature(signer, msg, sig)
	}
	key := signatureKey(signer, msg, sig)
	if known.has(key) {
		return nil
	}
	err := computeSignature(signer, msg, sig)
	if err == nil {
		known.add(key)
	}
	return err
}

func computeSignature(signer peer.ID, msg, sig []byte) error {
	pub, err := signer.ExtractPublicKey()
	if err != nil {
		return CodeBadSignature.Errorf("signer: %v", err)
	}
	if pub.Type() != crypto.Ed25519 {
		return CodeBadSignature.Errorf("signer: key is not Ed25519")
	}
	if ok, err := pub.Verify(msg, sig); err != nil || !ok {
		return CodeBadSignature.Errorf("signature of %s does not match", signer)
	}
	return nil
}

// signedBytes = "edgenet/<kind>/1\0" || network id || payload.
func signedBytes(k Kind, n NetworkID, payload []byte) []byte {
	id := n.CID().Bytes()
	b := make([]byte, 0, 32+len(id)+len(payload))
	b = append(b, "edgenet/"...)
	b = append(b, k.String()...)
	b = append(b, "/1\x00"...)
	b = append(b, id...)
	return append(b, payload...)
}

func kindOf(p *Payload) Kind {
	switch p.GetBody().(type) {
	case *Payload_Offer:
		return KindOffer
	case *Payload_Withdrawal:
		return KindWithdrawal
	case *Payload_Claim:
		return KindClaim
	case *Payload_Assignments:
		return KindAssignments
	case *Payload_Receipts:
		return KindReceipts
	case *Payload_Voucher:
		return KindVoucher
	case *Payload_Done:
		return KindDone
	case *Payload_Event:
		return KindEvent
	case *Payload_Propose:
		return KindPropose
	case *Payload_Report:
		return KindReport
	case *Payload_Prepare:
		return KindPrepare
	case *Payload_Commit:
		return KindCommit
	case *Payload_Skip:
		return KindSkip
	case *Payload_HeadReport:
		return KindHeadReport
	case *Payload_Evidence:
		return KindEvidence
	case *Payload_Checkpoint:
		return KindCheckpoint
	case *Payload_WorkClaim:
		return KindWorkClaim
	case *Payload_ClaimList:
		return KindClaimList
	case *Payload_ProbeReport:
		return KindProbeReport
	case *Payload_WrongReport:
		return KindWrongReport
	case *Payload_Instance:
		return KindInstance
	}
	return 0
}
