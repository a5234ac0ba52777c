package consumer

import (
	"context"
	"crypto/rand"
	"encoding/json"

	"orgcast/internal/orgctx"
)

// requestID is the id that a browser gave to a request. It satisfies [orgctx.ValidID], or is empty
// if there is none. A request with the same id is the same request. Two users may use the same id.
type requestID string

// UnmarshalJSON implements json.Unmarshaler.
func (id *requestID) UnmarshalJSON(b []byte) error {
	var text *string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	if text == nil {
		return nil
	}
	if !orgctx.ValidID(*text) {
		return errBadIdent
	}
	*id = requestID(*text)
	return nil
}

// once calls do to dispatch the work that the context's user requests under the id, with the given
// content. A finished request is not repeated. Its answer is made from the returned Request, which
// is the same. Without an id, each request is new. do gets the request, and may be called again
// with the same one after a failure.
func once(ctx context.Context, requests Requests, id requestID, content any, do func(q Request) error) (Request, error) {
	if id == "" {
		r := Request{Work: rand.Text(), New: true}
		return r, do(r)
	}
	r, err := requests.Begin(ctx, string(id), content)
	if err != nil || r.Done {
		return r, err
	}
	if err := do(r); err != nil {
		return r, err
	}
	// If this fails, a repeated request runs again, without further effect.
	_ = requests.Finish(ctx, r)
	return r, nil
}
