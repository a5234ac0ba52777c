package outgoing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Headers of a signed call, as Standard Webhooks has them.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

const (
	// keyPrefix begins a key in its text form; base64 follows.
	keyPrefix = "whsec_"
	// A key has minKey to maxKey bytes.
	minKey, maxKey = 24, 64
	// signatureVersion begins a signature made with a shared key.
	signatureVersion = "v1,"
	// Tolerance is how far the time of a call may be from that of its receiver.
	Tolerance = 5 * time.Minute
)

var (
	errBadKeys = errors.New("must be one or more keys of the form whsec_BASE64, of 24 to 64 bytes each")
	// ErrBadSignature is returned for a call that was not signed with any of the keys, or too long
	// ago.
	ErrBadSignature = errors.New("outgoing: signature is not valid")
)

// Keys sign calls. With several, each call has a signature of each, so that a receiver may know
// either while keys are exchanged. The zero Keys sign nothing.
type Keys struct{ keys [][]byte }

// ParseKeys reads keys that are separated by white space. Its error does not show them.
func ParseKeys(text string) (Keys, error) {
	var k Keys
	for part := range strings.FieldsSeq(text) {
		encoded, ok := strings.CutPrefix(part, keyPrefix)
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(key) < minKey || len(key) > maxKey {
			return Keys{}, errBadKeys
		}
		k.keys = append(k.keys, key)
	}
	if len(k.keys) == 0 {
		return Keys{}, errBadKeys
	}
	return k, nil
}

// sign sets the headers of a call.
func (k Keys) sign(h http.Header, id string, at time.Time, body []byte) {
	if len(k.keys) == 0 {
		return
	}
	timestamp := strconv.FormatInt(at.Unix(), 10)
	signatures := make([]string, len(k.keys))
	for i, key := range k.keys {
		signatures[i] = signatureVersion + base64.StdEncoding.EncodeToString(mac(key, id, timestamp, body))
	}
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, timestamp)
	h.Set(HeaderSignature, strings.Join(signatures, " "))
}

// Verify checks the signature of a call. It returns [ErrBadSignature], wrapped or not. It does not
// know which calls came before: a receiver that must not act twice remembers their ids for twice
// the [Tolerance].
func (k Keys) Verify(h http.Header, body []byte, now time.Time) error {
	id, timestamp := h.Get(HeaderID), h.Get(HeaderTimestamp)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || id == "" || now.Sub(time.Unix(seconds, 0)).Abs() > Tolerance {
		return ErrBadSignature
	}
	for part := range strings.FieldsSeq(h.Get(HeaderSignature)) {
		encoded, ok := strings.CutPrefix(part, signatureVersion)
		got, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil {
			continue
		}
		for _, key := range k.keys {
			if hmac.Equal(got, mac(key, id, timestamp, body)) {
				return nil
			}
		}
	}
	return ErrBadSignature
}

func mac(key []byte, id, timestamp string, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(id + "." + timestamp + "."))
	h.Write(body)
	return h.Sum(nil)
}
