package crypto

import "io"

func GenerateSecp256k1Key(io.Reader) (PrivKey, PubKey, error) { return nil, nil, errKind }
func UnmarshalSecp256k1PrivateKey([]byte) (PrivKey, error)    { return nil, errKind }
func UnmarshalSecp256k1PublicKey([]byte) (PubKey, error)      { return nil, errKind }
