package instrument

// Instructions that wazero's compiler for amd64 (1.12) gets wrong at times are
// written in another way. Its register allocator keeps one copy of a value in
// memory, made where the value first appears, and some of its instruction
// sequences change a register later. If the register has to be given up between
// two instructions of such a sequence, because an operand comes back from
// memory and is wanted in that very place, the change is lost. That happens to
// operands that lived across a call, at little pressure. A random module found
// it in v128.bitselect; enginetest.Pressure finds the others.

// detour replaces op, written at mark, where it is one of them. Its operands
// are on the stack.
func (f *body) detour(op, mark int) {
	if off&defenceDetour != 0 {
		return
	}
	switch op {
	case simdBitselect:
		f.blk = f.appendBitselect(f.blk[:mark])
	case opF32Copysign, opF64Copysign:
		t := byte(F32)
		if op == opF64Copysign {
			t = F64
		}
		second := f.temp(t)
		b := appendFresh(appendU(append(f.blk[:mark], opLocalSet), second), t)
		f.blk = append(appendU(append(b, opLocalGet), second), byte(op))
	case simdF64x2Replace:
		if lane := f.blk[len(f.blk)-1]; lane == 0 {
			f.blk = append(appendOp(append(f.blk[:mark], opI64FromF64), simdI64x2Replace), lane)
		}
	}
}

// detourSelect is detour for a select of two values of type t.
func (f *body) detourSelect(t byte, mark int) {
	if off&defenceDetour != 0 {
		return
	}
	switch t {
	case F32, F64:
		// The compiler takes its conditional move for one that does not need
		// what the target holds. The first operand must not be wanted anywhere.
		cond, second := f.temp(I32), f.temp(t)
		b := appendU(append(f.blk[:mark], opLocalSet), cond)
		b = appendFresh(appendU(append(b, opLocalSet), second), t)
		b = appendU(append(b, opLocalGet), second)
		f.blk = append(appendU(append(b, opLocalGet), cond), opSelect)
	case V128:
		const opI32Eqz, splat = 0x45, 0xfd11
		b := append(f.blk[:mark], opI32Eqz, opI32Const, 1, opI32Sub)
		f.blk = f.appendBitselect(appendOp(b, splat))
	}
}

// appendFresh copies the float on top of the stack: the copy's register is
// free of history.
func appendFresh(b []byte, t byte) []byte {
	if t == F32 {
		return append(b, opI32FromF32, opF32FromI32)
	}
	return append(b, opI64FromF64, opF64FromI64)
}

// appendBitselect is v128.bitselect of a, b and a mask, as b ^ (a^b)&mask.
func (f *body) appendBitselect(b []byte) []byte {
	mask, second := f.temp(V128), f.second()
	b = appendU(append(b, opLocalSet), mask)
	b = appendOp(appendU(append(b, opLocalTee), second), simdXor)
	b = appendOp(appendU(append(b, opLocalGet), mask), simdAnd)
	return appendOp(appendU(append(b, opLocalGet), second), simdXor)
}
