package node

import (
	"context"
	"fmt"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// Stake moves available credits of this node's account to its stake. It
// returns once the event is certified, like Transfer.
func (n *Node) Stake(ctx context.Context, amount proto.Credit) error {
	return n.author(ctx, ledger.Stake(amount), "stake", amount)
}

// Unstake takes credits from the stake. They can be withdrawn after seven
// days, and every Unstake starts these again for all that is unbonding.
func (n *Node) Unstake(ctx context.Context, amount proto.Credit) error {
	return n.author(ctx, ledger.Unstake(amount), "unstake", amount)
}

// Withdraw makes unbonded credits available.
func (n *Node) Withdraw(ctx context.Context, amount proto.Credit) error {
	return n.author(ctx, ledger.Withdraw(amount), "withdraw", amount)
}

func (n *Node) author(ctx context.Context, body any, verb string, amount proto.Credit) error {
	if err := n.isReady(); err != nil {
		return err
	}
	ctx, cancel := n.until(ctx)
	defer cancel()
	if _, err := n.wallet.certify(ctx, body); err != nil {
		return fmt.Errorf("%s %s credits: %w", verb, amount, err)
	}
	return nil
}

// Epoch is that of the newest checkpoint this node knows; 0 is the genesis.
func (n *Node) Epoch() uint64 {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	return n.wallet.l.Epoch()
}

// Base is the epoch of the checkpoint below which this node pruned events; 0
// is the genesis.
func (n *Node) Base() uint64 { return n.wallet.base() }
