package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"edgenet.dev/proto"
)

// Merkle trees over a checkpoint's state. Leaves are sorted by key, and
//
//	leaf = sha2-256(0x00 ‖ tree ‖ len(key) as 4 bytes ‖ key ‖ value)
//	node = sha2-256(0x01 ‖ left ‖ right); the last node of an odd level moves up as it is
//	root = sha2-256("edgenet/state/1\0" ‖ tree ‖ leaves as 8 bytes ‖ top)
//
// with 32 zero bytes as the top of no leaves. Leaf and node cannot be taken
// for each other, and a root fixes which tree it is and how many leaves it has.

// Trees of a checkpoint.
const (
	treeAccounts   = 'a'
	treeHolds      = 'h'
	treeUnclaimed  = 'p'
	treeReputation = 'r'
)

var trees = [...]byte{treeAccounts, treeHolds, treeUnclaimed, treeReputation}

// leaf is one record of a checkpoint's state.
type leaf struct {
	tree       byte
	key, value []byte
}

func (l leaf) hash() proto.Hash {
	b := make([]byte, 0, 6+len(l.key)+len(l.value))
	b = append(b, 0, l.tree)
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.key)))
	b = append(b, l.key...)
	return sha256.Sum256(append(b, l.value...))
}

func compareLeaves(a, b leaf) int {
	if a.tree != b.tree {
		return int(a.tree) - int(b.tree)
	}
	return bytes.Compare(a.key, b.key)
}

func nodeHash(left, right proto.Hash) proto.Hash {
	var b [65]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

func rootHash(tree byte, leaves uint64, top proto.Hash) proto.Hash {
	b := append([]byte("edgenet/state/1\x00"), tree)
	b = binary.BigEndian.AppendUint64(b, leaves)
	return sha256.Sum256(append(b, top[:]...))
}

// merkle is a tree with all its levels, leaves first.
type merkle struct {
	tree   byte
	levels [][]proto.Hash
}

// newMerkle takes the leaves of one tree, sorted.
func newMerkle(tree byte, leaves []leaf) merkle {
	level := make([]proto.Hash, len(leaves))
	for i, l := range leaves {
		level[i] = l.hash()
	}
	m := merkle{tree, [][]proto.Hash{level}}
	for len(level) > 1 {
		up := make([]proto.Hash, 0, (len(level)+1)/2)
		for i := 0; i < len(level); i += 2 {
			if i+1 == len(level) {
				up = append(up, level[i])
			} else {
				up = append(up, nodeHash(level[i], level[i+1]))
			}
		}
		m.levels, level = append(m.levels, up), up
	}
	return m
}

func (m merkle) root() proto.Hash {
	var top proto.Hash
	if last := m.levels[len(m.levels)-1]; len(last) == 1 {
		top = last[0]
	}
	return rootHash(m.tree, uint64(len(m.levels[0])), top)
}

// path is the siblings of a leaf, from the leaf up.
func (m merkle) path(index int) [][]byte {
	var out [][]byte
	for _, level := range m.levels[:len(m.levels)-1] {
		if sibling := index ^ 1; sibling < len(level) {
			out = append(out, level[sibling][:])
		}
		index /= 2
	}
	return out
}

// provenRoot is the root that a leaf with its path belongs to, in a tree of
// count leaves.
func provenRoot(l leaf, index, count uint64, path [][]byte) (proto.Hash, error) {
	if index >= count || len(path) > 64 {
		return proto.Hash{}, proto.CodeMalformed.Errorf("proof of leaf %d of %d with %d siblings", index, count, len(path))
	}
	top := l.hash()
	for n, i := count, index; n > 1; n, i = (n+1)/2, i/2 {
		if i^1 >= n { // the last of an odd level
			continue
		}
		if len(path) == 0 {
			return proto.Hash{}, proto.CodeMalformed.Errorf("proof is too short")
		}
		sibling, err := proto.ToHash(path[0])
		if err != nil {
			return proto.Hash{}, err
		}
		if path = path[1:]; i&1 == 1 {
			top = nodeHash(sibling, top)
		} else {
			top = nodeHash(top, sibling)
		}
	}
	if len(path) > 0 {
		return proto.Hash{}, proto.CodeMalformed.Errorf("proof is too long")
	}
	return rootHash(l.tree, count, top), nil
}
