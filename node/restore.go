package node

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/node/audit"
)

// restoredKey marks a store that came from a backup: it may lack events that
// its account signed, and votes that it gave as a witness. silentKey stays
// for ever, on a store whose votes were left out.
var (
	restoredKey = ledger.NodeKey("restored")
	silentKey   = ledger.NodeKey("votes not")
)

// restoreBatch is how many bytes of records RestoreStore writes at once.
const restoreBatch = 1 << 20

// RestoreStore copies a backup's store into a fresh one and marks it. A node
// with such a store asks a quorum of witnesses for its account's head and gives
// up one place before it signs anything. Votes are not copied, and a witness
// with such a store never votes: it does not know what it voted for after the
// backup. Nor is an order copied, which may have been done since. taken is the time of the backup, for people.
func RestoreStore(to, from ledger.Store, taken time.Time) error {
	var batch []ledger.Record
	size := 0
	flush := func() error {
		err := to.Append(batch...)
		batch, size = batch[:0], 0
		return err
	}
	at := []byte(taken.UTC().Format(time.RFC3339))
	batch = append(batch, ledger.Record{Key: restoredKey, Value: at}, ledger.Record{Key: silentKey, Value: at})
	err := from.Scan(nil, func(key, value []byte) error {
		if ledger.IsVote(key) || string(key) == string(restoredKey) || string(key) == string(silentKey) || string(key) == string(orderKey) {
			return nil
		}
		batch = append(batch, ledger.Record{Key: append([]byte{}, key...), Value: append([]byte{}, value...)})
		if size += len(key) + len(value); size < restoreBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// afterRestore notices that the store came from a backup.
func (w *wallet) afterRestore() error {
	v, err := w.n.store.Get(restoredKey)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	w.own.lost = v != nil
	if v, err = w.n.store.Get(silentKey); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if v != nil && w.witness != nil {
		w.witness = nil
		w.n.log.Warn("this witness does not vote: its ledger was restored from a backup, and votes are lost", zap.ByteString("backup", v))
		w.n.record(audit.NotVoting, "backup", string(v))
	}
	return nil
}

// found notes that an account's chain is known again after its store had lost
// some of it. Call with the author's token.
func (w *wallet) found(o *owner, said *ledger.Recovered) error {
	pairs := []string{"account", o.account.String()}
	if said.Head != nil {
		pairs = append(pairs, "head", fmt.Sprint(said.Head.Seq))
	}
	if said.Skip != nil {
		pairs = append(pairs, "given_up", fmt.Sprint(said.Skip.Seq))
	}
	w.n.record(audit.Recovered, pairs...)
	if o == w.own && o.lost {
		if err := w.n.store.Append(ledger.Record{Key: restoredKey}); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
	}
	o.lost = false
	return nil
}
