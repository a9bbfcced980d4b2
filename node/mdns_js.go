package node

import (
	"context"
	"errors"
)

// mdns needs multicast, which a tab does not have.
func (n *Node) mdns(context.Context) (stop func(), err error) {
	return nil, errors.New("mDNS needs multicast, which a browser tab does not have")
}
