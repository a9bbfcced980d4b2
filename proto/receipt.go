package proto

import (
	"crypto/sha256"

	"github.com/libp2p/go-libp2p/core/crypto"
	goproto "google.golang.org/protobuf/proto"
)

// MaxReceipts is the number of receipts one ReceiptBatch may sign.
const MaxReceipts = 256

func leafHash(b []byte) Hash {
	return sha256.Sum256(append([]byte{0}, b...))
}

func nodeHash(l, r Hash) Hash {
	b := append([]byte{1}, l[:]...)
	return sha256.Sum256(append(b, r[:]...))
}

// merkle returns the root over leaves and, per leaf, its path of siblings. An
// odd node at the end of a level moves up unchanged.
func merkle(leaves []Hash) (Hash, [][]Hash) {
	paths := make([][]Hash, len(leaves))
	if len(leaves) == 0 {
		return Hash{}, paths
	}
	level := append([]Hash(nil), leaves...)
	for width := 1; len(level) > 1; width *= 2 {
		for i := range leaves {
			if sib := (i / width) ^ 1; sib < len(level) {
				paths[i] = append(paths[i], level[sib])
			}
		}
		next := level[:0:0]
		for i := 0; i < len(level); i += 2 {
			if i+1 < len(level) {
				next = append(next, nodeHash(level[i], level[i+1]))
			} else {
				next = append(next, level[i])
			}
		}
		level = next
	}
	return level[0], paths
}

// SignReceipts signs receipts (each a marshalled Receipt) as one batch and
// returns the marshalled Envelope.
func SignReceipts(key crypto.PrivKey, n NetworkID, receipts [][]byte, timeUnixMs uint64) ([]byte, error) {
	if len(receipts) == 0 || len(receipts) > MaxReceipts {
		return nil, CodeTooLarge.Errorf("%d receipts in a batch, want 1 to %d", len(receipts), MaxReceipts)
	}
	root, _ := merkle(leafHashes(receipts))
	return Seal(key, n, &Payload{Body: &Payload_Receipts{&ReceiptBatch{
		Root: root[:], Leaves: uint32(len(receipts)), TimeUnixMs: timeUnixMs,
	}}})
}

func leafHashes(receipts [][]byte) []Hash {
	leaves := make([]Hash, len(receipts))
	for i, r := range receipts {
		leaves[i] = leafHash(r)
	}
	return leaves
}

// OpenReceipts checks a batch that came with all its leaves and returns one
// portable receipt for each.
func OpenReceipts(n NetworkID, batch []byte, receipts [][]byte) (*Signed, []*SignedReceipt, error) {
	s, err := Unseal(n, batch, KindReceipts)
	if err != nil {
		return nil, nil, err
	}
	b := s.Payload.GetReceipts()
	if len(receipts) == 0 || len(receipts) > MaxReceipts || int(b.Leaves) != len(receipts) {
		return nil, nil, CodeBadReceipt.Errorf("batch names %d receipts, %d came", b.Leaves, len(receipts))
	}
	root, paths := merkle(leafHashes(receipts))
	if string(root[:]) != string(b.Root) {
		return nil, nil, CodeBadReceipt.Errorf("batch root does not match its receipts")
	}
	out := make([]*SignedReceipt, len(receipts))
	for i := range receipts {
		out[i] = &SignedReceipt{Receipt: receipts[i], Index: uint32(i), Batch: batch}
		for _, h := range paths[i] {
			out[i].Path = append(out[i].Path, h[:])
		}
	}
	return s, out, nil
}

// VerifyReceipt checks a portable receipt offline: the worker's signature over
// the batch, the path to its root, and that the worker named in the receipt is
// the signer.
func VerifyReceipt(n NetworkID, sr *SignedReceipt) (*Receipt, error) {
	s, err := Unseal(n, sr.Batch, KindReceipts)
	if err != nil {
		return nil, err
	}
	b := s.Payload.GetReceipts()
	if b.Leaves == 0 || b.Leaves > MaxReceipts || sr.Index >= b.Leaves {
		return nil, CodeBadReceipt.Errorf("leaf %d of %d", sr.Index, b.Leaves)
	}
	h := leafHash(sr.Receipt)
	path := sr.Path
	for i, size := sr.Index, b.Leaves; size > 1; i, size = i/2, (size+1)/2 {
		if i^1 >= size {
			continue
		}
		if len(path) == 0 {
			return nil, CodeBadReceipt.Errorf("path is too short")
		}
		sib, err := ToHash(path[0])
		if err != nil {
			return nil, err
		}
		path = path[1:]
		if i%2 == 0 {
			h = nodeHash(h, sib)
		} else {
			h = nodeHash(sib, h)
		}
	}
	if len(path) != 0 || string(h[:]) != string(b.Root) {
		return nil, CodeBadReceipt.Errorf("receipt is not in the signed batch")
	}
	r := new(Receipt)
	if err := goproto.Unmarshal(sr.Receipt, r); err != nil {
		return nil, CodeMalformed.Errorf("receipt: %v", err)
	}
	if string(r.Worker) != string(s.Signer) {
		return nil, CodeBadReceipt.Errorf("receipt names another worker than its signer")
	}
	return r, nil
}
