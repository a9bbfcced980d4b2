package crypto

import (
	"io"

	pb "github.com/libp2p/go-libp2p/core/crypto/pb"
)

// RsaPublicKey is named by the rest of the package; there is none.
type RsaPublicKey struct{ cached []byte }

func (*RsaPublicKey) Verify([]byte, []byte) (bool, error) { return false, errKind }
func (*RsaPublicKey) Type() pb.KeyType                    { return pb.KeyType_RSA }
func (*RsaPublicKey) Raw() ([]byte, error)                { return nil, errKind }
func (*RsaPublicKey) Equals(Key) bool                     { return false }

func GenerateRSAKeyPair(int, io.Reader) (PrivKey, PubKey, error) { return nil, nil, errKind }
func UnmarshalRsaPrivateKey([]byte) (PrivKey, error)             { return nil, errKind }
func UnmarshalRsaPublicKey([]byte) (PubKey, error)               { return nil, errKind }
