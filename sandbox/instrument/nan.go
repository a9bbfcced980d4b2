package instrument

// canonicalise replaces a NaN of the kind on top of the stack by the canonical
// one.
func (f *body) canonicalise(kind byte) {
	if off&defenceNaN != 0 {
		return
	}
	f.m.nans++
	nan := constNaN(kind)
	v := f.temp(kindType[kind])
	value := appendU([]byte{opLocalGet}, v)
	b := appendU(append(f.blk, opLocalSet), v)
	switch kind {
	case nanF32, nanF64:
		// NaN, value, value != value: select. With the constant in front, for
		// the reason given at detourSelect.
		b = append(append(append(append(b, nan...), value...), value...), value...)
		if kind == nanF32 {
			b = append(b, opF32Ne, opSelect)
		} else {
			b = append(b, opF64Ne, opSelect)
		}
	default:
		// NaN ^ (value^NaN)&(value==value)
		b = appendOp(append(append(b, value...), nan...), simdXor)
		b = append(append(b, value...), value...)
		if kind == nanF32x4 {
			b = appendOp(b, simdF32x4Eq)
		} else {
			b = appendOp(b, simdF64x2Eq)
		}
		b = appendOp(append(appendOp(b, simdAnd), nan...), simdXor)
	}
	f.blk = b
}

func constNaN(kind byte) []byte {
	f32 := func(b []byte) []byte {
		const bits = 0x7fc00000
		return append(b, 0, 0, bits>>16&0xff, bits>>24)
	}
	f64 := func(b []byte) []byte {
		const bits = uint64(0x7ff8) << 48
		return append(b, 0, 0, 0, 0, 0, 0, byte(bits>>48&0xff), byte(bits>>56))
	}
	switch kind {
	case nanF32:
		return f32([]byte{opF32Const})
	case nanF64:
		return f64([]byte{opF64Const})
	case nanF32x4:
		return f32(f32(f32(f32(appendOp(nil, simdConst)))))
	}
	return f64(f64(appendOp(nil, simdConst)))
}
