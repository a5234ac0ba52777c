package orgcast

import (
	"context"
	"errors"

	"orgcast/internal/directory"
)

type (
	// Objects are the things of organizations in as far as the gateway knows of them, such as conversations and
	// reports: JSON objects in Redis that your application may write. The key of one is
	// orgcast:{ORGANIZATION}:object:KIND:ID, and its text {"owner":USER,"value":…}.
	Objects = directory.Objects
	// Object is one of them: its owner, which is empty if it is the whole organization's, and its value.
	Object[T any] = directory.Object[T]
)

// Get returns an object of the organization of ctx. The error is [ErrNotFound] if this organization has none of that
// kind and id, even if others have, and [ErrNoOrganization] if ctx has no organization. It wraps [ErrUnavailable] if
// Redis does not answer. Connect of a consumer can return it as it is.
func Get[T any](ctx context.Context, o *Objects, kind, id string) (Object[T], error) {
	object, err := directory.Get[T](ctx, o, kind, id)
	switch {
	case errors.Is(err, directory.ErrNoObject):
		return object, ErrNotFound
	case errors.Is(err, directory.ErrUnavailable):
		return object, errors.Join(ErrUnavailable, err)
	}
	return object, err
}
