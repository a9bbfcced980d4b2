package instrument

// Data and element segments.

type elem struct {
	flags  uint32
	table  uint32
	offset constExpr
	exprs  []constExpr // functions are refs too
}

type data struct {
	flags  uint32
	offset constExpr
	init   []byte
}

func (m *module) readElems(r *reader) {
	total := 0
	for range r.count("element segments", maxSegments) {
		at := r.pos
		e := elem{flags: r.u32()}
		if e.flags > 7 {
			r.failAt(at, "element flags %d", e.flags)
		}
		var to uint32
		active := e.flags&1 == 0
		if active {
			if e.flags&2 != 0 {
				e.table = m.tableIndex(r)
			} else if len(m.tables) == 0 {
				r.failAt(at, "element segment without a table")
			}
			e.offset, to = m.offset(r)
		}
		byExpr := e.flags&4 != 0
		if e.flags&3 != 0 {
			if byExpr {
				r.refType()
			} else if kindAt := r.pos; r.byte() != 0 {
				r.failAt(kindAt, "element kind")
			}
		}
		n := r.count("elements", maxTableSize)
		if total += n; over(uint64(total), maxElements) {
			r.failAt(at, "segments of %d elements, at most %d", total, maxElements)
		}
		if active {
			r.within(at, to, n, uint64(m.tables[e.table].min), "elements")
		}
		e.exprs = make([]constExpr, 0, n)
		for range n {
			if byExpr {
				e.exprs = append(e.exprs, m.constant(r, FuncRef))
			} else {
				f := m.funcIndex(r)
				m.declared[f] = true
				e.exprs = append(e.exprs, constExpr{isFunc: true, fn: f})
			}
		}
		m.elems = append(m.elems, e)
	}
}

func (m *module) readDatas(r *reader) {
	at := r.pos
	n := r.count("data segments", maxSegments)
	if m.nData >= 0 && n != m.nData {
		r.failAt(at, "%d data segments, %d announced", n, m.nData)
	}
	for i := range n {
		at := r.pos
		d := data{flags: r.u32()}
		switch d.flags {
		case 0, 2:
			if memAt := r.pos; d.flags == 2 && r.u32() != 0 {
				r.failAt(memAt, "memory index above 0")
			}
			if !m.hasMem {
				r.failAt(at, "data segment without a memory")
			}
			var to uint32
			d.offset, to = m.offset(r)
			d.init = r.bytes(r.u32())
			r.within(at, to, len(d.init), uint64(m.memMin)<<16, "bytes")
			// Such a segment is used up before the first instruction. wazero keeps
			// it, so that what must trap would read it.
			if code, ok := m.inits[uint32(i)]; ok && off&defenceSegments == 0 {
				r.section = "code"
				r.failAt(code, "memory.init of data segment %d, which is active", i)
			}
		case 1:
			d.init = r.bytes(r.u32())
		default:
			r.failAt(at, "data flags %d", d.flags)
		}
		m.datas = append(m.datas, d)
	}
}

// offset reads where an active segment goes.
func (m *module) offset(r *reader) (c constExpr, to uint32) {
	c = m.constant(r, I32)
	value := &reader{b: c.code, pos: 1, end: len(c.code), section: r.section}
	return c, uint32(value.signed(32))
}

// within refuses a segment, read at at, whose n items do not fit in the size
// that its memory or table has at the start. Engines disagree about those: V8
// traps before the first instruction, wazero goes on without the elements.
func (r *reader) within(at int, to uint32, n int, size uint64, what string) {
	if uint64(to)+uint64(n) > size && off&defenceSegments == 0 {
		r.failAt(at, "%d %s at %d, which is outside: there are %d at the start", n, what, to, size)
	}
}

func (m *module) writeElems(b []byte, cfg *Config) []byte {
	for _, e := range m.elems {
		b = appendU(b, uint64(e.flags))
		if e.flags&1 == 0 {
			if e.flags&2 != 0 {
				b = appendU(b, uint64(e.table))
			}
			b = m.appendConst(b, cfg, e.offset)
		}
		byExpr := e.flags&4 != 0
		if e.flags&3 != 0 {
			if byExpr {
				b = append(b, FuncRef)
			} else {
				b = append(b, 0)
			}
		}
		b = appendU(b, uint64(len(e.exprs)))
		for _, c := range e.exprs {
			if byExpr {
				b = m.appendConst(b, cfg, c)
			} else {
				b = appendU(b, m.funcOut(cfg, c.fn))
			}
		}
	}
	return b
}
