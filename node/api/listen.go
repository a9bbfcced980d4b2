//go:build !js

// Package api is the daemon's local API: Connect services on a unix socket
// that only the daemon's owner can open. The CLI and the web page use nothing
// else. The schema is proto/api/api.proto.
package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Socket is the name of the socket inside the data directory.
const Socket = "edgenetd.sock"

// MaxSocketPath is the longest socket path that Listen takes in bytes: what the kernels we run on take as an address, less one
// for the final zero: 108 bytes on Linux, 104 on the BSDs and macOS.
const MaxSocketPath = 103

// ErrInUse: another daemon answers on the socket.
var ErrInUse = errors.New("another daemon answers on the socket")

// ErrPathTooLong: the kernel takes no socket address of that length.
var ErrPathTooLong = errors.New("path too long for a unix socket")

// SocketPath is where the daemon with this data directory listens.
func SocketPath(dir string) string { return filepath.Join(dir, Socket) }

// Listen opens dir's socket with mode 0600. A socket left by a daemon that
// died is removed; when a daemon answers on it the error is ErrInUse.
func Listen(dir string) (net.Listener, error) {
	path := SocketPath(dir)
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d work", ErrPathTooLong, path, len(path), MaxSocketPath)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s is not a socket; move it away", path)
		}
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, fmt.Errorf("%w: %s", ErrInUse, path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// HTTPClient speaks to the daemon of dir whatever host a URL names; use
// BaseURL.
func HTTPClient(dir string) *http.Client {
	var d net.Dialer
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", SocketPath(dir))
		},
		DisableCompression: true,
	}}
}

// BaseURL is what clients of the socket pass to the generated constructors.
const BaseURL = "http://edgenetd"
