package market

import (
	"strings"
	"testing"

	"edgenet.dev/proto"
)

// Whoever reads how a module failed is told of the limit that did it.
func TestHowEndedNamesTheLimit(t *testing.T) {
	for status, want := range map[proto.Status]string{
		proto.StatusOutOfFuel: "all of its 777 fuel is used up, raise the limit (--fuel, fuelLimit)", proto.StatusBadOutput: "larger than 99 bytes",
		proto.StatusExitNonZero: "exit code 3", proto.StatusStackLimit: "nested too deeply", proto.StatusTrap: "its log may say which",
	} {
		if got := howEnded(status, 3, 777, 99); !strings.HasPrefix(got, "the module ended with ") || !strings.Contains(got, want) {
			t.Errorf("%s: %s", status, got)
		}
	}
}
