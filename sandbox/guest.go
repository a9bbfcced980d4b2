package sandbox

import (
	"encoding/binary"
	"math/bits"
	"strconv"

	"edgenet.dev/proto"
)

// memory is a guest's linear memory as the host sees it. view returns nil when
// the range is not inside.
type memory interface {
	view(ptr, size uint32) []byte
}

// guest is the host side of one run: what the imports read and write. It holds
// no engine types, so each engine binds it to its own calling convention.
type guest struct {
	abi      ABI
	input    []byte // stdin, from read on
	read     int
	stdout   []byte
	maxOut   uint64
	log      []byte
	maxLog   uint64
	overflow bool // output above its limit
	onLog    func(b []byte)
	onOut    func(b []byte)
	toldOut  int // of stdout
	clock    uint64
	rng      [4]uint64
	progress func(permille uint32)
	left     int64  // fuel when the call began
	charged  uint64 // fuel to take for the call, by length
}

// Prices of host calls, on top of the rewriter's charge for the call.
const (
	hostBytesShift = 3  // bytes moved per fuel, as a power of two
	entryBytes     = 80 // what an entry of a vector or of a poll counts as
)

func newGuest(abi ABI, input []byte, task Task) *guest {
	g := &guest{abi: abi, maxOut: task.Limits.Output, maxLog: task.Limits.Log, progress: task.Progress, onLog: task.onLog, onOut: task.onOut}
	if abi == ABICommand {
		g.input = input
	}
	for i := range g.rng {
		g.rng[i] = binary.LittleEndian.Uint64(task.Seed[8*i:])
	}
	if task.Seed.IsZero() {
		g.rng[0] = 1 // the generator's one forbidden state
	}
	return g
}

// tick reads the virtual clock in nanoseconds: it starts at 0 and advances 1 µs
// per read.
func (g *guest) tick() uint64 {
	t := g.clock
	g.clock += 1_000
	return t
}

// next is xoshiro256**: short enough to be written again in JavaScript.
func (g *guest) next() uint64 {
	s := &g.rng
	r := bits.RotateLeft64(s[1]*5, 7) * 9
	t := s[1] << 17
	s[2] ^= s[0]
	s[3] ^= s[1]
	s[1] ^= s[2]
	s[0] ^= s[3]
	s[2] ^= t
	s[3] = bits.RotateLeft64(s[3], 45)
	return r
}

// charge takes the price of n bytes. It reports whether there was fuel for it;
// if not, the run ends when the call returns, so the work need not be done.
func (g *guest) charge(n uint32) bool {
	g.charged += uint64(n) >> hostBytesShift
	return !g.broke()
}

// broke is set by a charge only: a guest that was below zero before the call
// goes on to its next check.
func (g *guest) broke() bool { return g.charged > 0 && int64(g.charged) > g.left }

func (g *guest) logWrite(b []byte) {
	if room := g.maxLog - uint64(len(g.log)); uint64(len(b)) > room {
		b = b[:room]
	}
	g.log = append(g.log, b...)
	if g.onLog != nil && len(b) > 0 {
		g.onLog(b)
	}
}

// outStep is how much of stdout is told at once, after its first so many bytes,
// which are told as they come: a guest that writes byte by byte must not pay for
// a frame each time.
const outStep = 4 << 10

// tellOutput passes on the start of stdout, for whoever kills the guest.
func (g *guest) tellOutput() {
	end := min(len(g.stdout), proto.MaxLostOutput)
	if n := end - g.toldOut; g.onOut != nil && n > 0 && (g.toldOut < outStep || n >= outStep || end == proto.MaxLostOutput) {
		g.onOut(g.stdout[g.toldOut:end])
		g.toldOut = end
	}
}

// lost is the result of a run that was ended from outside.
func (g *guest) lost(s proto.Status) Result {
	return Result{Status: s, Output: g.stdout[:min(len(g.stdout), proto.MaxLostOutput)], Log: g.log}
}

