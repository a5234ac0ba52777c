package directory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisclient"
	"orgcast/internal/redisreply"
)

const (
	// MaxObject is the largest object that can be written or read, in bytes.
	MaxObject = 64 << 10
	// ClaimLife is how long a claim lasts after its owner last made it. It must exceed the maximum
	// age of histories, or someone else could claim an object that still has one.
	ClaimLife = 30 * 24 * time.Hour
)

var (
	// ErrNoObject is returned for an object that does not exist, or belongs to another
	// organization. Both look alike.
	ErrNoObject = errors.New("directory: no such object")
	// ErrObjectMalformed is returned for a record that is not a valid object. It wraps
	// [ErrNoObject].
	ErrObjectMalformed = fmt.Errorf("%w: its record is malformed", ErrNoObject)
	// ErrObjectTooLarge is returned for an object larger than [MaxObject].
	ErrObjectTooLarge = errors.New("directory: object is too large")
)

// Object is the gateway's record of something that belongs to an organization, such as a
// conversation or an audit.
type Object[T any] struct {
	// Owner is the user to whom it belongs, or empty if it belongs to the whole organization.
	Owner string
	// Value is the rest of the record.
	Value T
}

// Objects stores the objects of organizations in Redis, one JSON object each,
// {"owner":USER,"value":…}. Back ends may write them too. The context names the organization.
// Objects is safe for concurrent use.
type Objects struct {
	client redis.Cmdable
	keys   keyspace.Keyspace
	log    *zap.Logger
}

// NewObjects returns the objects. It refuses a client that ignores deadlines. The caller closes the
// client. log may be nil.
func NewObjects(client redis.Cmdable, keys keyspace.Keyspace, log *zap.Logger) (*Objects, error) {
	if err := redisclient.CheckDeadlines(client); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	if log == nil {
		log = zap.NewNop()
	}
	return &Objects{client: client, keys: keys, log: log.Named("directory")}, nil
}

