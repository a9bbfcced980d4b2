// Package nat stands in a tab for libp2p's search of routers: a page cannot send
// UDP, and the HTTP client that speaks to routers brings TLS with all its curves.
package nat

import (
	"context"
	"errors"
	"net"
	"time"
)

// NAT is a router that opens ports; a tab finds none.
type NAT interface {
	Type() string
	GetDeviceAddress() (net.IP, error)
	GetExternalAddress() (net.IP, error)
	GetInternalAddress() (net.IP, error)
	AddPortMapping(ctx context.Context, protocol string, port int, description string, timeout time.Duration) (int, error)
	DeletePortMapping(ctx context.Context, protocol string, port int) error
}

// DiscoverGateway finds none.
func DiscoverGateway(context.Context) (NAT, error) {
	return nil, errors.New("no router is looked for in a tab")
}
