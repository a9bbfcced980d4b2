package ledger_test

import (
	"slices"
	"testing"

	"edgenet.dev/ledger"
)

// Two thousand referrals and as many accounts that were up want a place in each
// checkpoint, which pays a thousand: half of them are of each kind, the largest
// referrals in their order, and every account that was up has its turn.
func TestRewardsShareACheckpoint(t *testing.T) {
	many := func(n int, of func(int) uint64) (out []uint64) {
		for i := range n {
			out = append(out, of(i))
		}
		return out
	}
	dust := many(2000, func(i int) uint64 { return 1 + uint64(i%7/6) }) // every seventh is 2
	turns := map[int]bool{}
	for epoch := range uint64(4) {
		refs, ups := ledger.Share(epoch, dust, many(2000, func(int) uint64 { return 5 }))
		if len(refs) != 500 || len(ups) != 500 || !slices.IsSorted(refs) || !slices.IsSorted(ups) {
			t.Fatalf("epoch %d: %d referrals, %d that were up", epoch, len(refs), len(ups))
		}
		large := 0
		for _, i := range refs {
			large += int(dust[i]) - 1
		}
		if large != 285 {
			t.Errorf("epoch %d: %d of the 285 larger referrals are paid", epoch, large)
		}
		for _, i := range ups {
			turns[i] = true
		}
	}
	if len(turns) != 2000 {
		t.Errorf("%d of 2000 accounts had their turn in four epochs", len(turns))
	}
	for _, tt := range []struct{ refs, ups, wantRefs, wantUps int }{
		{0, 0, 0, 0}, {3, 2000, 3, 997}, {2000, 3, 997, 3}, {600, 400, 600, 400}, {600, 600, 500, 500}, {1, 0, 1, 0},
	} {
		refs, ups := ledger.Share(1, many(tt.refs, func(int) uint64 { return 1 }), many(tt.ups, func(int) uint64 { return 1 }))
		if len(refs) != tt.wantRefs || len(ups) != tt.wantUps {
			t.Errorf("%d and %d: %d and %d, want %d and %d", tt.refs, tt.ups, len(refs), len(ups), tt.wantRefs, tt.wantUps)
		}
	}
}
