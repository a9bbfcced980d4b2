//go:build !js

package sandbox

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"edgenet.dev/proto"
)

// Frames between pool and child: length (u32, of what follows), kind, payload.
// Integers are little-endian.
const (
	frameSetup    = 'S' // memory ceiling u64, setupBare or 0, cache directory
	frameReady    = 'H' // see encodeIsolation
	frameProbe    = 'T' // asks for, and answers with, encodeAttempts
	frameRun      = 'R' // see encodeRun
	frameNeed     = 'N' // the module of the pending run is not compiled here
	frameLoad     = 'L' // code of the pending run
	frameCompiled = 'C'
	frameProgress = 'P' // permille u32
	frameLog      = 'G' // the log's next bytes, as the guest writes them: a killed child keeps nothing
	frameOut      = 'O' // the next bytes of stdout's start, likewise; frameDone has all of it again
	frameFuel     = 'F' // fuel u64 that the guest has used so far: a killed child tells nothing any more
	frameDone     = 'D' // see encodeDone
	frameFault    = 'X' // text: the engine failed, not the guest
)

// maxFrame bounds both directions: an input or a module, and a header.
const maxFrame = proto.MaxInput + 64<<10 + 4*proto.MaxModule

func writeFrame(w *bufio.Writer, kind byte, parts ...[]byte) error {
	n := 1
	for _, p := range parts {
		n += len(p)
	}
	var head [5]byte
	binary.LittleEndian.PutUint32(head[:], uint32(n))
	head[4] = kind
	w.Write(head[:])
	for _, p := range parts {
		w.Write(p)
	}
	return w.Flush()
}

func readFrame(r *bufio.Reader) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n == 0 || n > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes", n)
	}
	payload = make([]byte, n-1)
	_, err = io.ReadFull(r, payload)
	return head[4], payload, err
}

const runHead = 32 + 1 + 1 + 8 + 4 + 4*8 + 32

var errFrame = errors.New("malformed frame")

// encodeRun is a run's header; the input follows it in the frame.
func encodeRun(key proto.Hash, o order, task Task) []byte {
	b := make([]byte, 0, runHead)
	b = append(b, key[:]...)
	var flags byte
	if o.hasStart {
		flags |= 1
	}
	if o.hasInit {
		flags |= 2
	}
	b = append(b, byte(o.abi), flags)
	le := binary.LittleEndian
	b = le.AppendUint64(b, o.startFuel)
	b = le.AppendUint32(b, o.minPages)
	b = le.AppendUint64(b, uint64(task.Limits.Fuel))
	b = le.AppendUint64(b, task.Limits.Memory)
	b = le.AppendUint64(b, task.Limits.Output)
	b = le.AppendUint64(b, task.Limits.Log)
	return append(b, task.Seed[:]...)
}

func decodeRun(b []byte) (key proto.Hash, o order, input []byte, task Task, err error) {
	if len(b) < runHead {
		return key, o, nil, task, errFrame
	}
	le := binary.LittleEndian
	key = proto.Hash(b[:32])
	o = order{abi: ABI(b[32]), hasStart: b[33]&1 != 0, hasInit: b[33]&2 != 0, startFuel: le.Uint64(b[34:]), minPages: le.Uint32(b[42:])}
	task.Limits = proto.Limits{
		Fuel: proto.Fuel(le.Uint64(b[46:])), Memory: le.Uint64(b[54:]), Output: le.Uint64(b[62:]), Log: le.Uint64(b[70:]),
		Wall: time.Hour, // the parent holds the clock
	}
	task.Seed = proto.Hash(b[78:110])
	return key, o, b[runHead:], task, nil
}

// encodeDone is a result's header; the output follows it in the frame. The log
// went ahead.
func encodeDone(r Result) (head []byte) {
	le := binary.LittleEndian
	head = le.AppendUint32(head, uint32(r.Status))
	head = le.AppendUint32(head, uint32(r.ExitCode))
	return le.AppendUint64(head, uint64(r.Fuel))
}

func decodeDone(b []byte) (r Result, err error) {
	le := binary.LittleEndian
	if len(b) < 16 {
		return r, errFrame
	}
	return Result{Status: proto.Status(le.Uint32(b)), ExitCode: int32(le.Uint32(b[4:])), Fuel: proto.Fuel(le.Uint64(b[8:])), Output: b[16:]}, nil
}
