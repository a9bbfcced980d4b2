//go:build !js

package node

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"edgenet.dev/node/audit"
	"edgenet.dev/node/blocklist"
	"edgenet.dev/proto"
)

// The list is a file in the data directory, which the operator may write, too: it
// is read again when it changed. Without a directory it is in memory only.

// blocksEvery is how often the file is looked at; a variable for tests.
var blocksEvery = 2 * time.Second

// blockFile is where the list is kept.
type blockFile struct {
	path   string // "": nowhere
	reread chan struct{}

	mu      sync.Mutex // orders changes of the list; guards what follows
	text    *blocklist.File
	stamp   blocklist.Stamp // of the file that was read last
	seen    blocklist.Stamp // when it was looked at last
	problem string          // why the file is not what is in force; "" when it is
}

// open reads the list. There is none in force yet that a bad line could leave
// there, so it is an error.
func (b *blocks) open() (err error) {
	f := &b.file
	f.reread, f.text = make(chan struct{}, 1), new(blocklist.File)
	if b.n.cfg.Dir != "" {
		f.path = filepath.Join(b.n.cfg.Dir, blocklist.Name)
		if f.stamp, err = blocklist.Stat(f.path); err != nil {
			return fmt.Errorf("node: %w", err)
		}
		if f.text, err = blocklist.Load(f.path, b.n.self); err != nil {
			return fmt.Errorf("node: %w", err)
		}
		f.seen = f.stamp
		b.warn()
	}
	b.list.Store(blocklist.Of(f.text.Entries(), time.Now()))
	return nil
}

// run looks after the file and the ends of entries until the node ends.
func (b *blocks) run() {
	b.n.goDo(func(ctx context.Context) {
		tick := time.NewTicker(blocksEvery)
		defer tick.Stop()
		for {
			force := false
			select {
			case <-tick.C:
			case <-b.file.reread:
				force = true
			case <-ctx.Done():
				return
			}
			if err := b.look(ctx, force); err != nil && ctx.Err() == nil {
				b.n.log.Error("blocked peers and work", zap.Error(err))
			}
		}
	})
}

// look reads the file again if it changed, or anyway.
func (b *blocks) look(ctx context.Context, force bool) error {
	f := &b.file
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.path != "" {
		stamp, err := blocklist.Stat(f.path)
		if err != nil {
			return b.bad(err)
		}
		// A file that is written in place is read once it stays as it is: half of
		// it may say something else.
		settled := stamp == f.seen
		f.seen = stamp
		if force || stamp != f.stamp && settled {
			text, err := blocklist.Load(f.path, b.n.self)
			if err != nil {
				f.stamp = stamp
				return b.bad(err)
			}
			f.problem = ""
			if err := b.reloaded(ctx, text, now); err != nil {
				return err // and it is tried again
			}
			f.stamp = stamp
			return nil
		}
	}
	if next := b.list.Load().Next(); !next.IsZero() && !now.Before(next) {
		return b.put(ctx, now)
	}
	b.enforce() // who came while the list changed
	return nil
}

// warn tells of lines that a command would not have written. Call with mu held.
func (b *blocks) warn() {
	if line := b.file.text.Own; line > 0 {
		b.n.log.Warn("the list of what is blocked names this node itself, which is left out", zap.Int("line", line))
	}
	for _, e := range b.file.text.Entries() {
		if err := e.Endangers(b.n.net); err != nil {
			b.n.log.Warn("the list of what is blocked may cut this node off", zap.Stringer("entry", e), zap.Error(err))
			return
		}
	}
}

// bad tells once why the file is not read; the list stays what it was.
func (b *blocks) bad(err error) error {
	if text := err.Error(); text != b.file.problem {
		b.file.problem = text
		b.n.log.Warn("the list of what is blocked stays as it was: correct the file", zap.Error(err))
	}
	return nil
}

// reloaded puts in force what somebody wrote into the file. Call with mu held.
func (b *blocks) reloaded(ctx context.Context, text *blocklist.File, now time.Time) error {
	old, read := b.file.text.Entries(), text.Entries()
	added, removed := without(read, old), without(old, read)
	b.file.text = text
	b.warn()
	if err := b.put(ctx, now); err != nil {
		return err
	}
	if len(added)+len(removed) > 0 {
		b.n.record(audit.Reload, "file", blocklist.Name, "entries", fmt.Sprint(len(read)), "added", naming(added), "removed", naming(removed))
		b.n.log.Info("the list of what is blocked was read again", zap.Int("entries", len(read)), zap.Int("added", len(added)), zap.Int("removed", len(removed)))
	}
	return nil
}

// without are the entries of a that b has not.
func without(a, b []blocklist.Entry) (out []string) {
	has := map[string]bool{}
	for _, e := range b {
		has[e.String()] = true
	}
	for _, e := range a {
		if !has[e.String()] {
			out = append(out, e.String())
		}
	}
	return out
}

