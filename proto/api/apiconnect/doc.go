// Package apiconnect holds the Connect clients and handlers of the local API,
// generated from api.proto.
package apiconnect
