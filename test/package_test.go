package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The Debian package holds what an operator expects, its binary runs, and
// systemd understands its unit.
func TestPackage(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is not here: this is no Debian")
	}
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = repo(t)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	dir := t.TempDir()
	deb := strings.TrimSpace(run("sh", "cmd/edgenetd/debian/build.sh", edgenetd, "v1.2-3-gabc", dir))
	if again := strings.TrimSpace(run("sh", "cmd/edgenetd/debian/build.sh", edgenetd, "v1.2-3-gabc", filepath.Join(dir, "again"))); run("sha256sum", deb)[:64] != run("sha256sum", again)[:64] {
		t.Error("the same binary gives another package")
	}
	if v := strings.TrimSpace(run("dpkg-deb", "-f", deb, "Version")); v != "0~v1.2+3+gabc" {
		t.Errorf("version %q", v)
	}
	root := filepath.Join(dir, "root")
	run("dpkg-deb", "-x", deb, root)
	for _, name := range []string{
		"usr/bin/edgenetd", "usr/lib/systemd/system/edgenetd.service", "usr/lib/sysusers.d/edgenetd.conf",
		"usr/share/man/man1/edgenetd.1.gz", "usr/share/man/man1/edgenetd-task-wait.1.gz", "usr/share/man/man1/edgenetd-doctor.1.gz",
		"usr/share/bash-completion/completions/edgenetd", "usr/share/zsh/vendor-completions/_edgenetd", "usr/share/fish/vendor_completions.d/edgenetd.fish",
		"usr/share/doc/edgenetd/copyright", "usr/share/doc/edgenetd/operating.md",
	} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s is missing or empty: %v", name, err)
		}
	}
	for line := range strings.Lines(run("dpkg-deb", "-c", deb)) {
		if !strings.Contains(line, " root/root ") {
			t.Errorf("not root's: %s", line)
		}
	}
	if out := run(filepath.Join(root, "usr/bin/edgenetd"), "version"); !strings.Contains(out, "edgenetd") {
		t.Errorf("version prints %q", out)
	}
	page := run("sh", "-c", "gunzip -c "+filepath.Join(root, "usr/share/man/man1/edgenetd-run.1.gz"))
	if !strings.Contains(page, "metrics-pprof") {
		t.Error("the manual page of run does not name its flags")
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here: the unit was not verified")
	}
	unit := filepath.Join(root, "usr/lib/systemd/system/edgenetd.service")
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	// The binary is where it was unpacked.
	text = []byte(strings.ReplaceAll(string(text), "/usr/bin/edgenetd", filepath.Join(root, "usr/bin/edgenetd")))
	if err := os.WriteFile(unit, text, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "edgenetd.service") {
			t.Errorf("systemd-analyze: %s", line)
		}
	}
	if err != nil && strings.Contains(string(out), "edgenetd.service") {
		t.Error(err)
	}
}
