package modules

import (
	"bytes"
	"encoding/json"
	"strconv"

	"edgenet.dev/proto"
)

// The text module's input is the text itself; its output is one line
// "word\tcount\n" per word, sorted by the word's bytes.

func encodeText(payload []byte) ([]byte, error) { return payload, nil }

func decodeText(output []byte) (json.RawMessage, error) {
	counts, err := MergeCounts(output)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"counts": counts}) // keys come out sorted
}

// SplitText cuts text at white space into at most parts chunks of similar
// size, so that no word is cut; joined they are the text again. There are fewer
// chunks than parts when the text has too few words.
func SplitText(text []byte, parts int) [][]byte {
	var chunks [][]byte
	for parts = max(parts, 1); len(text) > 0; parts-- {
		if parts <= 1 {
			return append(chunks, text)
		}
		end := (len(text) + parts - 1) / parts
		for end < len(text) && !isSpace(text[end]) {
			end++
		}
		for end < len(text) && isSpace(text[end]) {
			end++
		}
		chunks = append(chunks, text[:end:end])
		text = text[end:]
	}
	return chunks
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// MergeCounts adds up outputs of the text module. Errors carry
// proto.CodeMalformed.
func MergeCounts(outputs ...[]byte) (map[string]uint64, error) {
	sum := map[string]uint64{}
	for i, out := range outputs {
		for line := range bytes.Lines(out) {
			word, count, ok := bytes.Cut(line, []byte{'\t'})
			count, end := bytes.CutSuffix(count, []byte{'\n'})
			n, err := strconv.ParseUint(string(count), 10, 32)
			if !ok || !end || err != nil || len(word) == 0 {
				return nil, proto.CodeMalformed.Errorf("output %d: line %q is not word, tab, count", i, line)
			}
			sum[string(word)] += n
		}
	}
	return sum, nil
}

// ReferenceCounts counts the words of text in plain Go, by the same rule as the
// text module: a word is a maximal run of ASCII letters, digits and bytes from
// 0x80 up, with single apostrophes inside it; ASCII letters are lowered.
func ReferenceCounts(text []byte) map[string]uint64 {
	letter := func(i int) bool {
		if i < 0 || i >= len(text) {
			return false
		}
		c := text[i]
		return c >= 0x80 || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
	}
	counts := map[string]uint64{}
	var word []byte
	for i, c := range text {
		if letter(i) || c == '\'' && letter(i-1) && letter(i+1) {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			word = append(word, c)
			continue
		}
		if len(word) > 0 {
			counts[string(word)]++
			word = word[:0]
		}
	}
	if len(word) > 0 {
		counts[string(word)]++
	}
	return counts
}
