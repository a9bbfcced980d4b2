package crypto

import (
	"errors"
	"io"
)

// Accounts of this network are Ed25519 keys, so a tab goes without the other
// kinds and the curves and encodings that they need.
var errKind = errors.New("this build knows Ed25519 keys only")

func GenerateECDSAKeyPair(io.Reader) (PrivKey, PubKey, error) { return nil, nil, errKind }
func UnmarshalECDSAPrivateKey([]byte) (PrivKey, error)        { return nil, errKind }
func UnmarshalECDSAPublicKey([]byte) (PubKey, error)          { return nil, errKind }
