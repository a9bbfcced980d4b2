package instrument

// step checks and writes one instruction.
func (f *body) step() {
	r := f.r
	at := r.pos
	op := int(r.byte())
	if op == opMisc || op == opSIMD {
		sub := r.u32()
		if sub > 0xff {
			if op == opSIMD {
				r.failAt(at, "SIMD opcode 0x%x is not allowed (relaxed SIMD)", sub)
			}
			r.failAt(at, "opcode 0xfc 0x%x is not allowed", sub)
		}
		op = op<<8 | int(sub)
	}
	live := f.live()
	f.absorbed = absorbed(op)
	if live {
		f.weight += weight(op)
	}
	switch op {
	case opBlock, opLoop, opIf, opElse, opEnd, opBr, opBrIf, opBrTable, opReturn, opUnreachable:
		f.control(at, op, live)
		return
	case opCall, opCallIndirect:
		f.call(op, live)
		return
	}
	mark := len(f.blk)
	if off&defenceLEB == 0 {
		f.blk = appendOp(f.blk, op)
	} else {
		f.blk = append(f.blk, r.b[at:r.pos]...)
	}
	switch op {
	case opNop:
	case opDrop:
		f.pop(unknown)
	case opSelect:
		f.pop(I32)
		a := f.pop(unknown)
		b := f.pop(a)
		if a == FuncRef || b == FuncRef {
			r.failAt(at, "select of references without a type")
		}
		if b == unknown {
			b = a
		}
		f.push(b)
		f.detourSelect(b, mark)
	case opSelectT:
		if n := r.u32(); n != 1 {
			r.failAt(at, "select of %d values", n)
		}
		t := r.valType()
		f.blk = append(f.blk, 1, t)
		f.detourSelect(t, mark)
		f.pop(I32)
		f.pop(t)
		f.pop(t)
		f.push(t)
	case opLocalGet, opLocalSet, opLocalTee:
		f.local(at, op)
	case opGlobalGet, opGlobalSet:
		f.global(at, op)
	case opI32Const:
		f.blk = appendS(f.blk, r.signed(32))
		f.push(I32)
	case opI64Const:
		f.blk = appendS(f.blk, r.signed(64))
		f.push(I64)
	case opF32Const:
		f.blk = append(f.blk, r.bytes(4)...)
		f.push(F32)
	case opF64Const:
		f.blk = append(f.blk, r.bytes(8)...)
		f.push(F64)
	case simdConst:
		f.blk = append(f.blk, r.bytes(16)...)
		f.push(V128)
	case simdShuffle:
		lanes := r.bytes(16)
		for _, l := range lanes {
			if l >= 32 {
				r.failAt(at, "shuffle lane %d", l)
			}
		}
		f.blk = append(f.blk, lanes...)
		f.pop(V128)
		f.pop(V128)
		f.push(V128)
	case opRefNull:
		f.blk = append(f.blk, r.refType())
		f.push(FuncRef)
	case opRefIsNull:
		f.pop(FuncRef)
		f.push(I32)
	case opRefFunc:
		i := f.m.funcIndex(r)
		if !f.m.declared[i] {
			r.failAt(at, "ref.func %d is not declared", i)
		}
		f.blk = appendU(f.blk, f.m.funcOut(f.cfg, i))
		f.push(FuncRef)
	default:
		if !f.memory(at, op) {
			f.numeric(at, op)
			f.detour(op, mark)
		}
	}
	if !live {
		f.blk = f.blk[:mark]
		return
	}
	if makesNaN(op) != 0 || cleanResult(op, f.blk[mark:]) != 0 {
		f.arithmetic = f.arithmetic || makesNaN(op) != 0
		f.note(op, f.blk[mark:], -1)
	}
}

func appendOp(b []byte, op int) []byte {
	if op > 0xff {
		return appendU(append(b, byte(op>>8)), uint64(op&0xff))
	}
	return append(b, byte(op))
}

