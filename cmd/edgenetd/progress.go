package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"

	"edgenet.dev/proto/api"
)

// progress redraws one line on a terminal and is silent anywhere else.
type progress struct {
	w     io.Writer
	live  bool
	quiet bool
	last  int // columns that the line takes
	// doing is the last step, for the message when time runs out in it.
	doing string
	// waiting is what was said last of a job that cannot start.
	waiting string
}

// waits says, once and not on a terminal alone, why a job cannot start, unless
// ids only are wanted.
func (p *progress) waits(j *api.Job) {
	if p.quiet || p.waiting == j.Waiting {
		return
	}
	if p.waiting = j.Waiting; j.Waiting != "" {
		p.done()
		fmt.Fprintf(p.w, "job %s waits: %s\n", shortJob(j.Id), j.Waiting)
	}
}

func (a *app) progress() *progress {
	return &progress{w: a.err, live: onTerminal(a.err) && !a.quiet, quiet: a.quiet}
}

func (p *progress) showf(format string, args ...any) {
	if !p.live {
		return
	}
	room := p.room()
	text := fitted(fmt.Sprintf(format, args...), room)
	width := runewidth.StringWidth(text)
	fmt.Fprintf(p.w, "\r%s%s", text, strings.Repeat(" ", max(0, min(p.last, room)-width)))
	p.last = width
}

// room is how many columns a line may take now: the window may have changed,
// and in the last column some terminals begin a new line.
func (p *progress) room() int {
	if f, ok := p.w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width - 1
		}
	}
	return 79
}

// fitted is one line of at most room columns, cut between characters.
func fitted(text string, room int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if room < 2 { // no column for what says that something is missing
		return runewidth.Truncate(text, max(0, room), "")
	}
	return runewidth.Truncate(text, room, "…")
}

// stepf names the step that starts now.
func (p *progress) stepf(format string, args ...any) {
	p.doing = fmt.Sprintf(format, args...)
	p.showf("%s", p.doing)
}

// done clears the line so that what follows starts in column one.
func (p *progress) done() {
	if p.live && p.last > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", min(p.last, p.room())))
		p.last = 0
	}
}
