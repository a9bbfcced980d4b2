package main

import (
	"cmp"
	"maps"
	"slices"

	"edgenet.dev/sandbox/modules"
)

// wordCounts is the merged output of the tasks of type text.
type wordCounts struct {
	Words    uint64            `json:"words"`
	Distinct int               `json:"distinct"`
	Top      []wordCount       `json:"top"`
	Counts   map[string]uint64 `json:"counts"`
}

type wordCount struct {
	Word  string `json:"word"`
	Count uint64 `json:"count"`
}

const topWords = 10

func mergeWords(outputs [][]byte) (wordCounts, error) {
	counts, err := modules.MergeCounts(outputs...)
	if err != nil {
		return wordCounts{}, err
	}
	w := wordCounts{Distinct: len(counts), Counts: counts}
	for word, n := range counts {
		w.Words += n
		w.Top = append(w.Top, wordCount{word, n})
	}
	slices.SortFunc(w.Top, func(a, b wordCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Word, b.Word))
	})
	w.Top = w.Top[:min(topWords, len(w.Top))]
	return w, nil
}

// equal compares with a plain count of text that no module took part in.
func (w wordCounts) equal(text []byte) bool {
	return maps.Equal(w.Counts, modules.ReferenceCounts(text))
}
