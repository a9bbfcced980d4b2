// Package audit keeps a log of a node's security-relevant acts: an append-only
// file in the data directory in which each line holds the hash of the line
// before. A line that was changed, removed or put in between is found. The end
// can be cut off without a trace: whoever wants to notice that keeps the hash
// of the last line elsewhere.
package audit

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// File is the name of the log in the data directory.
const File = "audit.log"

// maxLine bounds one line in bytes.
const maxLine = 64 << 10

// ErrBroken: a line does not follow from the line before.
var ErrBroken = errors.New("the audit log is broken")

// Acts that are logged.
const (
	KeyCreate  = "key.create"   // an identity or an account's next key was made
	KeyExport  = "key.export"   // an identity left the directory, encrypted
	KeyImport  = "key.import"   // an identity came in
	Recovery   = "key.recovery" // a recovery key was made
	Rotate     = "key.rotate"   // an account's key was changed, or will be
	Backup     = "backup"       // the ledger was copied
	Restore    = "restore"      // the ledger was replaced by a backup
	Recovered  = "recovered"    // the account's head is known again, signing goes on
	Slashed    = "slashed"      // this account was punished
	Conflict   = "conflict"     // another event took this account's place
	Dropped    = "dropped"      // an event of this account was refused, and what it was for is not done
	Start      = "start"        // the daemon started with this configuration
	Copied     = "copied"       // another process has this identity; this one signs nothing
	Block      = "block.add"    // the operator blocks a peer, subnet, submitter or module
	Unblock    = "block.rm"     // and does not any more
	Reload     = "block.reload" // the file of what is blocked was changed by hand
	NotVoting  = "not-voting"   // a witness restored from a backup stays silent
	ShortWrite = "short-write"  // read only: a line that a crash cut short
)

// Log is the log of one data directory. Several processes may append.
type Log struct{ path string }

// Open names dir's log. It touches nothing.
func Open(dir string) *Log { return &Log{filepath.Join(dir, File)} }

// Entry is one line.
type Entry struct {
	Time time.Time         `json:"time"` // by this machine's clock
	Act  string            `json:"act"`
	Data map[string]string `json:"data,omitempty"` // never a secret
	Prev string            `json:"prev"`           // hex of the sha2-256 of the line before, its end included; "" in the first
}

// Add appends one act and returns once it is on disk. pairs are names and
// values. A nil log takes everything and keeps nothing.
func (l *Log) Add(now time.Time, act string, pairs ...string) (err error) {
	if l == nil {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("audit log: %w", err)
		}
	}()
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil { // ends the lock, too
			err = cerr
		}
	}()
	if err := lockFile(f); err != nil {
		return err
	}
	last, err := lastLine(f)
	if err != nil {
		return err
	}
	e := Entry{Time: now.UTC(), Act: act}
	for i := 0; i+1 < len(pairs); i += 2 {
		if e.Data == nil {
			e.Data = map[string]string{}
		}
		e.Data[pairs[i]] = pairs[i+1]
	}
	var out []byte
	if n := len(last); n > 0 {
		if last[n-1] != '\n' { // a crash cut it short: it stays, as a line of its own
			out = append(out, '\n')
			last = append(last, '\n')
		}
		e.Prev = hashOf(last)
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if len(line) >= maxLine {
		return fmt.Errorf("%s with %d bytes, at most %d", act, len(line), maxLine-1)
	}
	if _, err := f.Write(append(append(out, line...), '\n')); err != nil {
		return err
	}
	return f.Sync()
}

func hashOf(line []byte) string {
	h := sha256.Sum256(line)
	return hex.EncodeToString(h[:])
}

// lastLine reads the last line, with its end if it has one.
func lastLine(f *os.File) ([]byte, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return nil, err
	}
	from := max(0, size-maxLine-1)
	b := make([]byte, size-from)
	if _, err := f.ReadAt(b, from); err != nil {
		return nil, err
	}
	for i := len(b) - 2; i >= 0; i-- {
		if b[i] == '\n' {
			return b[i+1:], nil
		}
	}
	if from > 0 {
		return nil, fmt.Errorf("%w: its last line is longer than any that is written", ErrBroken)
	}
	return b, nil
}

// Verify reads the whole log: its entries and the hash of its last line. The
// error, ErrBroken, names the first line that does not follow from the one
// before; the entries before it are returned. A log that does not exist is
// empty.
func (l *Log) Verify() (entries []Entry, last string, err error) {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("audit log: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, maxLine+1)
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		switch {
		case err == io.EOF && len(line) == 0:
			return entries, last, nil
		case err == io.EOF: // as Add would leave it
			line = append(line[:len(line):len(line)], '\n')
		case err != nil:
			return entries, last, fmt.Errorf("%w: line %d of %s: %v", ErrBroken, n, l.path, err)
		}
		var e Entry
		if json.Unmarshal(line, &e) != nil || e.Act == "" {
			// What a crash cut short is known by what follows it: the next line
			// holds its hash.
			e = Entry{Act: ShortWrite, Prev: last}
		}
		if e.Prev != last {
			return entries, last, fmt.Errorf("%w: line %d of %s does not follow from the line before", ErrBroken, n, l.path)
		}
		entries, last = append(entries, e), hashOf(line)
	}
}
