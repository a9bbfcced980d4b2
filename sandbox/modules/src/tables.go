//go:build ignore

// Writes tables.h, what the text module knows of Unicode, from the files of
// Debian's package unicode-data:
//
//	go run tables.go /usr/share/unicode >tables.h
package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	top   = 0x110000
	block = 64 // code points that share an entry of the second stage
	group = 64 // entries of the second stage that share one of the first
	exPic = 1 << 5
	alnum = 1 << 6
	cased = 1 << 7
	ignor = 1 << 8
	lower = 1 << 9
)

// Word_Break classes in the order of the header's enum.
var classes = []string{
	"Other", "CR", "LF", "Newline", "Extend", "ZWJ", "Format", "Katakana", "Hebrew_Letter", "ALetter", "MidLetter", "MidNum", "MidNumLet",
	"Single_Quote", "Double_Quote", "Numeric", "ExtendNumLet", "WSegSpace", "Regional_Indicator",
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// lines calls each for the fields of every line; a range of code points comes
// as its ends.
func lines(name string, each func(lo, hi int, fields []string)) {
	f, err := os.Open(filepath.Join(os.Args[1], name))
	check(err)
	defer f.Close()
	first := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		text, _, _ := strings.Cut(s.Text(), "#")
		if strings.TrimSpace(text) == "" {
			continue
		}
		fields := strings.Split(text, ";")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		a, b, isRange := strings.Cut(fields[0], "..")
		lo, err := strconv.ParseInt(a, 16, 32)
		check(err)
		hi := lo
		if isRange {
			hi, err = strconv.ParseInt(b, 16, 32)
			check(err)
		}
		if name == "UnicodeData.txt" && strings.HasSuffix(fields[1], ", First>") {
			first = int(lo)
			continue
		}
		if name == "UnicodeData.txt" && strings.HasSuffix(fields[1], ", Last>") {
			lo = int64(first)
		}
		each(int(lo), int(hi), fields)
	}
}

func main() {
	props := make([]uint16, top)
	set := func(lo, hi int, bits uint16) {
		for c := lo; c <= hi; c++ {
			props[c] |= bits
		}
	}
	type change struct{ lo, hi, stride, delta int }
	var changes []change
	lines("auxiliary/WordBreakProperty.txt", func(lo, hi int, f []string) {
		i := slices.Index(classes, f[1])
		if i < 0 {
			check(fmt.Errorf("class %q", f[1]))
		}
		set(lo, hi, uint16(i))
	})
	lines("emoji/emoji-data.txt", func(lo, hi int, f []string) {
		if f[1] == "Extended_Pictographic" {
			set(lo, hi, exPic)
		}
	})
	lines("DerivedCoreProperties.txt", func(lo, hi int, f []string) {
		switch f[1] {
		case "Alphabetic":
			set(lo, hi, alnum)
		case "Cased":
			set(lo, hi, cased)
		case "Case_Ignorable":
			set(lo, hi, ignor)
		}
	})
	lines("UnicodeData.txt", func(lo, hi int, f []string) {
		if strings.HasPrefix(f[2], "N") {
			set(lo, hi, alnum)
		}
		if f[13] == "" {
			return
		}
		to, err := strconv.ParseInt(f[13], 16, 32)
		check(err)
		delta := int(to) - lo
		set(lo, hi, lower)
		if n := len(changes); n > 0 && changes[n-1].delta == delta {
			c := &changes[n-1]
			if step := lo - c.hi; step <= 2 && (c.lo == c.hi || step == c.stride) {
				c.hi, c.stride = lo, step
				return
			}
		}
		changes = append(changes, change{lo, lo, 1, delta})
	})

	var kinds []uint16
	kindOf := map[uint16]byte{}
	var blocks, groups []string
	intern := func(list *[]string, s string) int {
		i := slices.Index(*list, s)
		if i < 0 {
			i = len(*list)
			*list = append(*list, s)
		}
		return i
	}
	var first []int
	for g := 0; g < top; g += block * group {
		var second []byte // pairs
		for b := g; b < g+block*group; b += block {
			var third []byte
			for c := b; c < b+block; c++ {
				k, ok := kindOf[props[c]]
				if !ok {
					k = byte(len(kinds))
					kinds = append(kinds, props[c])
					kindOf[props[c]] = k
				}
				third = append(third, k)
			}
			i := intern(&blocks, string(third))
			second = append(second, byte(i), byte(i>>8))
		}
		first = append(first, intern(&groups, string(second)))
	}

	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintln(out, "// Written by tables.go from Unicode 15.0.0; do not edit.")
	fmt.Fprint(out, "enum {")
	for _, c := range classes {
		fmt.Fprintf(out, " %s,", c)
	}
	fmt.Fprintf(out, " };\nenum { CLASS = 31, EXTPICT = %d, ALNUM = %d, CASED = %d, IGNORABLE = %d, LOWER = %d };\n", exPic, alnum, cased, ignor, lower)
	array := func(typ, name string, n int, at func(i int) int) {
		fmt.Fprintf(out, "static const %s %s[] = {", typ, name)
		for i := range n {
			if i%32 == 0 {
				fmt.Fprint(out, "\n")
			}
			fmt.Fprintf(out, "%d,", at(i))
		}
		fmt.Fprint(out, "\n};\n")
	}
	array("u8", "first_stage", len(first), func(i int) int { return first[i] })
	second, third := strings.Join(groups, ""), strings.Join(blocks, "")
	array("unsigned short", "second_stage", len(second)/2, func(i int) int { return int(second[2*i]) | int(second[2*i+1])<<8 })
	array("u8", "third_stage", len(third), func(i int) int { return int(third[i]) })
	array("unsigned short", "kinds", len(kinds), func(i int) int { return int(kinds[i]) })
	fmt.Fprintln(out, "static const struct { u32 lo, hi; int delta; u32 stride; } lowered[] = {")
	for _, c := range changes {
		fmt.Fprintf(out, "{%d,%d,%d,%d},", c.lo, c.hi, c.delta, c.stride)
	}
	fmt.Fprintln(out, "\n};")
	fmt.Fprintln(os.Stderr, len(first), len(second), len(third), len(kinds), len(changes))
}
