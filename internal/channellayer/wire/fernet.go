package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// Keys are the keys of a layer. All of them are tried.
type Keys []key

// key is a Fernet key (https://github.com/fernet/spec/blob/master/Spec.md).
type key struct {
	signing    []byte
	encryption cipher.Block
}

// NewKeys derives keys from the layer's symmetric_encryption_keys, as channels_redis does. Text
// counts in UTF-8.
func NewKeys(secrets ...[]byte) (Keys, error) {
	keys := make(Keys, 0, len(secrets))
	for _, secret := range secrets {
		sum := sha256.Sum256(secret)
		block, err := aes.NewCipher(sum[16:])
		if err != nil {
			return nil, err
		}
		keys = append(keys, key{signing: sum[:16], encryption: block})
	}
	return keys, nil
}

// The parts of a token: version, time, initialization vector, text in blocks, signature.
const (
	tokenVersion  = 0x80
	tokenHead     = 1 + 8 + aes.BlockSize
	tokenOverhead = 2 * (tokenHead + aes.BlockSize + sha256.Size)
)

// open returns what a token contains, and when it was made, in Unix seconds.
func (k Keys) open(token []byte) (text []byte, made int64, err error) {
	b, err := base64.URLEncoding.Strict().AppendDecode(nil, token)
	if err != nil || len(b) < tokenHead+aes.BlockSize+sha256.Size || b[0] != tokenVersion {
		return nil, 0, ErrToken
	}
	signed, signature := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	text = signed[tokenHead:]
	if len(text)%aes.BlockSize != 0 {
		return nil, 0, ErrToken
	}
	for _, candidate := range k {
		mac := hmac.New(sha256.New, candidate.signing)
		_, _ = mac.Write(signed) // a hash takes everything
		if !hmac.Equal(mac.Sum(nil), signature) {
			continue
		}
		cipher.NewCBCDecrypter(candidate.encryption, signed[1+8:tokenHead]).CryptBlocks(text, text)
		if text, err = unpad(text); err != nil {
			return nil, 0, err
		}
		return text, int64(binary.BigEndian.Uint64(signed[1:])), nil //nolint:gosec // a wrong time is out of range either way
	}
	return nil, 0, ErrToken
}

// unpad removes the padding of PKCS #7. The text is authenticated, so how long this takes tells
// nobody anything.
func unpad(text []byte) ([]byte, error) {
	n := int(text[len(text)-1])
	if n == 0 || n > aes.BlockSize {
		return nil, ErrToken
	}
	for _, b := range text[len(text)-n:] {
		if int(b) != n {
			return nil, ErrToken
		}
	}
	return text[:len(text)-n], nil
}
