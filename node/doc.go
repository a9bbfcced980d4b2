// Package node wires EdgeNet together: the libp2p host, discovery, gossip and
// streams on one side, the pure market and ledger and the sandbox on the
// other. It alone does I/O and owns goroutines.
//
// A node is one Config, New, Run and Close:
//
//	n, err := node.New(node.Config{Network: network, Key: key})
//	if err != nil { … }
//	defer n.Close()
//	err = n.Run(ctx)
//
// What happens to a job is told in pipeline.go, on one page.
package node
