package session

import (
	"context"
	"net/http"
	"strings"
)

// Bearer tells whether a request has a cookie of a store.
type Bearer interface {
	Bears(r *http.Request) bool
}

// Part is one of several stores.
type Part interface {
	Store
	Bearer
}

// Several asks the first of some stores whose cookie a request bears. That store decides alone: what it refuses,
// or cannot say, no other store is asked about. A site can so move from one kind of session to another page by page.
type Several []Part

var (
	_ Store   = Several(nil)
	_ Native  = Several(nil)
	_ Renewer = Several(nil)
)

// places are the first bytes of tickets: which store it is that has the rest.
const places = "01234567"

// of returns the place of the store for a request. One store alone decides anyway: looking for the
// cookie first would only parse it once more.
func (s Several) of(r *http.Request) (place int, ok bool) {
	if len(s) == 1 {
		return 0, true
	}
	for i, part := range s {
		if part.Bears(r) {
			return i, true
		}
	}
	return 0, false
}

// Resolve implements [Resolver].
func (s Several) Resolve(ctx context.Context, r *http.Request) (Identity, error) {
	place, ok := s.of(r)
	if !ok {
		return Identity{}, missing(r)
	}
	identity, err := s[place].Resolve(ctx, r)
	if err != nil && !s[place].Bears(r) {
		return Identity{}, missing(r)
	}
	return identity, err
}

// Ticket implements [Store]: the place of the store, and its ticket.
func (s Several) Ticket(r *http.Request) string {
	place, ok := s.of(r)
	if !ok {
		return ""
	}
	return places[place:place+1] + s[place].Ticket(r)
}

// Recheck implements [Store].
func (s Several) Recheck(ctx context.Context, held []Held) []Standing {
	out := make([]Standing, len(held))
	own := make([][]Held, len(s))
	indexes := make([][]int, len(s)) // in held
	for i, h := range held {
		out[i] = Standing{Err: ErrNone}
		if h.Ticket == "" {
			continue
		}
		place := strings.IndexByte(places, h.Ticket[0])
		if place < 0 || place >= len(s) {
			continue
		}
		h.Ticket = h.Ticket[1:]
		if own[place] == nil { // most sites have sessions of one kind
			own[place], indexes[place] = make([]Held, 0, len(held)-i), make([]int, 0, len(held)-i)
		}
		own[place], indexes[place] = append(own[place], h), append(indexes[place], i)
	}
	for place, list := range own {
		if len(list) == 0 {
			continue
		}
		for j, standing := range s[place].Recheck(ctx, list) {
			out[indexes[place][j]] = standing
		}
	}
	return out
}

// Renew implements [Renewer].
func (s Several) Renew(ctx context.Context, h Held, token string) (ticket string, standing Standing, err error) {
	if h.Ticket == "" {
		return "", Standing{}, ErrNotRenewable
	}
	place := strings.IndexByte(places, h.Ticket[0])
	if place < 0 || place >= len(s) {
		return "", Standing{}, ErrNotRenewable
	}
	part, ok := s[place].(Renewer)
	if !ok {
		return "", Standing{}, ErrNotRenewable
	}
	first := h.Ticket[:1]
	h.Ticket = h.Ticket[1:]
	ticket, standing, err = part.Renew(ctx, h, token)
	return first + ticket, standing, err
}

// Native implements [Native]: the store that decides says so.
func (s Several) Native(r *http.Request) bool {
	place, ok := s.of(r)
	if !ok {
		return false
	}
	part, ok := s[place].(Native)
	return ok && part.Native(r)
}