// naming is a list for the audit log, whose lines are bounded.
func naming(list []string) string {
	const most = 50
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

// put brings into force what the text says now. Call with mu held.
func (b *blocks) put(ctx context.Context, now time.Time) error {
	b.list.Store(blocklist.Of(b.file.text.Entries(), now))
	b.enforce()
	return b.n.applyWorker(ctx)
}

// Block refuses from now on what an entry of blocklist.New names, also over a
// restart when the node has a directory. In place of an entry about the same it
// puts this one. What cuts this node off from its network is refused unless
// forced; notes are sentences about what the entry means here.
func (n *Node) Block(ctx context.Context, e blocklist.Entry, force bool) (replaced bool, notes []string, err error) {
	if err := n.isReady(); err != nil {
		return false, nil, err
	}
	now := time.Now()
	if e.Since.IsZero() {
		e.Since = now
	}
	if err := n.mayBlock(e, force); err != nil {
		return false, nil, err
	}
	err = n.blocks.change(ctx, func(f *blocklist.File) error {
		f.Prune(now)
		replaced, err = f.Add(e)
		return err
	}, func() { n.record(audit.Block, e.Pairs()...) })
	if err != nil {
		return false, nil, err
	}
	return replaced, n.blockNotes(e), nil
}

// Unblock ends what Block or the file began. The kind "" is any, when there are
// not several of the value.
func (n *Node) Unblock(ctx context.Context, kind blocklist.Kind, value string) (e blocklist.Entry, err error) {
	if err := n.isReady(); err != nil {
		return e, err
	}
	err = n.blocks.change(ctx, func(f *blocklist.File) error {
		f.Prune(time.Now())
		e, err = f.Remove(kind, value)
		return err
	}, func() { n.record(audit.Unblock, "kind", string(e.Kind), "value", e.Value) })
	return e, err
}

// Blocks are the entries in force, and a sentence when they are not those of the
// file, because that cannot be read.
func (n *Node) Blocks() (entries []blocklist.Entry, problem string) {
	f := &n.blocks.file
	f.mu.Lock()
	defer f.mu.Unlock()
	return n.blocks.list.Load().Entries(), f.problem
}

// ReloadBlocks has the file read again soon, whether it changed or not.
func (n *Node) ReloadBlocks() { wake(n.blocks.file.reread) }

// change edits the file as it is now, so that nothing which was written there
// meanwhile is lost, and says so when it is done.
func (b *blocks) change(ctx context.Context, edit func(*blocklist.File) error, done func()) error {
	f := &b.file
	f.mu.Lock()
	defer f.mu.Unlock()
	text := f.text
	if f.path != "" {
		var err error
		if text, err = blocklist.Load(f.path, b.n.self); err != nil {
			return proto.CodeConflict.Errorf("nothing was changed, because %v; correct the file first", err)
		}
	}
	if err := edit(text); err != nil {
		return err
	}
	if f.path != "" {
		if err := text.Save(f.path); err != nil {
			return fmt.Errorf("nothing was changed: %w", err)
		}
		f.problem = "" // the next look reads it once more, as somebody may write at this moment
	}
	f.text = text
	done()
	return b.put(ctx, time.Now())
}

// mayBlock refuses entries that turn the node against itself.
func (n *Node) mayBlock(e blocklist.Entry, force bool) error {
	if err := e.Itself(n.self); err != nil || force {
		return err
	}
	if err := e.Endangers(n.net); err != nil || e.Kind != blocklist.Subnet {
		return err
	}
	only := blocklist.Of([]blocklist.Entry{e}, time.Time{})
	for _, w := range n.net.Witnesses {
		addrs := n.host.Peerstore().Addrs(w)
		for _, c := range n.host.Network().ConnsToPeer(w) {
			addrs = append(addrs, c.RemoteMultiaddr())
		}
		for _, a := range addrs {
			if ip, ok := ipOf(a); ok && w != n.self {
				if _, in := only.Address(ip); in {
					return proto.CodeMalformed.Errorf("%s is the address of %s, a witness of this network, which certifies with %d of %d; --force blocks it all the same", a, w, n.net.Quorum(), len(n.net.Witnesses))
				}
			}
		}
	}
	return nil
}

// blockNotes says what an entry means here that is not plain.
func (n *Node) blockNotes(e blocklist.Entry) (out []string) {
	for _, p := range n.addrs.bootstrap {
		if err := n.blocks.refusal(p.ID, p.Addrs...); err != nil && (p.ID.String() == e.Value || e.Kind == blocklist.Subnet) {
			out = append(out, fmt.Sprintf("'bootstrap' names %s, which is not dialled while it is blocked", p.ID))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