func put32(mem memory, ptr, v uint32) uint32 {
	b := mem.view(ptr, 4)
	if b == nil {
		return wasiEFAULT
	}
	binary.LittleEndian.PutUint32(b, v)
	return wasiOK
}

func put64(mem memory, ptr uint32, v uint64) uint32 {
	b := mem.view(ptr, 8)
	if b == nil {
		return wasiEFAULT
	}
	binary.LittleEndian.PutUint64(b, v)
	return wasiOK
}

// programName is argv[0], the guest's only argument: programs and their
// libraries take it for granted. It is no secret of the submitter's and the
// same for every module, so that it tells nothing and changes nothing.
const programName = "task"

// argsSizesGet answers with one argument and its size, a zero at the end
// included.
func (g *guest) argsSizesGet(mem memory, count, size uint32) uint32 {
	if e := put32(mem, count, 1); e != wasiOK {
		return e
	}
	return put32(mem, size, uint32(len(programName)+1))
}

func (g *guest) argsGet(mem memory, argv, at uint32) uint32 {
	if e := put32(mem, argv, at); e != wasiOK {
		return e
	}
	b := mem.view(at, uint32(len(programName)+1))
	if b == nil {
		return wasiEFAULT
	}
	b[copy(b, programName)] = 0
	return wasiOK
}

// environSizesGet answers that there are no variables.
func (g *guest) environSizesGet(mem memory, count, size uint32) uint32 {
	if e := put32(mem, count, 0); e != wasiOK {
		return e
	}
	return put32(mem, size, 0)
}

func (g *guest) clockTimeGet(mem memory, id, ptr uint32) uint32 {
	if id > 3 {
		return wasiEINVAL
	}
	return put64(mem, ptr, g.tick())
}

func (g *guest) randomGet(mem memory, ptr, size uint32) uint32 {
	b := mem.view(ptr, size)
	if b == nil {
		return wasiEFAULT
	}
	if !g.charge(size) { // before the work: it may be gigabytes
		return wasiOK
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, g.next())
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], g.next())
		copy(b, last[:])
	}
	return wasiOK
}

const maxIovecs = 1024

// iovecs calls do for each buffer of a vector until it returns false.
func (g *guest) iovecs(mem memory, ptr, n uint32, do func(b []byte) bool) uint32 {
	if n > maxIovecs {
		return wasiEINVAL
	}
	table := mem.view(ptr, 8*n)
	if table == nil {
		return wasiEFAULT
	}
	if !g.charge(entryBytes * n) {
		return wasiOK
	}
	for i := range n {
		b := mem.view(binary.LittleEndian.Uint32(table[8*i:]), binary.LittleEndian.Uint32(table[8*i+4:]))
		if b == nil {
			return wasiEFAULT
		}
		if !do(b) {
			break
		}
	}
	return wasiOK
}

func (g *guest) fdRead(mem memory, fd, iov, n, nread uint32) uint32 {
	if fd != 0 {
		return wasiEBADF
	}
	var total uint32
	e := g.iovecs(mem, iov, n, func(b []byte) bool {
		c := copy(b, g.input[g.read:])
		g.read += c
		total += uint32(c)
		return c == len(b)
	})
	g.charge(total)
	if e != wasiOK {
		return e
	}
	return put32(mem, nread, total)
}

func (g *guest) fdWrite(mem memory, fd, iov, n, nwritten uint32) uint32 {
	if fd != 1 && fd != 2 {
		return wasiEBADF
	}
	var total uint32
	e := g.iovecs(mem, iov, n, func(b []byte) bool {
		total += uint32(len(b))
		if fd == 2 || g.abi == ABIReactor {
			g.logWrite(b)
			return true
		}
		room := min(uint64(len(b)), g.maxOut-uint64(len(g.stdout)))
		g.stdout = append(g.stdout, b[:room]...)
		g.overflow = room < uint64(len(b))
		g.tellOutput()
		return !g.overflow
	})
	g.charge(total)
	if e != wasiOK {
		return e
	}
	return put32(mem, nwritten, total)
}

