package proto

import (
	"encoding/binary"
	"fmt"
	"io"

	goproto "google.golang.org/protobuf/proto"
)

// Frame caps in bytes, per stream protocol.
const (
	MaxTaskFrame = 2 << 20
	MaxVoteFrame = 1 << 20
	MaxSyncFrame = 64 << 10
	MaxBlobFrame = 256
	MaxGossip    = 64 << 10
	// MaxDirectoryFrame bounds question and answer of the directory.
	MaxDirectoryFrame = 64 << 10
)

// WriteFrame writes m with its uvarint length in front, in one Write. A
// message above limit bytes is refused before anything is written.
func WriteFrame(w io.Writer, m goproto.Message, limit int) error {
	size := goproto.Size(m)
	if size > limit {
		return CodeTooLarge.Errorf("frame of %d bytes, at most %d", size, limit)
	}
	buf := binary.AppendUvarint(make([]byte, 0, size+binary.MaxVarintLen32), uint64(size))
	buf, err := goproto.MarshalOptions{UseCachedSize: true}.MarshalAppend(buf, m)
	if err != nil {
		return fmt.Errorf("frame: %w", err)
	}
	_, err = w.Write(buf)
	return err
}

// FrameReader reads what WriteFrame wrote. io.EOF means the stream ended
// between frames, io.ErrUnexpectedEOF that it ended inside one.
type FrameReader struct {
	r interface {
		io.Reader
		io.ByteReader
	}
	limit int
}

// NewFrameReader refuses frames above limit bytes before allocating for them.
func NewFrameReader(r interface {
	io.Reader
	io.ByteReader
}, limit int,
) *FrameReader {
	return &FrameReader{r, limit}
}

// Read decodes the next frame into m.
func (f *FrameReader) Read(m goproto.Message) error {
	n, err := binary.ReadUvarint(f.r)
	if err != nil {
		return err
	}
	if n > uint64(f.limit) {
		return CodeTooLarge.Errorf("frame of %d bytes, at most %d", n, f.limit)
	}
	// A liar announces much and sends little: grow with what arrives.
	buf := make([]byte, 0, min(n, 32<<10))
	for uint64(len(buf)) < n {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		k, err := f.r.Read(buf[len(buf):min(uint64(cap(buf)), n)])
		buf = buf[:len(buf)+k]
		if err == io.EOF && uint64(len(buf)) < n {
			return io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	if err := goproto.Unmarshal(buf, m); err != nil {
		return CodeMalformed.Errorf("frame: %v", err)
	}
	return nil
}
