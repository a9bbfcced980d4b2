// Package identity keeps a node's Ed25519 key, which is its peer id and its
// account: created once, stored readable by its owner alone, exported and
// imported as an age file under a passphrase.
package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/libp2p/go-libp2p/core/crypto"

	"edgenet.dev/node/durable"
)

// File is the name of the key inside the data directory. It holds one line:
// the base64 of the 32-byte Ed25519 seed, the form the JS API calls privateKey.
const File = "key"

// MaxExport is the largest exported key in bytes that Import reads.
const MaxExport = 64 << 10

// ErrPassphrase: the exported key was not made with this passphrase.
var ErrPassphrase = errors.New("wrong passphrase")

// ErrExists: the directory already holds a key, which is never overwritten.
var ErrExists = errors.New("an identity exists already")

// ErrMode: the key file can be read by others.
var ErrMode = errors.New("key file is readable by others")

// ErrOpenDir: anybody can write in the directory.
var ErrOpenDir = errors.New("directory is writable by everybody")

// Create makes a new key and writes dir/key (0600, in a directory of mode
// 0700 that is made when missing). It returns ErrExists when a key is there and
// ErrOpenDir when everybody may write in dir.
func Create(dir string) (crypto.PrivKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	if err := write(dir, seed); err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	return fromSeed(seed)
}

// Load reads dir/key. It returns fs.ErrNotExist when there is none and
// ErrMode when group or world may read it, ErrOpenDir when everybody may write in
// dir.
func Load(dir string) (crypto.PrivKey, error) {
	seed, err := read(dir)
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	return fromSeed(seed)
}

// Export encrypts key under passphrase as an ASCII-armored age file.
func Export(key crypto.PrivKey, passphrase string) ([]byte, error) {
	if passphrase == "" {
		return nil, errors.New("export identity: an empty passphrase protects nothing")
	}
	raw, err := key.Raw()
	if err != nil || key.Type() != crypto.Ed25519 || len(raw) != ed25519.PrivateKeySize {
		return nil, errors.New("export identity: not an Ed25519 key")
	}
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("export identity: %w", err)
	}
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, to)
	if err != nil {
		return nil, fmt.Errorf("export identity: %w", err)
	}
	_, err = w.Write(line(raw[:ed25519.SeedSize]))
	for _, c := range []io.Closer{w, a} {
		if cerr := c.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		return nil, fmt.Errorf("export identity: %w", err)
	}
	return out.Bytes(), nil
}

// Decrypt reads an exported key and stores nothing. It returns ErrPassphrase
// for a wrong passphrase.
func Decrypt(armored []byte, passphrase string) (crypto.PrivKey, error) {
	seed, err := decrypt(armored, passphrase)
	if err != nil {
		return nil, fmt.Errorf("read exported key: %w", err)
	}
	return fromSeed(seed)
}

// Import decrypts an exported key and stores it as dir/key. It returns
// ErrPassphrase for a wrong passphrase and ErrExists when dir holds another
// key; importing the key that is there already changes nothing.
func Import(dir string, armored []byte, passphrase string) (crypto.PrivKey, error) {
	seed, err := decrypt(armored, passphrase)
	if err != nil {
		return nil, fmt.Errorf("import identity: %w", err)
	}
	err = write(dir, seed)
	if errors.Is(err, ErrExists) {
		if old, rerr := read(dir); rerr == nil && bytes.Equal(old, seed) {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("import identity: %w", err)
	}
	return fromSeed(seed)
}

func decrypt(armored []byte, passphrase string) ([]byte, error) {
	if len(armored) > MaxExport {
		return nil, fmt.Errorf("%d bytes are more than an exported key has", len(armored))
	}
	if !bytes.HasPrefix(bytes.TrimSpace(armored), []byte(armor.Header)) {
		return nil, errors.New("not an exported key: it must start with " + armor.Header)
	}
	if passphrase == "" {
		return nil, ErrPassphrase
	}
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(armored)), id)
	var wrong *age.NoIdentityMatchError
	switch {
	case errors.As(err, &wrong):
		if len(wrong.StanzaTypes) > 0 && wrong.StanzaTypes[0] != "scrypt" {
			return nil, errors.New("not an exported key: it is encrypted to a recipient, not a passphrase")
		}
		return nil, ErrPassphrase
	case err != nil:
		return nil, fmt.Errorf("damaged export: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(r, 1024))
	if err != nil {
		return nil, fmt.Errorf("damaged export: %w", err)
	}
	return parse(b)
}

func line(seed []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(nil, seed), '\n')
}

func parse(b []byte) ([]byte, error) {
	seed, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("not a key: want one line with the base64 of 32 bytes")
	}
	return seed, nil
}

func fromSeed(seed []byte) (crypto.PrivKey, error) {
	return crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed))
}

// closedDir refuses a directory in which anybody could put another key, genesis
// or configuration in place of these. A missing one is fine.
func closedDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || runtime.GOOS == "windows" || runtime.GOOS == "js" || info.Mode().Perm()&0o002 == 0 {
		return nil // whoever opens the file says what else is wrong
	}
	return fmt.Errorf("%w: %s has mode %04o, so anybody could replace what is kept there; name a directory of its own, or run chmod 700 on this one",
		ErrOpenDir, dir, info.Mode().Perm())
}

func read(dir string) ([]byte, error) {
	name := filepath.Join(dir, File)
	if err := closedDir(dir); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && runtime.GOOS != "js" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o; run chmod 600 on it, and make a new identity if a stranger may have read it",
			ErrMode, name, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return nil, err
	}
	seed, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return seed, nil
}

// write stores the seed under its final name only when all of it is on disk:
// a full disk or a crash leaves no half key, and Link never overwrites.
func write(dir string, seed []byte) error {
	if err := closedDir(dir); err != nil {
		return err
	}
	name := filepath.Join(dir, File)
	err := durable.WriteNew(name, line(seed), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, name)
	}
	return err
}
