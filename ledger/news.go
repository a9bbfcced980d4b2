package ledger

import (
	"bytes"

	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

// news is what a checkpoint adds to the one before it.
type news struct {
	changes []change // nil when they are not known
	rewards []reward
	probes  [][]byte
	reports [][]byte               // of wrong work
	wrong   []*proto.SignedReceipt // that they name
}

// parseChanges wants what marshal makes: keys ascending, nothing else.
func parseChanges(raw []byte) (n news, err error) {
	if len(raw) > maxChangesSize {
		return n, proto.CodeTooLarge.Errorf("checkpoint: changes of %d bytes, at most %d", len(raw), maxChangesSize)
	}
	m := new(proto.FrontierChanges)
	if err := goproto.Unmarshal(raw, m); err != nil {
		return n, proto.CodeMalformed.Errorf("checkpoint: changes: %v", err)
	}
	n = news{changes: make([]change, 0, len(m.Changes)), probes: m.Probes, reports: m.WrongReports, wrong: m.Wrong}
	for i, c := range m.Changes {
		id, err := accountOfKey(c.GetKey())
		if err != nil {
			return n, err
		}
		if i > 0 && bytes.Compare(m.Changes[i-1].Key, c.Key) >= 0 {
			return n, proto.CodeMalformed.Errorf("checkpoint: changes are not sorted")
		}
		n.changes = append(n.changes, change{id, c.Seq})
	}
	if len(m.Rewards) > maxRewards || len(m.Probes) > maxProbes {
		return n, proto.CodeTooLarge.Errorf("checkpoint: %d rewards, %d probe reports", len(m.Rewards), len(m.Probes))
	}
	if len(m.Wrong) > maxWrong || len(m.WrongReports) > maxProbes {
		return n, proto.CodeTooLarge.Errorf("checkpoint: %d wrong receipts, %d reports of them", len(m.Wrong), len(m.WrongReports))
	}
	for _, sr := range m.Wrong {
		if _, err := openAccused(nil, sr, false); err != nil {
			return n, err
		}
	}
	for _, w := range m.Rewards {
		r, err := parseReward(w)
		if err != nil {
			return n, err
		}
		n.rewards = append(n.rewards, r)
	}
	if again, err := n.marshal(); err != nil || !bytes.Equal(again, raw) {
		return n, proto.CodeMalformed.Errorf("checkpoint: changes in another form than the one")
	}
	return n, nil
}

const maxProbes = 100

func (n news) marshal() ([]byte, error) {
	m := &proto.FrontierChanges{Probes: n.probes, WrongReports: n.reports, Wrong: n.wrong}
	for _, c := range n.changes {
		m.Changes = append(m.Changes, &proto.FrontierChange{Key: accountKey(c.account), Seq: c.seq})
	}
	for _, r := range n.rewards {
		m.Rewards = append(m.Rewards, r.wire())
	}
	return goproto.MarshalOptions{Deterministic: true}.Marshal(m)
}
