// Package web serves over HTTP what a tab needs of a daemon: the network's
// genesis with the daemon's addresses of this moment, and a bundle of static
// files such as the browser peer and its example pages.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/node"
)

// WellKnown is where a tab asks: certificate hashes live 14 days, so a page
// cannot carry a relay's addresses.
const WellKnown = "/.well-known/edgenet"

// Description is the JSON body of WellKnown.
type Description struct {
	Network string   `json:"network"` // network id, a CID
	Genesis []byte   `json:"genesis"` // genesis.pb, base64
	Addrs   []string `json:"addrs"`   // multiaddrs with /p2p/ that a tab can dial
}

// Describe says what a tab needs to join n's network by n.
func Describe(n *node.Node) Description {
	d := Description{Network: n.Network().ID.String(), Genesis: n.Network().Raw, Addrs: []string{}}
	for _, text := range n.Addrs() {
		if a, err := ma.NewMultiaddr(text); err == nil && dialable(a) {
			d.Addrs = append(d.Addrs, text)
		}
	}
	return d
}

// dialable tells the addresses that a page may dial: WebTransport with
// certificate hashes, and WebSocket.
func dialable(a ma.Multiaddr) bool {
	has := func(code int) bool {
		_, err := a.ValueForProtocol(code)
		return err == nil
	}
	switch {
	case has(ma.P_CIRCUIT):
		return false
	case has(ma.P_WEBTRANSPORT):
		return has(ma.P_CERTHASH)
	}
	return has(ma.P_WS) || has(ma.P_WSS)
}

// NewHandler answers WellKnown for pages of every origin, and serves root
// when it is not nil. Beside name, root may hold name.br and name.gz, which
// are sent to those who accept them.
func NewHandler(n *node.Node, root fs.FS) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(WellKnown, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Expose-Headers", "Date") // a visitor whose clock is wrong is told
		switch r.Method {
		case http.MethodGet, http.MethodHead:
		case http.MethodOptions:
			w.Header().Set("Access-Control-Allow-Methods", "GET")
			w.WriteHeader(http.StatusNoContent)
			return
		default:
			w.Header().Set("Allow", "GET")
			http.Error(w, "GET only", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store") // yesterday's certificate hashes are of no use
		_ = json.NewEncoder(w).Encode(Describe(n))  // whoever asked has left
	})
	if root != nil {
		mux.Handle("/", bundle{root})
	}
	return mux
}

// bundle serves files of a built bundle.
type bundle struct{ root fs.FS }

// hashed names never change their content.
var hashed = regexp.MustCompile(`[.-][0-9a-f]{8,64}\.[a-z0-9]+$`)

func (b bundle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET")
		http.Error(w, "GET only", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if name == "" {
		name = "index.html"
	}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept-Encoding")
	// SDKs, Workers and wasm are meant to be embedded by other sites.
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	if h.Set("Cache-Control", "no-cache"); hashed.MatchString(name) {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	kind := mime.TypeByExtension(path.Ext(name))
	switch path.Ext(name) { // not left to the machine's own tables
	case ".wasm":
		kind = "application/wasm"
	case ".js":
		kind = "text/javascript; charset=utf-8"
	}
	if kind != "" {
		h.Set("Content-Type", kind)
	}
	for _, enc := range []struct{ name, ext string }{{"br", ".br"}, {"gzip", ".gz"}} {
		if !accepts(r, enc.name) {
			continue
		}
		if f, err := fs.Stat(b.root, name+enc.ext); err == nil && f.Mode().IsRegular() {
			h.Set("Content-Encoding", enc.name)
			http.ServeFileFS(w, r, b.root, name+enc.ext)
			return
		}
	}
	http.ServeFileFS(w, r, b.root, name)
}

func accepts(r *http.Request, encoding string) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == encoding && strings.ReplaceAll(params, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

// Serve answers on l until ctx ends, which is no error, and closes l.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		WriteTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := s.Shutdown(wait)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.Close()
	}
	if serveErr := <-ended; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
