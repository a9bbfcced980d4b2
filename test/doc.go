// Package test holds what spans packages: the rules of the import graph, and
// tests that run real daemons as processes and talk to each through its own
// socket. It has no code for others to import.
package test
