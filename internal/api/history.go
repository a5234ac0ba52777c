package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"

	"orgcast/internal/event"
	"orgcast/internal/inventory"
	"orgcast/internal/orgctx"
)

const (
	parameterBefore = "before"
	// usualHistory is how many events GET /v1/history returns without limit, and historyLimit the
	// most that one may ask for.
	usualHistory = 50
	historyLimit = 1000
	// historyBytes is the most that an answer has, in bytes of events, unless it is a single event.
	historyBytes = 1 << 20
)

var errBefore = errors.New("api: not a position")

// Histories reads what is recorded for groups. [pubsub.Histories] does.
type Histories interface {
	// Has reports whether the history of the group has an event at the position.
	Has(ctx context.Context, g event.Group, p event.Position) (bool, error)
	// Before returns the events that were recorded before the position, oldest first: the newest
	// limit of them, or fewer if they exceed a number of bytes, but at least one. The zero Position
	// stands for the end of the history. more says that the history goes back further.
	Before(ctx context.Context, g event.Group, before event.Position, limit, bytes int) (events []*event.Event, more bool, err error)
}

// readingHistory returns GET /v1/history, which back ends use with the key with which they publish.
func readingHistory(h Histories) view {
	turns := newHistoryTurns()
	return view{
		path: "/v1/history", forPublishers: true,
		parameters: []string{parameterOrganization, parameterGroup, parameterUser, parameterBefore, parameterLimit},
		refusals: []problem{
			{errBefore, http.StatusBadRequest, "invalid_before", "Send before as the id of an event of this group."},
			{event.ErrInvalidGroup, http.StatusBadRequest, "invalid_group", "Send either group, with 1 to 100 characters of A-Z a-z 0-9 _ . -, or user_id, and not both."},
		},
		stream: func(_ *viewer, w http.ResponseWriter, r *http.Request, parameters map[string]string) error {
			g, before, limit, err := historyQuestion(parameters)
			if err != nil {
				return err
			}
			events, more, err := turns.read(r.Context(), func(ctx context.Context) ([]*event.Event, bool, error) {
				return h.Before(ctx, g, before, limit, historyBytes)
			})
			if err != nil {
				return err
			}
			writeHistory(w, events, more)
			return nil
		},
	}
}

// writeHistory answers with a page. Events are known to be JSON, and are not looked at again: encoding
// 1 MiB at once would keep a processor from the events of all organizations for milliseconds. A client
// that has gone gets nothing.
func writeHistory(w http.ResponseWriter, events []*event.Event, more bool) {
	w.Header().Set("Content-Type", "application/json")
	_, err := io.WriteString(w, `{"events":[`)
	for i, e := range events {
		begin := `,{"event":`
		if i == 0 {
			begin = begin[1:]
		}
		for _, text := range [][]byte{[]byte(begin), e.Payload(), []byte(`,"id":"` + e.Position().String() + `"}`)} {
			if err == nil {
				_, err = w.Write(text)
			}
		}
		runtime.Gosched()
	}
	if err == nil {
		_, _ = fmt.Fprintf(w, "],\"more\":%t}\n", more) // likewise
	}
}

// groupOf returns the group that parameters name, by its name or by the user whose own it is.
func groupOf(parameters map[string]string) (event.Group, error) {
	org, err := orgctx.ParseID(parameters[parameterOrganization])
	if err != nil {
		return event.Group{}, inventory.ErrOrganization
	}
	name := parameters[parameterGroup]
	if user := parameters[parameterUser]; user != "" {
		if name != "" {
			return event.Group{}, event.ErrInvalidGroup
		}
		if !orgctx.ValidUserID(user) {
			return event.Group{}, inventory.ErrUser
		}
		name = event.UserGroupName(user)
	}
	return event.NewGroup(org, name)
}

// historyQuestion returns the part of a history that parameters ask for.
func historyQuestion(parameters map[string]string) (g event.Group, before event.Position, limit int, err error) {
	if g, err = groupOf(parameters); err != nil {
		return g, before, 0, err
	}
	if text := parameters[parameterBefore]; text != "" {
		if before, err = event.ParsePosition(text); err != nil || before.IsZero() {
			return g, before, 0, errBefore
		}
	}
	limit = usualHistory
	if text := parameters[parameterLimit]; text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > historyLimit {
			return g, before, 0, inventory.ErrLimit
		}
	}
	return g, before, limit, nil
}
