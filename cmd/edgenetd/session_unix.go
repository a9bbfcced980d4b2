//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownSession keeps signals of the terminal away from a child.
func ownSession(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
