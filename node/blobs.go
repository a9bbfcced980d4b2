package node

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
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

const (
	maxBlobStreams = 16 // blobs served at once, each in memory whole
	maxBlobsOfPeer = 4  // of these to one peer; others of its own wait
	blobRequest    = 10 * time.Second
	blobWait       = 30 * time.Second // for a place, of one that is not told meanwhile
	blobQueue      = 2 * time.Minute  // for a place, of one that is
	blobTurn       = 10 * time.Second // before the least rate counts
	blobLongest    = 10 * time.Minute // to serve one, at the least rate
	blobPatience   = time.Minute      // to fetch one, once it is served
	blobTries      = 4                // to fetch one from a peer that is busy
)

// serveBlob answers one BlobRequest per stream: a BlobReply, then the bytes.
func (n *Node) serveBlob(s network.Stream) {
	s.SetDeadline(time.Now().Add(blobRequest))
	var req proto.BlobRequest
	if err := proto.NewFrameReader(bufio.NewReader(s), proto.MaxBlobFrame).Read(&req); err != nil {
		s.Reset()
		return
	}
	from := s.Conn().RemotePeer()
	longest, beat := blobWait, (func() error)(nil)
	if req.Waits {
		longest, beat = blobQueue, func() error {
			s.SetWriteDeadline(time.Now().Add(blobTurn))
			return proto.WriteFrame(s, &proto.BlobReply{Waiting: true}, proto.MaxBlobFrame)
		}
	}
	wait, cancel := context.WithTimeout(n.ctx, longest) // only now: a stream without a question must not keep others waiting
	place, ok := n.serving.take(wait, from, siteOf(s.Conn()), beat)
	cancel()
	s.SetDeadline(time.Now().Add(blobTurn))
	if !ok {
		if proto.WriteFrame(s, &proto.BlobReply{Code: uint32(proto.CodeBusy)}, proto.MaxBlobFrame) != nil {
			s.Reset()
		}
		s.Close()
		return
	}
	defer n.serving.leave(place)
	defer context.AfterFunc(place, func() { s.Reset() })() // its turn is over
	reply, body := &proto.BlobReply{}, []byte(nil)
	c, err := proto.ParseCID(req.Cid)
	if err == nil {
		var h proto.Hash
		if h, err = proto.CIDHash(c); err == nil {
			if !n.mayHave(from, h, req.Key) { // nor does it learn whether the blob is here
				err = proto.CodeNotFound.Errorf("blob %s is not for %s", h.CID(), from)
			} else {
				body, err = n.blob(h)
			}
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
	if err := n.serving.send(s, body, blobLongest); err != nil {
		s.Reset()
		return
	}
	s.Close()
}

// fetchBlob asks from for the blob with hash h of at most limit bytes, checks
// it and returns it; keeping it is the caller's choice. key is what lets this
// node have it. One that is busy is asked again a few times.
func (n *Node) fetchBlob(ctx context.Context, from peer.ID, h proto.Hash, key []byte, limit uint64) (b []byte, err error) {
	if b, err := n.blob(h); err == nil {
		return b, nil
	}
	for range blobTries {
		b, err = n.fetchOnce(ctx, from, h, key, limit)
		if proto.CodeOf(err) != proto.CodeBusy || ctx.Err() != nil {
			break
		}
	}
	return b, err
}

func (n *Node) fetchOnce(ctx context.Context, from peer.ID, h proto.Hash, key []byte, limit uint64) (b []byte, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := time.AfterFunc(blobPatience, cancel)
	defer patience.Stop()
	err = n.readBlob(ctx, from, h, key, 0, limit, func() { patience.Reset(blobPatience) }, func(r io.Reader) error {
		b, err = io.ReadAll(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	if proto.HashOf(b) != h {
		return nil, mismatch(from, h)
	}
	return b, nil
}

func mismatch(from peer.ID, h proto.Hash) error {
	return proto.CodeFetch.Errorf("blob %s from %s: the bytes do not match", h.CID(), from)
}

// partBlob is the beginning of a blob that was heard and not kept.
type partBlob struct {
	sum  hash.Hash
	size uint64
}

func newPartBlob() *partBlob { return &partBlob{sum: sha256.New()} }

func (p *partBlob) Write(b []byte) (int, error) {
	p.size += uint64(len(b))
	return p.sum.Write(b)
}

// hearBlob checks that from has an output of hash h, without keeping it. part
// is what an earlier call heard of it; after an error it goes on there.
func (n *Node) hearBlob(ctx context.Context, from peer.ID, h proto.Hash, part *partBlob) error {
	if _, err := n.blob(h); err == nil {
		return nil
	}
	err := n.readBlob(ctx, from, h, nil, part.size, proto.MaxOutput, nil, func(r io.Reader) error {
		_, err := io.Copy(part, r)
		return err
	})
	if err == nil && proto.Hash(part.sum.Sum(nil)) != h {
		err = mismatch(from, h)
	}
	return err
}

// readBlob asks from for the blob with hash h of at most limit bytes and hands
// over those from offset on. It ends with ctx. waits hears each time that from says
// that this node waits for its turn there, and when the turn comes; nil asks from
// not to say so. Errors carry CodeFetch, CodeTooLarge, or CodeBusy when the turn did
// not come.
func (n *Node) readBlob(ctx context.Context, from peer.ID, h proto.Hash, key []byte, offset, limit uint64, waits func(), read func(io.Reader) error) error {
	s, err := n.stream(ctx, from, "blob")
	if err != nil {
		return proto.CodeFetch.Errorf("blob %s: %v", h.CID(), err)
	}
	defer s.Reset() // a no-op once both sides closed
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	if err := proto.WriteFrame(s, &proto.BlobRequest{Cid: h.CID().Bytes(), Offset: offset, Key: key, Waits: waits != nil}, proto.MaxBlobFrame); err != nil {
		return proto.CodeFetch.Errorf("blob %s: %v", h.CID(), err)
	}
	s.CloseWrite() // fails when the peer has answered and closed already
	r := bufio.NewReader(s)
	in := proto.NewFrameReader(r, proto.MaxBlobFrame)
	var reply proto.BlobReply
	for asked := time.Now(); ; {
		reply.Reset()
		if err := in.Read(&reply); err != nil {
			return proto.CodeFetch.Errorf("blob %s from %s: %v", h.CID(), from, err)
		}
		if waits != nil {
			waits()
		}
		if !reply.Waiting {
			break
		}
		if waits == nil || time.Since(asked) > 2*blobQueue {
			return proto.CodeFetch.Errorf("blob %s from %s: it says that we wait for our turn for ever", h.CID(), from)
		}
	}
	switch {
	case proto.Code(reply.Code) == proto.CodeBusy:
		return proto.CodeBusy.Errorf("blob %s from %s: it serves too many others", h.CID(), from)
	case reply.Code != 0:
		return proto.CodeFetch.Errorf("blob %s from %s: %s", h.CID(), from, proto.Code(reply.Code))
	case reply.Size > min(limit, maxBlob):
		return proto.CodeTooLarge.Errorf("blob %s from %s: %d bytes, at most %d", h.CID(), from, reply.Size, limit)
	case reply.Size < offset:
		return mismatch(from, h)
	}
	rest := &io.LimitedReader{R: r, N: int64(reply.Size - offset)}
	if err := read(rest); err != nil {
		return proto.CodeFetch.Errorf("blob %s from %s: %v", h.CID(), from, err)
	}
	if rest.N > 0 {
		return proto.CodeFetch.Errorf("blob %s from %s: %d bytes are missing", h.CID(), from, rest.N)
	}
	return nil
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