// Claim makes the user the owner of an object that no one in the context's organization has used
// yet, and reports whether the user owns the object. If several users claim it at once, one becomes
// the owner. A name that is not valid, or a malformed record, cannot be claimed. The error is
// [orgctx.ErrNoOrganization] or [ErrUnavailable].
func (o *Objects) Claim(ctx context.Context, kind, id, user string) (owner bool, err error) {
	org, ok := orgctx.From(ctx)
	switch {
	case !ok:
		return false, orgctx.ErrNoOrganization
	case !orgctx.ValidID(kind) || !orgctx.ValidID(id) || !orgctx.ValidUserID(user):
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	key := o.keys.Object(org, kind, id)
	claim, err := encodeObject(user, nil)
	if err != nil {
		return false, err
	}
	for { // repeats only if someone else claims it, or such a claim expires, in between
		// Read first: if the user has claimed it before, a full Redis does not matter.
		claimed, _, err := o.read(ctx, key)
		switch {
		case errors.Is(err, ErrObjectMalformed):
			o.log.Warn("invalid object record", zap.Stringer("organization_id", org), zap.String("key", key))
			return false, nil
		case errors.Is(err, ErrNoObject):
			first, err := o.client.SetNX(ctx, key, claim, ClaimLife).Result()
			if first || err != nil {
				return first, orUnavailable(err)
			}
			continue
		case err != nil || claimed != user:
			return false, err
		}
		// An object without expiry stays so.
		err = o.client.ExpireGT(ctx, key, ClaimLife).Err()
		if redisreply.WritesRefused(err) {
			return true, nil // the claim keeps its remaining life
		}
		return err == nil, orUnavailable(err)
	}
}

// Get returns an object of the context's organization. The error is [orgctx.ErrNoOrganization],
// [ErrNoObject] if this organization has no object of that name, even if others have one, or
// [ErrUnavailable].
func Get[T any](ctx context.Context, o *Objects, kind, id string) (Object[T], error) {
	org, ok := orgctx.From(ctx)
	if !ok {
		return Object[T]{}, orgctx.ErrNoOrganization
	}
	return get[T](ctx, o, org, kind, id)
}

// UnscopedGet returns an object of an organization other than the context's, for operators' tools.
// Code that serves browsers must not call it. Each call is logged with its source location.
func UnscopedGet[T any](ctx context.Context, o *Objects, org orgctx.ID, kind, id string) (Object[T], error) {
	caller := "unknown"
	if _, file, line, ok := runtime.Caller(1); ok {
		caller = fmt.Sprintf("%s:%d", file, line)
	}
	o.log.Warn("unscoped access to an object", zap.String("caller", caller), zap.Stringer("organization_id", org), zap.String("kind", kind))
	if org.IsZero() {
		return Object[T]{}, orgctx.ErrNoOrganization
	}
	return get[T](ctx, o, org, kind, id)
}

// get returns an object of an organization.
func get[T any](ctx context.Context, o *Objects, org orgctx.ID, kind, id string) (Object[T], error) {
	if !orgctx.ValidID(kind) || !orgctx.ValidID(id) {
		return Object[T]{}, ErrNoObject
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	owner, value, err := o.read(ctx, o.keys.Object(org, kind, id))
	if err != nil {
		return Object[T]{}, err
	}
	object := Object[T]{Owner: owner}
	if err := json.Unmarshal(value, &object.Value); err != nil {
		return Object[T]{}, ErrObjectMalformed // without the text, which would show the stored data
	}
	return object, nil
}

// Put writes an object of the context's organization, and replaces an existing one. The object
// expires after life; 0 means never. The error is [orgctx.ErrNoOrganization],
// [orgctx.ErrInvalidID], [orgctx.ErrInvalidUserID], [ErrObjectTooLarge], [ErrUnavailable], or the
// error of encoding the value.
func Put[T any](ctx context.Context, o *Objects, kind, id string, object Object[T], life time.Duration) error {
	org, ok := orgctx.From(ctx)
	switch {
	case !ok:
		return orgctx.ErrNoOrganization
	case !orgctx.ValidID(kind) || !orgctx.ValidID(id):
		return fmt.Errorf("put object: %w", orgctx.ErrInvalidID)
	case object.Owner != "" && !orgctx.ValidUserID(object.Owner):
		return fmt.Errorf("put object: owner: %w", orgctx.ErrInvalidUserID)
	}
	text, err := encodeObject(object.Owner, object.Value)
	if err != nil {
		return err
	}
	if len(text) > MaxObject {
		return ErrObjectTooLarge
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return orUnavailable(o.client.Set(ctx, o.keys.Object(org, kind, id), text, max(life, 0)).Err())
}

// read returns the owner and the value stored under a key.
func (o *Objects) read(ctx context.Context, key string) (owner string, value json.RawMessage, err error) {
	text, err := o.client.GetRange(ctx, key, 0, MaxObject).Result() // one byte more than allowed
	switch {
	case err != nil:
		return "", nil, unavailable(err)
	case text == "":
		return "", nil, ErrNoObject
	}
	return decodeObject([]byte(text))
}

// Names of an object's fields.
const (
	fieldOwner = "owner"
	fieldValue = "value"
)

// encodeObject returns the text of an object.
func encodeObject(owner string, value any) ([]byte, error) {
	text, err := json.Marshal(map[string]any{fieldOwner: owner, fieldValue: value})
	if err != nil {
		return nil, fmt.Errorf("encode object: %w", err)
	}
	return text, nil
}

// decodeObject parses the text of an object. It accepts exactly these names, each at most once,
// because programs differ in which of two equal or similar names they use. It ignores other names.
// A missing value is null, but the owner is required. Its error is [ErrObjectMalformed].
func decodeObject(text []byte) (owner string, value json.RawMessage, err error) {
	if len(text) > MaxObject || !json.Valid(text) || bytes.TrimLeft(text, " \t\r\n")[0] != '{' {
		return "", nil, ErrObjectMalformed
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	_, _ = dec.Token() // the brace
	value = json.RawMessage("null")
	var hasOwner, hasValue bool
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return "", nil, ErrObjectMalformed
		}
		var field json.RawMessage
		if err := dec.Decode(&field); err != nil {
			return "", nil, ErrObjectMalformed
		}
		switch name {
		case fieldOwner:
			var text any
			if err := json.Unmarshal(field, &text); err != nil || hasOwner {
				return "", nil, ErrObjectMalformed
			}
			owner, hasOwner = text.(string)
		case fieldValue:
			if hasValue {
				return "", nil, ErrObjectMalformed
			}
			value, hasValue = field, true
		}
	}
	if !hasOwner || owner != "" && !orgctx.ValidUserID(owner) {
		return "", nil, ErrObjectMalformed
	}
	return owner, value, nil
}

// orUnavailable wraps an error of Redis, if any.
func orUnavailable(err error) error {
	if err == nil {
		return nil
	}
	return unavailable(err)
}
