// Package api is the schema of the daemon's local API: messages for the
// command line and the local page, generated from api.proto.
package api
