// Package ledger keeps credits as a certified grow-only set: every account has
// one hash-linked chain of signed events, witnesses named by the genesis
// certify one event per place in a chain, and balances are a pure function of
// the set of certified events. Merge is union, so the order in which events
// arrive never matters.
//
// The package reads no clock, draws no random numbers, starts no goroutine and
// does no I/O of its own: durability goes through the Store it is given. A
// Ledger, its Witness and its Syncs are not safe for concurrent use; the
// caller serialises them.
package ledger
