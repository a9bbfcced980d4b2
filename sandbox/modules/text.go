package modules

import (
	"bytes"
	"encoding/json"
	"strconv"

	"edgenet.dev/proto"
)

// The text module's input is the text itself, in UTF-8; its output is one line
// "word\tcount\n" per word, sorted by the word's bytes.

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
