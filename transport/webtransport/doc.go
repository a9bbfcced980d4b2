// Package webtransport lets a node in a browser dial other nodes: Transport
// speaks libp2p's WebTransport through the browser's own, WebSocket is the
// fallback of engines that have none. Both exist under GOOS=js only, in pages
// and in Workers alike. A browser cannot listen, so neither can they.
//
// What does not need a browser (addresses, the stream's state, deadlines,
// queues) is built everywhere and tested natively.
package webtransport
