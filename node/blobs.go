package node

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
)

// maxBlob is the largest blob that travels, in bytes.
const maxBlob = proto.MaxInput

func blobKey(h proto.Hash) string { return "blob/" + h.String() }

// putBlob keeps b under its hash. It becomes durable with the next commit.
func (n *Node) putBlob(h proto.Hash, b []byte) error {
	return n.kv.put(blobKey(h), b)
}

// blob returns what this node has under h: a built-in module, a
// result not yet fetched, or what a job of this node brought.
func (n *Node) blob(h proto.Hash) ([]byte, error) {
	if b, ok := n.builtins[h]; ok {
		return b, nil
	}
	if b, ok := n.work.output(h); ok {
		return b, nil
	}
	b, err := n.kv.get(blobKey(h))
	if errors.Is(err, errNoKey) {
		if b, ok := n.claims.output(h); ok {
			return b, nil
		}
		return nil, proto.CodeNotFound.Errorf("blob %s is not here", h.CID())
	}
	return b, err
}

// maxBlobStreams bounds blobs that are served at once, each in memory whole.
const maxBlobStreams = 16

// serveBlob answers one BlobRequest per stream: a BlobReply, then the bytes.
func (n *Node) serveBlob(s network.Stream) {
	select {
	case n.serving <- struct{}{}:
		defer func() { <-n.serving }()
	case <-n.ctx.Done():
		s.Reset()
		return
	}
	s.SetDeadline(time.Now().Add(time.Minute))
	var req proto.BlobRequest
	if err := proto.NewFrameReader(bufio.NewReader(s), proto.MaxBlobFrame).Read(&req); err != nil {
		s.Reset()
		return
	}
	reply, body := &proto.BlobReply{}, []byte(nil)
	c, err := proto.ParseCID(req.Cid)
	if err == nil {
		var h proto.Hash
		if h, err = proto.CIDHash(c); err == nil {
			body, err = n.blob(h)
		}
	}
	if err == nil && req.Offset > uint64(len(body)) {
		err = proto.CodeMalformed.Errorf("offset %d past the end", req.Offset)
	}
	if err != nil {
		reply.Code = uint32(proto.CodeOf(err))
		body = nil
	} else {
		reply.Size = uint64(len(body))
		body = body[req.Offset:]
	}
	if proto.WriteFrame(s, reply, proto.MaxBlobFrame) != nil {
		s.Reset()
		return
	}
	if _, err := s.Write(body); err != nil {
		s.Reset()
		return
	}
	s.Close()
}

// fetchBlob asks from for the blob with hash h of at most limit bytes, checks
// it and returns it; keeping it is the caller's choice.
func (n *Node) fetchBlob(ctx context.Context, from peer.ID, h proto.Hash, limit uint64) ([]byte, error) {
	if b, err := n.blob(h); err == nil {
		return b, nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, err := n.stream(ctx, from, "blob")
	if err != nil {
		return nil, proto.CodeFetch.Errorf("blob %s: %v", h.CID(), err)
	}
	defer s.Reset() // a no-op once both sides closed
	if t, ok := ctx.Deadline(); ok {
		s.SetDeadline(t)
	}
	if err := proto.WriteFrame(s, &proto.BlobRequest{Cid: h.CID().Bytes()}, proto.MaxBlobFrame); err != nil {
		return nil, proto.CodeFetch.Errorf("blob %s: %v", h.CID(), err)
	}
	if err := s.CloseWrite(); err != nil {
		return nil, proto.CodeFetch.Errorf("blob %s: %v", h.CID(), err)
	}
	r := bufio.NewReader(s)
	var reply proto.BlobReply
	if err := proto.NewFrameReader(r, proto.MaxBlobFrame).Read(&reply); err != nil {
		return nil, proto.CodeFetch.Errorf("blob %s from %s: %v", h.CID(), from, err)
	}
	if reply.Code != 0 {
		return nil, proto.CodeFetch.Errorf("blob %s from %s: %s", h.CID(), from, proto.Code(reply.Code))
	}
	if reply.Size > min(limit, maxBlob) {
		return nil, proto.CodeTooLarge.Errorf("blob %s from %s: %d bytes, at most %d", h.CID(), from, reply.Size, limit)
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(reply.Size)))
	if err != nil {
		return nil, proto.CodeFetch.Errorf("blob %s from %s: %v", h.CID(), from, err)
	}
	if proto.HashOf(b) != h {
		return nil, proto.CodeFetch.Errorf("blob %s from %s: the bytes do not match", h.CID(), from)
	}
	return b, nil
}

// builtinBlobs are the modules that every node carries, by hash of their bytes.
func builtinBlobs() map[proto.Hash][]byte {
	m := map[proto.Hash][]byte{}
	for _, t := range modules.Types() {
		if b, ok := modules.Lookup(t); ok {
			m[proto.HashOf(b.Raw)] = b.Raw
		}
	}
	return m
}

// builtinTypes names the task types of each built-in module.
func builtinTypes() map[cid.Cid][]string {
	m := map[cid.Cid][]string{}
	for _, t := range modules.Types() {
		if b, ok := modules.Lookup(t); ok {
			m[b.ID] = append(m[b.ID], t)
		}
	}
	return m
}
