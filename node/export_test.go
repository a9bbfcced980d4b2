package node

// HearCredits gives the node a message of the credits topic as gossip does.
func (n *Node) HearCredits(data []byte) (fresh bool, err error) { return n.gossip.credits(data) }
