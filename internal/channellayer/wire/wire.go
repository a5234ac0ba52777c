// Package wire reads what the channel layers of Django Channels (channels_redis) put into Redis:
// names, payloads in MessagePack or JSON, and Fernet tokens. Its functions are pure.
//
// Any program that can write to that Redis chooses these bytes. So each length is checked against the bytes
// that are there before memory is reserved, and depth and size are bounded.
package wire

import (
	"bytes"
	"errors"
	"time"
)

// Reasons why a payload is not a message. [Reason] names them.
var (
	// ErrToken says that the payload is not a token of any key, or too old for the core layer.
	ErrToken = errors.New("channel layer: not a token of the keys")
	// ErrMalformed says that the payload is not one map in the format, or names its receivers in
	// another form than channels_redis does.
	ErrMalformed = errors.New("channel layer: not a message in the format")
	// ErrNotJSON says that the message has a value that JSON cannot hold, such as bytes or NaN.
	ErrNotJSON = errors.New("channel layer: a value is not possible in JSON")
	// ErrTooLarge says that the message as JSON is larger than the limit.
	ErrTooLarge = errors.New("channel layer: message is larger than the limit")
)

// Reason returns the short, stable name of one of the package's errors, and "" for any other error.
func Reason(err error) string {
	switch {
	case errors.Is(err, ErrToken):
		return "invalid_token"
	case errors.Is(err, ErrMalformed):
		return "malformed"
	case errors.Is(err, ErrNotJSON):
		return "not_json"
	case errors.Is(err, ErrTooLarge):
		return "too_large"
	}
	return ""
}

// Format is the serializer of a layer.
type Format string

// The formats of channels_redis.
const (
	MessagePack Format = "msgpack"
	JSON        Format = "json"
)

// Message is an event of Channels.
type Message struct {
	// Object is the event as a JSON object, without the names of its receivers. It has the form in
	// which Python's json.dumps writes it.
	Object []byte
	// Receivers are the channels that the core layer has addressed.
	Receivers []string
	// Type and Organization are the event's type and organization_id, the latter as text or as the
	// digits of an integer. They are empty if missing or of another kind.
	Type, Organization string
}

// receiversField is the field in which the core layer names the receivers.
const receiversField = "__asgi_channel__"

// MaxReceivers bounds the receivers of one message. A gateway is one receiver for each group.
const MaxReceivers = 1024

// Decoder reads payloads of one layer. It is safe for concurrent use.
type Decoder struct {
	Format Format
	// Keys are the layer's symmetric_encryption_keys. With keys, payloads that are not encrypted
	// are refused; without, those that are.
	Keys Keys
	// RandomPrefix is how many random bytes the core layer puts before a payload.
	RandomPrefix int
}

// PubSub reads a payload of the pub/sub layer whose JSON has at most limit bytes. Tokens may have
// any age there.
func (d *Decoder) PubSub(payload []byte, limit int) (Message, error) {
	if len(payload) > d.largest(limit) {
		return Message{}, ErrTooLarge
	}
	if len(d.Keys) > 0 {
		var err error
		if payload, _, err = d.Keys.open(payload); err != nil {
			return Message{}, err
		}
	}
	m, err := d.read(payload, limit)
	m.Receivers = nil // the field means nothing there
	return m, err
}

// The core layer refuses tokens that are older or newer than this, in whole seconds: its messages
// expire after a minute.
const (
	maxTokenAge    = 70
	maxTokenFuture = 60
)

// Core reads a member of a queue of the core layer whose JSON has at most limit bytes.
func (d *Decoder) Core(member []byte, limit int, now time.Time) (Message, error) {
	if len(member) > d.RandomPrefix+d.largest(limit) {
		return Message{}, ErrTooLarge
	}
	if len(member) < d.RandomPrefix {
		return Message{}, ErrMalformed
	}
	payload := member[d.RandomPrefix:]
	if len(d.Keys) > 0 {
		var made int64
		var err error
		if payload, made, err = d.Keys.open(payload); err != nil {
			return Message{}, err
		}
		if age := now.Unix() - made; age > maxTokenAge || age < -maxTokenFuture {
			return Message{}, ErrToken
		}
	}
	m, err := d.read(payload, limit)
	if err == nil && len(m.Receivers) == 0 {
		return Message{}, ErrMalformed
	}
	return m, err
}

// largest bounds a payload before anything is read of it. A number takes at most twice the bytes
// in MessagePack that it takes in JSON, and everything else takes fewer, except for the receivers.
// A token is a third longer than what it encrypts.
func (d *Decoder) largest(limit int) int {
	most := 2*limit + MaxReceivers*MaxName
	if len(d.Keys) > 0 {
		most = most/3*4 + tokenOverhead
	}
	return most
}

// Advice says what to change so that a payload of this kind can be read, "" if that is not known.
func (d *Decoder) Advice(payload []byte, core bool) string {
	if core {
		payload = payload[min(len(payload), d.RandomPrefix):]
	}
	switch {
	case len(payload) == 0:
		return ""
	case bytes.HasPrefix(payload, []byte("gAAAA")) && len(d.Keys) == 0: // how tokens of this century begin
		return "the payload is encrypted: set --channel-layer-keys-file to the symmetric_encryption_keys of the site"
	case bytes.HasPrefix(payload, []byte("gAAAA")):
		return "none of --channel-layer-keys fits, or the message is older than 70 s"
	case len(d.Keys) > 0:
		return "the payload is not encrypted: remove --channel-layer-keys if the site sets no symmetric_encryption_keys, or has the pub/sub layer of channels_redis before 4.2.1, which ignores them"
	case payload[0] == '{' && d.Format != JSON:
		return "the payload looks like JSON: set --channel-layer-format json"
	case payload[0]&0xf0 == 0x80 && d.Format == JSON: // a small map
		return "the payload looks like MessagePack: set --channel-layer-format msgpack"
	case core:
		return "is --channel-layer-random-prefix the random_prefix_length of the site?"
	}
	return ""
}

func (d *Decoder) read(payload []byte, limit int) (Message, error) {
	if d.Format == JSON {
		return readJSON(payload, limit)
	}
	return readMessagePack(payload, limit)
}
