//go:build race

package test

// Under the race detector the daemons are built with it too.
const raceEnabled = true