// fdstat describes a character device with all rights.
func (g *guest) fdstat(mem memory, fd, ptr uint32) uint32 {
	if fd > 2 {
		return wasiEBADF
	}
	b := mem.view(ptr, 24)
	if b == nil {
		return wasiEFAULT
	}
	clear(b)
	b[0] = 2
	for i := 8; i < 24; i++ {
		b[i] = 0xff
	}
	return wasiOK
}

func stdio(fd, e uint32) uint32 {
	if fd > 2 {
		return wasiEBADF
	}
	return e
}

// poll answers poll_oneoff: streams are always ready; without one, the
// earliest timers fire and the virtual clock moves there.
func (g *guest) poll(mem memory, in, out, n, nevents uint32) uint32 {
	if n == 0 || n > maxIovecs {
		return wasiEINVAL
	}
	subs, events := mem.view(in, 48*n), mem.view(out, 32*n)
	if subs == nil || events == nil {
		return wasiEFAULT
	}
	g.charge(entryBytes * n)
	// Decide before writing: the two ranges may overlap.
	type event struct {
		user uint64
		errn uint16
		kind byte
		size uint64
	}
	var ready []event
	type timer struct{ user, at uint64 }
	var timers []timer
	earliest := ^uint64(0)
	for i := range n {
		s := subs[48*i : 48*i+48]
		user := binary.LittleEndian.Uint64(s)
		switch kind := s[8]; kind {
		case 0:
			at := binary.LittleEndian.Uint64(s[24:])
			if binary.LittleEndian.Uint16(s[40:])&1 == 0 { // relative
				if at += g.clock; at < g.clock {
					at = ^uint64(0)
				}
			}
			timers = append(timers, timer{user, at})
			earliest = min(earliest, at)
		case 1, 2:
			e := event{user: user, kind: kind}
			switch fd := binary.LittleEndian.Uint32(s[16:]); {
			case fd > 2:
				e.errn = wasiEBADF
			case kind == 1 && fd == 0:
				e.size = uint64(len(g.input) - g.read)
			}
			ready = append(ready, e)
		default:
			ready = append(ready, event{user: user, errn: wasiEINVAL, kind: kind})
		}
	}
	if len(ready) == 0 {
		g.clock = max(g.clock, earliest)
		for _, t := range timers {
			if t.at <= g.clock {
				ready = append(ready, event{user: t.user})
			}
		}
	}
	for i, e := range ready {
		b := events[32*i : 32*i+32]
		clear(b)
		binary.LittleEndian.PutUint64(b, e.user)
		binary.LittleEndian.PutUint16(b[8:], e.errn)
		b[10] = e.kind
		binary.LittleEndian.PutUint64(b[16:], e.size)
	}
	return put32(mem, nevents, uint32(len(ready)))
}

// abort logs AssemblyScript's message position; the caller traps.
func (g *guest) abort(line, column uint32) {
	g.logWrite([]byte("abort at " + strconv.FormatUint(uint64(line), 10) + ":" + strconv.FormatUint(uint64(column), 10) + "\n"))
}

func (g *guest) report(permille uint32) {
	if g.progress != nil {
		g.progress(min(permille, 1000))
	}
}

// copyFuel is the price of handing n bytes to a guest or taking them back.
func copyFuel(n int) uint64 { return uint64(n) >> hostBytesShift }

// end is the result of a run that ended with s, by the module's own doing.
// remaining is what the counter says: after a trap, what was left when it was
// stored last. A guest that runs out of fuel has used its limit.
func (g *guest) end(s proto.Status, limit proto.Fuel, remaining int64, out []byte) Result {
	if s != proto.StatusOutOfFuel {
		remaining -= int64(copyFuel(len(out)))
	}
	if s == proto.StatusOutOfFuel || remaining < 0 {
		if g.abi == ABIReactor {
			out = nil // an answer that was not paid for
		}
		if s == proto.StatusOK || s == proto.StatusExitNonZero || s == proto.StatusBadOutput {
			s = proto.StatusOutOfFuel
		}
		remaining = 0
	}
	return Result{Status: s, Fuel: limit - proto.Fuel(remaining), Output: out, Log: g.log}
}
