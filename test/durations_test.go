package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Counts of seconds and milliseconds that come out of a message, a genesis or an
// option become durations through proto.Seconds, proto.Millis and proto.UnixMs,
// which do not overflow: 9,223,372,037 seconds by plain multiplication are a
// negative time, and a timer due in the past for ever.
func TestDurationsAreMadeInOnePlace(t *testing.T) {
	plain := regexp.MustCompile(`time\.UnixMilli\(int64\(|time\.Duration\([A-Za-z_*.]*(?:Seconds|Ms|seconds|ms)\)\s*\*\s*time\.|time\.Duration\(min\([^)]*\)\)\s*\*\s*time\.`)
	allowed := map[string]bool{
		filepath.Join("proto", "durations.go"):       true,
		filepath.Join("cmd", "edgenetd", "batch.go"): true, // checked against maxTimeoutMs in the line above
	}
	root, files := repo(t), 0
	for _, dir := range []string{"proto", "ledger", "market", "node", "transport", "sandbox", "cmd", "browser"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".pb.go") {
				return err
			}
			rel, err := filepath.Rel(root, path)
			if err != nil || allowed[rel] {
				return err
			}
			raw, err := os.ReadFile(path)
			files++
			for _, hit := range plain.FindAllString(string(raw), -1) {
				t.Errorf("%s: %s…: use proto.Seconds, proto.Millis or proto.UnixMs", rel, hit)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 100 {
		t.Fatalf("looked at %d files", files)
	}
}
