package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/inventory"
	"orgcast/internal/orgctx"
	"orgcast/internal/tail"
)

// parameterPayloads asks for payloads too.
const parameterPayloads = "payloads"

// tailWriteTimeout is how long a reader may take for what was written. It is longer than a reader who
// scrolls in a terminal stops it, as a rule; meanwhile events are skipped.
const tailWriteTimeout = time.Minute

var (
	errPayloads    = errors.New("api: payloads must be true or false")
	errPayloadsKey = errors.New("api: payloads without an admin key")
)

// tailing returns GET /v1/tail, whose answer has a line of JSON for each event as it passes.
func tailing(tails *tail.Tails) view {
	return view{
		path: "/v1/tail", parameters: []string{parameterOrganization, parameterGroup, parameterPayloads},
		refusals: []problem{
			{errPayloads, http.StatusBadRequest, "invalid_payloads", "Send payloads as true or false."},
			{errPayloadsKey, http.StatusForbidden, "payloads_need_key", "Set --admin-key on the gateway and send it as a bearer token: payloads are never shown without it."},
			{tail.ErrBusy, http.StatusServiceUnavailable, "too_many_tails", "Stop another tail of this node, or ask another node: each serves four at a time."},
		},
		stream: func(h *viewer, w http.ResponseWriter, r *http.Request, parameters map[string]string) error {
			q, err := tailQuery(parameters)
			if err != nil {
				return err
			}
			if q.Payloads && !h.gate.admin.isSet() {
				return errPayloadsKey
			}
			return h.follow(w, r, tails, q)
		},
	}
}

// tailQuery returns the query that parameters ask for.
func tailQuery(parameters map[string]string) (q tail.Query, err error) {
	if q.Organization, err = orgctx.ParseID(parameters[parameterOrganization]); err != nil {
		return q, inventory.ErrOrganization
	}
	q.Group = parameters[parameterGroup]
	if q.Group != "" && !event.ValidGroupName(q.Group) {
		return q, inventory.ErrGroup
	}
	switch parameters[parameterPayloads] {
	case "", "false":
	case "true":
		q.Payloads = true
	default:
		return q, errPayloads
	}
	return q, nil
}

// follow answers with lines until the reader leaves, the node stops or the key no longer opens the
// path. Errors are from before the first line.
func (h *viewer) follow(w http.ResponseWriter, r *http.Request, tails *tail.Tails, q tail.Query) error {
	answer := http.NewResponseController(w)
	if err := answer.SetReadDeadline(time.Time{}); err != nil { // of the request, which has been read
		return err
	}
	shown, began := 0, false
	started := time.Now()
	begin := func() {
		began = true
		if q.Payloads {
			h.log.Warn("tail with payloads began", tailFields(r, q)...)
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
	}
	err := tails.Follow(r.Context(), q, func(lines []tail.Line) error {
		if !began {
			begin()
		}
		if err := h.gate.check(r, byAdmin); err != nil { // a reload has changed the key
			return err
		}
		if err := answer.SetWriteDeadline(time.Now().Add(tailWriteTimeout)); err != nil {
			return err
		}
		for _, line := range lines {
			text, err := json.Marshal(line)
			if err != nil {
				return err
			}
			if _, err := w.Write(append(text, '\n')); err != nil {
				return err
			}
			if line.Kind == tail.KindEvent {
				shown++
			}
		}
		if len(lines) == 0 {
			if _, err := w.Write([]byte("\n")); err != nil {
				return err
			}
		}
		return answer.Flush()
	})
	if !began {
		return err
	}
	if q.Payloads {
		h.log.Warn("tail with payloads ended", append(tailFields(r, q), zap.Int("events", shown), zap.Duration("lasted_seconds", time.Since(started)), zap.NamedError("cause", err))...)
	}
	return nil
}

// tailFields are the fields of log lines about a tail.
func tailFields(r *http.Request, q tail.Query) []zap.Field {
	return []zap.Field{zap.Stringer("organization_id", q.Organization), zap.String("group", q.Group), zap.String("remote", r.RemoteAddr)}
}
