//go:build !js

package sandbox

import (
	"bufio"
	"encoding/binary"
	"os"

	"edgenet.dev/proto"
)

// Liars are what a child may do after a guest broke out of its engine.
var Liars = []string{"compile twice", "compiled unasked", "done while compiling", "fuel", "fuel so far", "less fuel so far", "status", "output", "log", "log while compiling", "local status", "huge frame", "silence"}

// LyingChild is the main function of a child that answers its first run with
// one of Liars.
func LyingChild(lie string) {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	next := func() []byte {
		_, b, err := readFrame(in)
		if err != nil {
			os.Exit(0)
		}
		return b
	}
	next()
	writeFrame(out, frameReady, encodeIsolation(Isolation{}))
	_, _, _, task, err := decodeRun(next())
	if err != nil {
		os.Exit(1)
	}
	done := func(r Result) { writeFrame(out, frameDone, encodeDone(r), r.Output) }
	ok := Result{Status: proto.StatusOK, Fuel: 1}
	switch lie {
	case "compile twice":
		for {
			writeFrame(out, frameNeed)
			next()
			writeFrame(out, frameCompiled)
		}
	case "compiled unasked":
		writeFrame(out, frameCompiled)
		done(ok)
	case "done while compiling":
		writeFrame(out, frameNeed)
		next()
		done(ok)
	case "fuel":
		ok.Fuel = task.Limits.Fuel + 1
		done(ok)
	case "fuel so far":
		writeFrame(out, frameFuel, binary.LittleEndian.AppendUint64(nil, uint64(task.Limits.Fuel)+1))
		done(ok)
	case "less fuel so far":
		for _, used := range []uint64{2, 1} {
			writeFrame(out, frameFuel, binary.LittleEndian.AppendUint64(nil, used))
		}
		done(ok)
	case "status":
		ok.Status = 77
		done(ok)
	case "output":
		ok.Output = make([]byte, task.Limits.Output+1)
		done(ok)
	case "log":
		writeFrame(out, frameLog, make([]byte, task.Limits.Log))
		writeFrame(out, frameLog, []byte("x"))
		done(ok)
	case "log while compiling":
		writeFrame(out, frameNeed)
		next()
		writeFrame(out, frameLog, []byte("x"))
		writeFrame(out, frameCompiled)
		done(ok)
	case "local status":
		ok.Status = proto.StatusTimeout
		done(ok)
	case "huge frame":
		var head [5]byte
		binary.LittleEndian.PutUint32(head[:], 1<<32-1)
		out.Write(head[:])
		out.Flush()
	}
	next() // the end of the pool
}
