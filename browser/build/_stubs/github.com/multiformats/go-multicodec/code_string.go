package multicodec

import "strconv"

// A tab prints codes as numbers: their names are 80 KB of start-up code.
var _Code_map map[Code]string

func (i Code) String() string { return "Code(" + strconv.FormatUint(uint64(i), 10) + ")" }
