package sandbox

// Strip returns a module without its custom sections: names, debugging data and
// what tools say about themselves. No engine sees them, so they neither travel
// nor count against the module's limit, and builds that differ in nothing else
// are one module: its id is that of the stripped bytes. What is no module comes
// back as it is, for Prepare to say why.
func Strip(raw []byte) []byte {
	const head = 8
	if len(raw) < head || string(raw[:4]) != "\x00asm" {
		return raw
	}
	var out []byte // nil until something was dropped
	for at := head; at < len(raw); {
		end, ok := sectionEnd(raw, at)
		if !ok {
			return raw
		}
		switch {
		case raw[at] != 0:
			if out != nil {
				out = append(out, raw[at:end]...)
			}
		case out == nil:
			out = append(make([]byte, 0, len(raw)-(end-at)), raw[:at]...)
		}
		at = end
	}
	if out == nil {
		return raw
	}
	return out
}

// sectionEnd is where the section that starts at at ends.
func sectionEnd(raw []byte, at int) (end int, ok bool) {
	var size uint64
	for i, shift := at+1, 0; i < len(raw) && shift < 35; i, shift = i+1, shift+7 {
		size |= uint64(raw[i]&0x7f) << shift
		if raw[i] < 0x80 {
			return i + 1 + int(size), size <= uint64(len(raw)-i-1)
		}
	}
	return 0, false
}
