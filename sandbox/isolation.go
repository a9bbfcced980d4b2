//go:build !js

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"edgenet.dev/proto"
)

// Isolation says what the operating system holds a pool's children to.
type Isolation struct {
	InForce []string // such as "seccomp"
	Missing []string // what this build knows and the system does not give, with the reason
	// Attempts are things a guest must never do, tried in a confined child.
	// Empty where this build has no means to try them.
	Attempts []Attempt
}

// Attempt is one forbidden action that a child tried on itself.
type Attempt struct {
	What    string // such as "socket"
	Refused bool   // by the confinement; an unrelated failure does not count
	Result  string // the system's answer
}

func (i Isolation) String() string {
	s := strings.Join(i.InForce, ", ")
	if s == "" {
		s = "none"
	}
	if len(i.Missing) > 0 {
		s += "; missing: " + strings.Join(i.Missing, "; ")
	}
	return s
}

// IsolationOf has a child of a pool try what guests must not do, and says what
// confines it. It waits for a free slot and starts a child if none runs. An
// executor that is no pool is an error: its guests are held by the WebAssembly
// engine alone.
func IsolationOf(ctx context.Context, ex Executor) (Isolation, error) {
	p, ok := ex.(*pool)
	if !ok {
		return Isolation{}, errors.New("sandbox: only the children of a pool are isolated")
	}
	s, err := p.acquire(ctx)
	if err != nil {
		return Isolation{}, err
	}
	defer func() { p.slots <- s }()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	if s.child == nil || !s.child.alive() {
		if err := p.restart(ctx, s); err != nil {
			return Isolation{}, err
		}
	}
	c := s.child
	unhook := context.AfterFunc(ctx, func() { c.kill(proto.StatusCancelled) })
	werr := writeFrame(c.in, frameProbe)
	f, ok := <-c.frames
	if !unhook() || werr != nil || !ok || f.kind != frameProbe {
		c.kill(proto.StatusKilled)
		<-c.gone
		s.child = nil
		return Isolation{}, fmt.Errorf("sandbox: child did not say what confines it: %s", c.stderr.String())
	}
	i := c.isolation
	i.Attempts, err = decodeAttempts(f.payload)
	return i, err
}

// The handshake spells an Isolation as lines, "+" in force and "-" missing.
// Names and reasons come from this package and hold no line breaks.

func encodeIsolation(i Isolation) []byte {
	var b []byte
	for _, s := range i.InForce {
		b = append(append(append(b, '+'), s...), '\n')
	}
	for _, s := range i.Missing {
		b = append(append(append(b, '-'), s...), '\n')
	}
	return b
}

func decodeIsolation(b []byte) (i Isolation, err error) {
	for line := range strings.Lines(string(b)) {
		s := strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(s, "+"):
			i.InForce = append(i.InForce, s[1:])
		case strings.HasPrefix(s, "-"):
			i.Missing = append(i.Missing, s[1:])
		default:
			return i, errFrame
		}
	}
	return i, nil
}

func encodeAttempts(as []Attempt) []byte {
	var b strings.Builder
	for _, a := range as {
		fmt.Fprintf(&b, "%s\t%t\t%s\n", a.What, a.Refused, a.Result)
	}
	return []byte(b.String())
}

func decodeAttempts(b []byte) (as []Attempt, err error) {
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 3 {
			return nil, errFrame
		}
		as = append(as, Attempt{f[0], f[1] == "true", f[2]})
	}
	return as, nil
}
