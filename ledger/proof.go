package ledger

type proofs struct{}
