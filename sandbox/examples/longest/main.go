// Longest is an example task: a WASI command that prints the longest line of
// its input and how many lines there were.
package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	var longest string
	lines := 0
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		lines++
		if len(in.Text()) > len(longest) {
			longest = in.Text()
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "longest:", err)
		os.Exit(1)
	}
	fmt.Printf("%d lines, the longest: %s\n", lines, longest)
}
