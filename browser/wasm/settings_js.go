package main

import (
	"crypto/ed25519"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
)

// A little more than any settings have.
const (
	maxSlots = 256
	maxBytes = 1 << 52
)

// taskTypes checks names of task types and replaces aliases. "custom" stands
// for modules that are not built in.
func taskTypes(names []string) (types []string, custom bool, err error) {
	for _, name := range names {
		if name == "custom" {
			custom = true
			continue
		}
		if _, ok := modules.Lookup(name); !ok {
			continue // a type that a later version of the page knows
		}
		types = append(types, proto.CanonicalType(name))
	}
	slices.Sort(types)
	types = slices.Compact(types)
	if len(types) == 0 && !custom {
		return nil, false, badConfig("types %v: this node has %v, and custom", names, modules.Types())
	}
	return types, custom, nil
}

// startOf reads the page's settings: all of a node but its stores and its
// engine. An error has one of the page's codes.
func startOf(o *object) (cfg node.Config, w market.Worker, err error) {
	genesis, seed, payee, names := o.bytes("genesis"), o.bytes("seed"), o.text("payee"), o.texts("types")
	cfg = node.Config{
		Dir: o.text("db"), Bootstrap: o.texts("bootstrap"), Bandwidth: o.number("bandwidth", maxBytes),
		Listen: []string{}, Reachability: "private", DHT: "ask", Light: true, Version: version, Log: logger(),
	}
	w = market.Worker{
		Enabled: o.flag("work"), Reason: "not asked to work", Slots: int(o.number("slots", maxSlots)),
		MaxMemory: o.number("memory", maxBytes), CPU: int(o.number("taskPercent", 100)), Site: o.text("site"),
	}
	if o.err != nil {
		return cfg, w, o.err
	}
	if cfg.Network, err = proto.ParseGenesis(genesis); err != nil {
		return cfg, w, badConfig("genesis: %v", err)
	}
	if len(seed) != ed25519.SeedSize {
		return cfg, w, &codeError{"BAD_KEY", fmt.Sprintf("a seed has 32 bytes, not %d", len(seed))}
	}
	if cfg.Key, err = keyOf(seed); err != nil {
		return cfg, w, err
	}
	if payee != "" {
		if w.Payee, err = peer.Decode(payee); err == nil {
			_, err = proto.ParsePeer([]byte(w.Payee))
		}
		if err != nil {
			return cfg, w, badConfig("payee %q is no account; want the peer id of an Ed25519 key, 12D3KooW…", payee)
		}
	}
	w.Types, w.Custom, err = taskTypes(names)
	return cfg, w, err
}

// keyOf makes the account's key from its seed, RFC 8032.
func keyOf(seed []byte) (crypto.PrivKey, error) {
	return crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed))
}

// limitsOf reads what a page may change of a node that runs. What is not given
// stays as it is.
func limitsOf(o *object) (func(*market.Worker), error) {
	slots, cpu := int(o.number("slots", maxSlots)), int(o.number("taskPercent", 100))
	return func(w *market.Worker) {
		if slots > 0 {
			w.Slots = slots
		}
		if cpu > 0 {
			w.CPU = cpu
		}
	}, o.err
}
