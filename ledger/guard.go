package ledger

// guard names a countermeasure, so that tests can switch it off and see the
// attack succeed. Nothing outside tests sets one.
type guard uint32

const (
	guardTimer        guard = 1 << iota // Withdraw waits for the timer
	guardDelay                          // Rotate by the current key waits
	guardSigner                         // events are signed by the account's key
	guardFreeze                         // a slashed account is frozen
	guardSlashOnce                      // one Slash per offence
	guardOldKey                         // evidence counts for the key in use only
	guardSkip                           // a Void needs the owner's Skip
	guardLists                          // a Close needs a quorum of claim lists
	guardClaimVotes                     // f+1 lists must reach an amount
	guardEpoch                          // epochs never go back
	guardBonusStake                     // bonus at most kappa times stake per epoch
	guardBonusWork                      // bonus at most for the work paid
	guardMintCap                        // bonus ends at the lifetime cap
	guardBonusReset                     // bonus_used begins again only in a later epoch
	guardPump                           // x grows only by work that bonuses are claimed for
	guardFinal                          // Settle returns nothing that a lane may still ask for
	guardPlace                          // an event has one place, and is there once
	guardAssigned                       // receipts count for work that the payer assigned
	guardProbes                         // uptime is what f+1 of a quorum of witnesses saw
	guardRecoveryCost                   // a Rotate by the recovery key is paid from stake
	guardWrongVotes                     // f+1 witnesses executed wrong work again
	guardWrongOnce                      // a wrong receipt counts once
	guardWrongSigner                    // what is held against a worker it signed
	guardClock                          // an epoch ends near the clocks of those who prepare its checkpoint
)

func (g guard) has(x guard) bool { return g&x != 0 }
