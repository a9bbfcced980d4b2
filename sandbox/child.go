//go:build !js

package sandbox

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/tetratelabs/wazero/experimental"

	"edgenet.dev/proto"
)

// ChildMain is the main function of a pool's child: it serves frames on stdin
// and stdout until stdin ends, and returns the exit code. Call it at the top of
// main when the process was started with the pool's Command.
func ChildMain() int {
	runtime.GOMAXPROCS(2)
	out := os.Stdout
	os.Stdout = os.Stderr // a stray print must not look like a frame
	if err := serve(os.Stdin, out); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox child:", err)
		return 1
	}
	return 0
}

// progressEvery bounds the progress frames of a chatty guest.
const progressEvery = 50 * time.Millisecond

// trim gives the system back what a compiler left behind, if that is much.
func trim() {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(sample)
	var held uint64
	for _, s := range sample {
		held += s.Value.Uint64()
	}
	if held > 24<<20 {
		debug.FreeOSMemory()
	}
}

// The setup frame's head; setupBare leaves the child with resource limits only,
// which a test uses to show that its probe can tell.
const (
	setupHead = 9
	setupBare = 1
)

type frame struct {
	kind    byte
	payload []byte
}

func serve(in io.Reader, to io.Writer) error {
	ctx := experimental.WithCompilationWorkers(context.Background(), runtime.GOMAXPROCS(0))
	r, w := bufio.NewReaderSize(in, 64<<10), bufio.NewWriterSize(to, 64<<10)
	kind, setup, err := readFrame(r)
	if err != nil {
		return err
	}
	if kind != frameSetup || len(setup) < setupHead {
		return errFrame
	}
	if err := confine(binary.LittleEndian.Uint64(setup)); err != nil {
		return err
	}
	cacheDir, bare := string(setup[setupHead:]), setup[8] == setupBare
	held := Isolation{InForce: []string{"resource limits"}}
	if !bare {
		cacheDir = hideFiles(&held, cacheDir)
	}
	e, err := newEngine(ctx, engineConfig{cacheDir: cacheDir})
	if err != nil {
		return err
	}
	defer e.close()
	if !bare {
		dropCalls(&held, cacheDir != "")
	}
	if err := writeFrame(w, frameReady, encodeIsolation(held)); err != nil {
		return err
	}

	frames := source{r: r}
	for {
		f := frames.next()
		if f.kind == frameProbe {
			if err := writeFrame(w, frameProbe, encodeAttempts(attempts())); err != nil {
				return err
			}
			continue
		}
		if f.kind != frameRun {
			return errFrame
		}
		key, o, input, task, err := decodeRun(f.payload)
		if err != nil {
			return err
		}
		var code []byte
		if !e.has(key) {
			if err := writeFrame(w, frameNeed); err != nil {
				return err
			}
			load := frames.next()
			if load.kind != frameLoad {
				return errFrame
			}
			code = load.payload
		}
		c, err := e.compile(ctx, key, code)
		if err != nil {
			if err := writeFrame(w, frameFault, []byte("compile: "+err.Error())); err != nil {
				return err
			}
			continue
		}
		if code != nil {
			trim()
			if err := writeFrame(w, frameCompiled); err != nil {
				return err
			}
		}
		var mu sync.Mutex // the guest's thread and the meter's both write
		tell := func(kind byte, b []byte) {
			mu.Lock()
			defer mu.Unlock()
			writeFrame(w, kind, b)
		}
		var last time.Time
		task.Progress = func(permille uint32) {
			if now := time.Now(); now.Sub(last) >= progressEvery {
				last = now
				tell(frameProgress, binary.LittleEndian.AppendUint32(nil, permille))
			}
		}
		task.onLog = func(b []byte) { tell(frameLog, b) }
		task.onOut = func(b []byte) { tell(frameOut, b) }
		task.onRun = func(used func() proto.Fuel) func() { return meter(used, tell) }
		rest := frames.watch()
		res, err := e.execute(ctx, c, o, input, task)
		rest()
		e.release(ctx, c)
		if err != nil {
			err = writeFrame(w, frameFault, []byte(err.Error()))
		} else {
			err = writeFrame(w, frameDone, encodeDone(res), res.Output)
		}
		if err != nil {
			return err
		}
	}
}

// meterEvery is how often the parent is told what a guest has used: what it did
// since is lost to its worker when it is killed. Most tasks end sooner and cost
// nothing here.
const meterEvery = 200 * time.Millisecond

// meter tells what a guest has used from time to time, until the function that it
// returns is called; nothing is told afterwards. While the collector waits for
// the guest, which no thread can interrupt, it tells nothing: what was told stays.
func meter(used func() proto.Fuel, tell func(kind byte, b []byte)) (ended func()) {
	var mu sync.Mutex
	var timer *time.Timer
	var b [8]byte
	over := false
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(meterEvery, func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		binary.LittleEndian.PutUint64(b[:], uint64(used()))
		tell(frameFuel, b[:])
		timer.Reset(meterEvery)
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		timer.Stop()
	}
}

// watchAfter is how long a guest runs before somebody else reads stdin. Most
// tasks end sooner, and their frames then need no way between threads.
const watchAfter = 20 * time.Millisecond

// source reads frames. The end of stdin is the end of the parent, and of this
// process, also while a guest runs.
type source struct {
	r     *bufio.Reader
	ahead chan frame // set while somebody else reads
}

func (s *source) next() frame {
	if s.ahead != nil {
		f := <-s.ahead
		s.ahead = nil
		return f
	}
	return s.read()
}

func (s *source) read() frame {
	kind, b, err := readFrame(s.r)
	if err != nil {
		os.Exit(0)
	}
	return frame{kind, b}
}

// watch has stdin read from soon on, until a frame has come. The caller leaves
// it alone until it calls the function returned.
func (s *source) watch() (rest func()) {
	if s.ahead != nil {
		return func() {} // it waits already
	}
	ahead := make(chan frame, 1)
	timer := time.AfterFunc(watchAfter, func() { ahead <- s.read() })
	return func() {
		if !timer.Stop() {
			s.ahead = ahead
		}
	}
}