func (f *body) numeric(at, op int) {
	var s signature
	switch {
	case op <= 0xff:
		s = plainOps[op]
	case op>>8 == opSIMD:
		s = simdOps[op&0xff]
	case op&0xff < len(satOps):
		s = satOps[op&0xff]
	}
	if !s.ok {
		f.r.failAt(at, "%s is not allowed", opName(op))
	}
	if s.imm == 'm' || s.imm == 'x' {
		if !f.m.hasMem {
			f.r.failAt(at, "memory access without a memory")
		}
		align, offset := f.r.u32(), f.r.u32()
		if align > uint32(s.align) {
			f.r.failAt(at, "alignment 2^%d, at most 2^%d", align, s.align)
		}
		f.blk = appendU(appendU(f.blk, uint64(align)), uint64(offset))
	}
	if s.imm == 'l' || s.imm == 'x' {
		lane := f.r.byte()
		if lane >= s.lanes {
			f.r.failAt(at, "lane %d of %d", lane, s.lanes)
		}
		f.blk = append(f.blk, lane)
	}
	for i := len(s.in) - 1; i >= 0; i-- {
		f.pop(s.in[i])
	}
	for i := range len(s.out) {
		f.push(s.out[i])
	}
}

// opName says what a refused opcode is, for the features people ask about.
func opName(op int) string {
	switch {
	case op == 0x12 || op == 0x13:
		return "tail call"
	case op >= 0x06 && op <= 0x0a || op == 0x18 || op == 0x19 || op == 0x1f:
		return "exception handling"
	case op == 0x14 || op == 0x15 || op == 0xfb || op >= 0xd3 && op <= 0xd6:
		return "garbage collection or typed function references"
	case op == 0xfe:
		return "threads (atomic instruction)"
	}
	return "opcode " + hex(op)
}

func hex(op int) string {
	const digits = "0123456789abcdef"
	s := []byte("0x")
	if op > 0xff {
		s = append(s, digits[op>>12&15], digits[op>>8&15], ' ', '0', 'x')
	}
	return string(append(s, digits[op>>4&15], digits[op&15]))
}

func (f *body) local(at, op int) {
	i := f.r.u32()
	if int64(i) >= int64(len(f.locals)) {
		f.r.failAt(at, "local %d of %d", i, len(f.locals))
	}
	f.blk = appendU(f.blk, uint64(i))
	t := f.locals[i]
	var from int32
	if op != opLocalGet {
		f.absorbed = allKinds // the local takes over
		n := len(f.stack)
		if n > f.ctrls[len(f.ctrls)-1].height {
			from = f.from[n-1]
		}
		f.pop(t)
		if t == F32 || t == F64 || t == V128 {
			if f.live() {
				from = f.written(i, from)
			}
		}
	}
	if op != opLocalSet {
		f.push(t)
		f.from[len(f.from)-1] = from
	}
	if op == opLocalGet && (t == F32 || t == F64 || t == V128) && f.live() {
		f.note(op, nil, int32(i))
	}
}

func (f *body) global(at, op int) {
	i := f.r.u32()
	if int64(i) >= int64(len(f.m.globals)) {
		f.r.failAt(at, "global %d of %d", i, len(f.m.globals))
	}
	g := f.m.globals[i]
	f.blk = appendU(f.blk, uint64(i))
	if op == opGlobalGet {
		f.push(g.typ)
		return
	}
	if !g.mut {
		f.r.failAt(at, "global %d is immutable", i)
	}
	f.pop(g.typ)
}

