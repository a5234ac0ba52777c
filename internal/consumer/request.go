package consumer

import (
	"context"
	"crypto/rand"
	"encoding/json"

	"orgcast/internal/orgctx"
)

// requestID is the id that a browser gave to what it asks for. It satisfies [orgctx.ValidID], or is
// empty for none. Sent again under the same one, it is the same request. Two users may use the same
// one.
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

// once has do hand over the work that the context's user asks for under the id, whose content is
// given. A request that was done before is not done again: its answer is made of what it returns,
// which is the same. Without an id each request is new. do gets the request, and may be called
// again with the same one if it failed.
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
	// If this cannot be noted, one that comes again is done again, to no effect.
	_ = requests.Finish(ctx, r)
	return r, nil
}
