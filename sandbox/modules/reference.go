//go:build !js

package modules

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// ReferenceCounts counts the words of text in plain Go, by the same rule as the
// text module and by other people's tables: a word is a segment of Unicode's
// word boundaries (UAX #29) with an alphabetic character or a number in it, in
// Unicode's lower case.
func ReferenceCounts(text []byte) map[string]uint64 {
	counts := map[string]uint64{}
	lower := cases.Lower(language.Und)
	for state := -1; len(text) > 0; {
		var word []byte
		word, text, state = uniseg.FirstWord(text, state)
		if bytes.ContainsFunc(word, wordy) {
			counts[string(lower.Bytes(word))]++
		}
	}
	return counts
}

func wordy(r rune) bool {
	return unicode.In(r, unicode.L, unicode.N, unicode.Other_Alphabetic) && r != utf8.RuneError
}
