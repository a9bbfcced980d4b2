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
//
// # Agreement
//
// Which event gets a place in a chain n witnesses decide, of whom up to f may
// lie; n = 3f+1, and q = 2f+1 are a quorum. There is one instance for each
// slot: a place in an account's chain, or an epoch's checkpoint. It is a form
// of PBFT (Castro and Liskov, 1999) for one value. Every message is signed and
// names network, slot and round; what a witness sends is durable before. The
// code names these rules by their numbers.
//
//  1. Propose: the leader of a round says which body is to get the slot.
//     Round 0 of an account's slot is led by the account itself and of a
//     checkpoint by witness e mod n; round r by witness (H(slot)+r) mod n. From
//     round 1 on q Reports of the same round justify the Propose.
//  2. Report: a witness that enters a round from 1 on says what it is locked
//     on, or which body it knows, and what speaks against the owner's event. After
//     that it never prepares or commits in a round below.
//  3. Justified is: the body of the highest lock among the Reports, and no
//     other. Without a lock it is what the Reports prove, in this order: a
//     Slash, a Close that is due, a Void, then an event of the owner or a
//     checkpoint that is valid. Each witness computes what witnesses make from
//     the Reports, so a leader cannot invent it.
//  4. Prepare: on a justified Propose of its own round by that round's leader
//     a witness votes for it, once a round. Without a lock it judges the body in
//     full; in round 0 it also wants it to be fresh, and no Close or Slash to
//     be due and no other body or Skip to be known. It passes the Propose on to
//     witnesses that are silent.
//  5. Commit: on q Prepares of its round for one body, which it has, a witness
//     locks on that and commits, once a round.
//  6. Decide: q Commits of one round are the certificate. It is durable together
//     with the event, goes to everybody, and answers whatever comes later.
//  7. A round that anything is known in ends after T·2^r, but one above 0 not
//     before q witnesses are in it or above; then the next is entered.
//  8. When f+1 witnesses are above its round a witness enters the highest round
//     that f+1 of them have reached.
//  9. With q Reports a leader proposes the body of the highest lock, else the
//     first that rule 3 allows.
//  10. A witness repeats its newest messages every T until there is a
//     certificate. Two votes of one witness in a round that differ are evidence
//     against it.
//
// It is safe because q Commits mean f+1 honest locks, of which any q Reports
// show one. It ends once messages arrive in time and q honest witnesses reach
// each other, f+1 rounds after that at the latest; a leader can delay the event
// of an honest owner, and not void it. After a restart a witness reads its votes
// and sends them again; it computes none anew.
package ledger
