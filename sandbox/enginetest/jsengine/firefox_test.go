//go:build unix && soak

package jsengine_test

import (
	"testing"

	"edgenet.dev/sandbox/enginetest/jsengine"
)

// SpiderMonkey needs a second browser (Debian's firefox-esr), so it runs under
// the soak tag only.

func TestConformanceFirefox(t *testing.T)   { conformance(t, jsengine.NewFirefox) }
func TestRandomModulesFirefox(t *testing.T) { random(t, jsengine.NewFirefox) }
func TestArithmeticFirefox(t *testing.T)    { arithmetic(t, jsengine.NewFirefox) }
func TestDepthFirefox(t *testing.T)         { depth(t, jsengine.NewFirefox) }
