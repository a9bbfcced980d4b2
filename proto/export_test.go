package proto

// NumberRange is what a genesis' number may be.
type NumberRange struct{ Unset, Least, Most uint64 }

// GenesisNumbers are the rows of the table, by path.
func GenesisNumbers() map[string]NumberRange {
	out := map[string]NumberRange{}
	for name, n := range genesisNumbers {
		out[name] = NumberRange{n.unset, n.least, n.most}
	}
	return out
}
