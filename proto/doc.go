// Package proto holds the words that every part of EdgeNet shares: wire
// messages, ids, units, limits, error codes and the signed envelope. It
// imports nothing else of EdgeNet.
package proto
