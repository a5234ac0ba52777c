package api

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"orgcast/internal/inventory"
	"orgcast/internal/nodes"
	"orgcast/internal/usage"
)

// The topics of the views. Package app answers them for its node.

// Organizations is the topic of GET /v1/organizations.
func Organizations() nodes.Topic[inventory.Query, inventory.Page[inventory.Organization]] {
	return nodes.Topic[inventory.Query, inventory.Page[inventory.Organization]]{Name: "organizations"}
}

// Connections is the topic of GET /v1/connections.
func Connections() nodes.Topic[inventory.Query, inventory.Page[inventory.Connection]] {
	return nodes.Topic[inventory.Query, inventory.Page[inventory.Connection]]{Name: "connections"}
}

// Groups is the topic of GET /v1/groups.
func Groups() nodes.Topic[inventory.Query, inventory.Page[inventory.Group]] {
	return nodes.Topic[inventory.Query, inventory.Page[inventory.Group]]{Name: "groups"}
}

// Load is the topic of GET /v1/nodes.
func Load() nodes.Topic[inventory.LoadQuery, inventory.Load] {
	return nodes.Topic[inventory.LoadQuery, inventory.Load]{Name: "load"}
}

// view is one path that shows something and changes nothing. It needs the admin key.
type view struct {
	path string
	// forPublishers says that the publish key opens it, too.
	forPublishers bool
	// parameters are those that the URL may have, each at most once.
	parameters []string
	// refusals list further reasons why the view can come to nothing.
	refusals []problem
	// do returns the body of the answer.
	do func(ctx context.Context, parameters map[string]string) (body any, err error)
	// stream, unless nil, answers instead of do. Errors are from before the answer began.
	stream func(h *viewer, w http.ResponseWriter, r *http.Request, parameters map[string]string) error
}

// The parameters of views.
const (
	parameterOrganization = "organization_id"
	parameterUser         = "user_id"
	parameterGroup        = "group"
	parameterSort         = "sort"
	parameterLimit        = "limit"
	parameterCursor       = "cursor"
)

var errParameters = errors.New("api: unknown or repeated parameter")

// access says which key opens the view.
func (v view) access() access {
	if v.forPublishers {
		return byEither
	}
	return byAdmin
}

// problems returns why a view can come to nothing. Any other error is [unavailable].
func (v view) problems() []problem {
	return append(slices.Clone(v.refusals), []problem{
		{errParameters, http.StatusBadRequest, "unknown_parameter", "Use only the parameters that docs/observe.md lists for this path, each at most once."},
		{inventory.ErrLimit, http.StatusBadRequest, "invalid_limit", "Send limit as an integer from 1 to 1000."},
		{inventory.ErrCursor, http.StatusBadRequest, "invalid_cursor", "Send the cursor that the page before returned in next, and no sort with it."},
		{inventory.ErrSort, http.StatusBadRequest, "invalid_sort", "Send sort as connections, deliveries_per_second, queued_bytes or lag_seconds."},
		{inventory.ErrOrganization, http.StatusBadRequest, "invalid_organization", "Send organization_id as 1 to 64 characters of A-Z a-z 0-9 _ -."},
		{inventory.ErrUser, http.StatusBadRequest, "invalid_user", "Send user_id as 1 to 128 bytes of printable text without spaces."},
		{inventory.ErrGroup, http.StatusBadRequest, "invalid_group", "Send group as 1 to 100 characters of A-Z a-z 0-9 _ . -."},
		{usage.ErrPeriod, http.StatusBadRequest, "invalid_period", "Send from and to as times such as 2026-11-29T04:00:00Z, at most 31 days apart."},
		{errNothingKept, http.StatusNotFound, "not_kept", "Set --usage-retention on the gateways above 0 to keep usage."},
		{nodes.ErrBusy, http.StatusServiceUnavailable, "busy", "Try again in a second: too many questions are under way."},
		unavailable,
	}...)
}

// views returns all views.
func views(o Options) []view {
	n := o.Nodes
	list := []view{
		{path: "/v1/nodes", do: func(ctx context.Context, _ map[string]string) (any, error) { return showNodes(ctx, n) }},
		pages(n, "/v1/organizations", Organizations(), parameterOrganization),
		pages(n, "/v1/connections", Connections(), parameterOrganization, parameterUser, parameterGroup),
		pages(n, "/v1/groups", Groups(), parameterOrganization, parameterUser, parameterGroup),
		explaining(n, o.Histories),
		usageView(o.Usage),
		tailing(o.Tails),
		{path: "/v1/revocations", do: func(ctx context.Context, _ map[string]string) (any, error) { return showRevocations(ctx, n) }},
	}
	if o.OrganizationMetrics > 0 {
		list = append(list, organizationMetrics(o.Census, o.OrganizationMetrics))
	}
	return list
}

