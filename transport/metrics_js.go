package transport

// Registerer takes libp2p's own metrics; a tab has none.
type Registerer = any
