package mem_test

import (
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/ledger/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Backend{
		New: func(testing.TB) ledger.Store { return mem.New() },
		Reopen: func(tb testing.TB, s ledger.Store) ledger.Store {
			c := s.(*mem.Store).Clone()
			if err := s.Close(); err != nil {
				tb.Fatal(err)
			}
			return c
		},
	})
}