// nodeState is a node in an answer.
type nodeState struct {
	nodes.Node

	State nodes.State `json:"state"`
}

// pages returns the view of a topic whose answers are pages. The body has the rows under the name of
// the topic.
func pages[R inventory.Row[R]](n *nodes.Nodes, path string, topic nodes.Topic[inventory.Query, inventory.Page[R]], filters ...string) view {
	return view{
		path: path, parameters: append(filters, parameterSort, parameterLimit, parameterCursor),
		do: func(ctx context.Context, parameters map[string]string) (any, error) {
			q, err := queryOf(parameters)
			if err != nil {
				return nil, err
			}
			replies, err := nodes.Ask(ctx, n, topic, q)
			if err != nil {
				return nil, err
			}
			var answered []inventory.Page[R]
			states := make([]nodeState, 0, len(replies.Each))
			for _, reply := range replies.Each {
				states = append(states, nodeState{reply.Node, reply.State})
				answered = append(answered, reply.Answer)
			}
			merged := inventory.Merge(q, answered)
			body := map[string]any{topic.Name: notNull(merged.Rows), "complete": replies.Complete, "nodes": states}
			if last := len(merged.Rows) - 1; merged.More && q.Sort == "" && last >= 0 {
				body["next"] = base64.RawURLEncoding.EncodeToString([]byte(merged.Rows[last].Key()))
			}
			return body, nil
		},
	}
}

// notNull makes an empty list of none.
func notNull[R any](rows []R) []R {
	if rows == nil {
		return []R{}
	}
	return rows
}

// showNodes returns the body of GET /v1/nodes.
func showNodes(ctx context.Context, n *nodes.Nodes) (any, error) {
	replies, err := nodes.Ask(ctx, n, Load(), inventory.LoadQuery{})
	if err != nil {
		return nil, err
	}
	type row struct {
		nodeState
		inventory.Load
	}
	rows := make([]row, 0, len(replies.Each))
	for _, reply := range replies.Each {
		rows = append(rows, row{nodeState{reply.Node, reply.State}, reply.Answer})
	}
	return map[string]any{"nodes": rows, "complete": replies.Complete}, nil
}

// queryOf returns the query that parameters ask for.
func queryOf(parameters map[string]string) (q inventory.Query, err error) {
	q = inventory.Query{
		Limit: inventory.DefaultLimit, Sort: parameters[parameterSort], Organization: parameters[parameterOrganization],
		User: parameters[parameterUser], Group: parameters[parameterGroup],
	}
	if err := readPage(parameters, &q.Limit, &q.After); err != nil {
		return q, err
	}
	return q, q.Check()
}

// readParameters returns the parameters of a URL, without empty ones.
func readParameters(query string, known []string) (map[string]string, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errParameters
	}
	parameters := make(map[string]string)
	for name, list := range values {
		if len(list) != 1 || !slices.Contains(known, name) {
			return nil, errParameters
		}
		if list[0] != "" {
			parameters[name] = list[0]
		}
	}
	return parameters, nil
}

// ServeHTTP serves a view.
func (h *viewer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := h.show(w, r)
	if err == nil {
		h.count(result{})
		return
	}
	p := problemOf(err, append(doors(h.view.access()), h.view.problems()...))
	if p.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	h.count(p.result())
	h.answer(w, r, p, err, p.result())
}

// show answers a request, unless it returns an error.
func (h *viewer) show(w http.ResponseWriter, r *http.Request) error {
	if err := h.gate.check(r, h.view.access()); err != nil {
		return err
	}
	parameters, err := readParameters(r.URL.RawQuery, h.view.parameters)
	if err != nil {
		return err
	}
	if h.view.stream != nil {
		return h.view.stream(h, w, r, parameters)
	}
	body, err := h.view.do(r.Context(), parameters)
	if err == nil {
		send(w, http.StatusOK, body)
	}
	return err
}

// viewer serves one view.
type viewer struct {
	door

	view view
}

// readPage reads which page of an answer parameters ask for. What they do not say stays as it is.
func readPage(parameters map[string]string, limit *int, after *string) error {
	if text, given := parameters[parameterLimit]; given {
		n, err := strconv.Atoi(text)
		if err != nil {
			return inventory.ErrLimit
		}
		*limit = n
	}
	if text, given := parameters[parameterCursor]; given {
		place, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(place) == 0 {
			return inventory.ErrCursor
		}
		*after = string(place)
	}
	return nil
}