func (f *body) control(at, op int, live bool) {
	switch op {
	case opBlock:
		t := f.blockType()
		f.open(opBlock, t)
		if live {
			f.blk = f.appendBlockType(append(f.blk, opBlock), t)
		}
	case opLoop:
		t := f.blockType()
		f.open(opLoop, t)
		if live {
			f.close(header)
			f.out = f.appendBlockType(append(f.out, opLoop), t)
		}
	case opIf:
		t := f.blockType()
		f.pop(I32)
		f.open(opIf, t)
		if live {
			f.blk = f.appendBlockType(append(f.blk, opIf), t)
			f.close(plain)
		}
	case opElse:
		if f.ctrls[len(f.ctrls)-1].op != opIf {
			f.r.failAt(at, "else without if")
		}
		c := f.shut()
		f.ctrls = append(f.ctrls, ctrl{op: opElse, start: c.start, end: c.end, height: c.height, units: c.units, live: c.live})
		f.pushAll(c.start)
		if c.live {
			f.close(plain)
			f.out = append(f.out, opElse)
		}
	case opEnd:
		f.endBlock(at)
	case opBr:
		depth := f.r.u32()
		c := f.label(at, depth)
		f.popAll(c.labels())
		if live {
			c.targeted = true
			f.blk = appendU(append(f.blk, opBr), f.target(depth))
			f.close(plain)
		}
		f.stop()
	case opBrIf:
		depth := f.r.u32()
		c := f.label(at, depth)
		f.pop(I32)
		f.popAll(c.labels())
		f.pushAll(c.labels())
		if live {
			c.targeted = true
			f.blk = appendU(append(f.blk, opBrIf), f.target(depth))
			f.close(plain)
		}
	case opBrTable:
		f.brTable(at, live)
	case opReturn:
		f.popAll(f.typ.Results)
		if live {
			f.blk = appendU(append(f.blk, opBr), uint64(len(f.ctrls)))
			f.close(plain)
		}
		f.stop()
	case opUnreachable:
		if live {
			f.blk = append(f.blk, opUnreachable)
			f.close(plain)
		}
		f.stop()
	}
}

func (f *body) endBlock(at int) {
	reached := f.live()
	if c := &f.ctrls[len(f.ctrls)-1]; c.op == opIf && string(c.start) != string(c.end) {
		f.r.failAt(at, "if without else changes the stack")
	}
	c := f.shut()
	if c.op == opLoop {
		f.loopDepth--
	}
	if len(f.ctrls) == 0 {
		if reached {
			f.blk = append(f.blk, opBr, 1)
			f.close(plain)
		}
		f.finished = true
		return
	}
	f.pushAll(c.end)
	if !c.live {
		return
	}
	if (c.op == opBlock && !c.targeted || c.op == opLoop) && reached {
		// Nothing joins here: the basic block goes on.
		f.blk = append(f.blk, opEnd)
		return
	}
	f.close(plain)
	f.out = append(f.out, opEnd)
}

func (f *body) brTable(at int, live bool) {
	n := f.r.count("branch targets", maxBrTable)
	f.pop(I32)
	mark := len(f.blk)
	f.blk = appendU(append(f.blk, opBrTable), uint64(n))
	arity := -1
	for range n + 1 {
		depth := f.r.u32()
		c := f.label(at, depth)
		types := c.labels()
		if arity >= 0 && len(types) != arity {
			f.r.failAt(at, "branch targets of different arity")
		}
		arity = len(types)
		// Check against each target, putting back what was there.
		popped := make([]byte, len(types))
		f.m.moves += len(types)
		for i := len(types) - 1; i >= 0; i-- {
			popped[i] = f.pop(types[i])
		}
		f.pushAll(popped)
		if live {
			c.targeted = true
		}
		f.blk = appendU(f.blk, f.target(depth))
	}
	if live {
		f.close(plain)
	} else {
		f.blk = f.blk[:mark]
	}
	f.stop()
}

func (f *body) call(op int, live bool) {
	var t FuncType
	code := []byte{byte(op)}
	imported := false
	if op == opCall {
		i := f.m.funcIndex(f.r)
		t = f.m.typeOf(i)
		imported = int(i) < len(f.m.imports)
		code = appendU(code, f.m.funcOut(f.cfg, i))
	} else {
		ti := f.m.typeIndex(f.r)
		t = f.m.types[ti]
		code = appendU(appendU(code, uint64(ti)), uint64(f.m.tableIndex(f.r)))
		f.pop(I32)
	}
	f.popAll(t.Params)
	f.pushAll(t.Results)
	if !live {
		return
	}
	f.calls = true
	if imported {
		f.weight += weightHost
	}
	f.blk = append(f.appendFlush(f.blk), code...)
	f.close(resume)
}
