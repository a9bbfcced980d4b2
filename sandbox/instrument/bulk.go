package instrument

// memory handles instructions whose price depends on an operand. The opcode is
// already in f.blk.
func (f *body) memory(at, op int) bool {
	r := f.r
	size := appendOp(nil, op)
	before := f.blk[:len(f.blk)-len(size)]
	needMem := func() {
		if !f.m.hasMem {
			r.failAt(at, "memory access without a memory")
		}
	}
	memIndex := func() {
		needMem()
		if r.byte() != 0 {
			r.failAt(at, "memory index above 0")
		}
		f.blk = append(f.blk, 0)
	}
	dataIndex := func() uint32 {
		i := r.u32()
		if int64(i) >= int64(f.m.nData) {
			r.failAt(at, "data segment %d of %d (data count section)", i, max(f.m.nData, 0))
		}
		f.blk = appendU(f.blk, uint64(i))
		return i
	}
	elemIndex := func() {
		if i := r.u32(); int64(i) >= int64(len(f.m.elems)) {
			r.failAt(at, "element segment %d of %d", i, len(f.m.elems))
		} else {
			f.blk = appendU(f.blk, uint64(i))
		}
	}
	table := func() { f.blk = appendU(f.blk, uint64(f.m.tableIndex(r))) }
	three := func() {
		f.pop(I32)
		f.pop(I32)
		f.pop(I32)
	}
	var shift, scale int64 = 0, 1
	switch op {
	case opMemorySize:
		memIndex()
		f.push(I32)
		return true
	case opMemoryGrow:
		needMem()
		if r.byte() != 0 {
			r.failAt(at, "memory index above 0")
		}
		f.pop(I32)
		f.push(I32)
		f.blk = f.appendGrow(before)
		return true
	case opTableGet:
		table()
		f.pop(I32)
		f.push(FuncRef)
		return true
	case opTableSet:
		table()
		f.pop(FuncRef)
		f.pop(I32)
		return true
	case miscDataDrop:
		dataIndex()
		return true
	case miscElemDrop:
		elemIndex()
		return true
	case miscTableSize:
		table()
		f.push(I32)
		return true
	case miscMemoryInit:
		if i := dataIndex(); f.m.inits[i] == 0 {
			f.m.inits[i] = at
		}
		memIndex()
		three()
		shift = bulkShift
	case miscMemoryCopy:
		memIndex()
		memIndex()
		three()
		shift = bulkShift
	case miscMemoryFill:
		memIndex()
		three()
		shift = bulkShift
	case miscTableInit:
		elemIndex()
		table()
		three()
		scale = weightElement
	case miscTableCopy:
		table()
		table()
		three()
		scale = weightElement
	case miscTableFill:
		table()
		f.pop(I32)
		f.pop(FuncRef)
		f.pop(I32)
		scale = weightElement
	case miscTableGrow:
		table()
		f.pop(I32)
		f.pop(FuncRef)
		f.push(I32)
		scale = weightElement
	default:
		return false
	}
	code := append([]byte(nil), f.blk[len(before):]...)
	b := append(appendU(append(before, opLocalTee), f.temp(I32)), opLocalGet)
	b = f.appendCharge(b, scale, shift)
	f.blk = append(b, code...)
	return true
}

// appendCharge follows a local.get opcode: it subtracts the unsigned i32 in
// the temporary, scaled, from the counter, checks and stores it.
func (f *body) appendCharge(b []byte, scale, shift int64) []byte {
	b = append(appendU(b, uint64(f.fuel)), opLocalGet)
	b = append(appendU(b, f.temp(I32)), opI64ExtendU)
	if shift > 0 {
		b = append(appendS(append(b, opI64Const), shift), opI64ShrU)
	}
	if scale != 1 {
		b = append(appendS(append(b, opI64Const), scale), opI64Mul)
	}
	return f.appendFlush(f.appendCheck(append(b, opI64Sub), len(f.ctrls)-1))
}

// appendGrow writes memory.grow: charge, then -1 when the task's ceiling or the
// declared maximum would be passed, whatever the engine has left. An engine
// that cannot grow within them must not answer -1, which others would not: it
// ends the run, with pagesGlobal at -1 to tell the host that the end is local.
func (f *body) appendGrow(b []byte) []byte {
	n := f.temp(I32)
	size := appendU([]byte{opMemorySize, 0, opI64ExtendU, opLocalGet}, n)
	size = append(size, opI64ExtendU, opI64Add)
	b = append(appendU(append(b, opLocalSet), n), opLocalGet)
	b = append(f.appendCharge(b, weightPage, 0), size...)
	b = appendU(append(b, opGlobalGet), f.m.pagesGlobal())
	b = append(b, opI64ExtendU, opI64GtU)
	if f.m.memMax < f.cfg.MemoryPages {
		b = appendS(append(append(b, size...), opI64Const), int64(f.m.memMax))
		b = append(b, opI64GtU, opI32Or)
	}
	b = append(b, opIf, I32, opI32Const, 0x7f, opElse, opLocalGet)
	b = appendU(append(appendU(b, n), opMemoryGrow, 0, opLocalTee), n)
	b = append(b, opI32Const, 0x7f, opI32Eq, opIf, 0x40, opI32Const, 0x7f, opGlobalSet)
	b = append(appendU(b, f.m.pagesGlobal()), opUnreachable, opEnd, opLocalGet)
	return append(appendU(b, n), opEnd)
}
