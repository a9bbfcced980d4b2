package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// README's three machines, joined by an invite, do what it shows.
func TestReadmeUse(t *testing.T) {
	m := newMachines(t, "A", "B", "C")
	home := m.shells["A"].home
	for name, text := range map[string]string{"book.txt": "a b a\n", "number.txt": "100\n"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("clang", "--target=wasm32", "-O2", "-ffreestanding", "-nostdlib", "-Wl,--no-entry",
		"-I", "sandbox/modules/src", "-o", filepath.Join(home, "primes.wasm"), "sandbox/examples/primes/primes.c")
	build.Dir = repo(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m.play(t, transcript(t, "README.md", "use"))
}
