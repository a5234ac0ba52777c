// Package inventory is what operators see of a gateway's organizations, connections and groups: the
// questions, the rows of the answers, and how the answers of several nodes become one page. It does
// no I/O and knows no connections; package gateway makes the rows.
//
// Rows name organizations, users, sessions and groups as the log does. They hold no payloads, and
// nothing by which a session could be used.
package inventory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

const (
	// DefaultLimit is how many rows a page has, unless the request says otherwise.
	DefaultLimit = 100
	// MaxLimit is how many rows a page may have.
	MaxLimit = 1000
	// maxAfter is the longest key of a row, in bytes.
	maxAfter = 256
)

// The measures by which rows can be sorted, the largest first. Without one, they are sorted by name.
const (
	ByConnections = "connections"
	ByDeliveries  = "deliveries_per_second"
	ByQueued      = "queued_bytes"
	ByLag         = "lag_seconds"
)

// Measures returns all measures.
func Measures() []string { return []string{ByConnections, ByDeliveries, ByQueued, ByLag} }

// Query asks for one page of rows.
type Query struct {
	// After is the key of the last row of the page before, "" for the first page.
	After string `json:"after,omitempty"`
	// Limit is how many rows the page has at most.
	Limit int `json:"limit"`
	// Sort is one of [Measures]. Then the page has the largest rows, and none follows.
	Sort string `json:"sort,omitempty"`
	// Organization, User and Group keep rows that have to do with them. "" keeps all.
	Organization string `json:"organization_id,omitempty"`
	User         string `json:"user_id,omitempty"`
	Group        string `json:"group,omitempty"`
	// Connection keeps the row of one connection.
	Connection string `json:"connection_id,omitempty"`
}

// Errors of [Query.Check].
var (
	ErrLimit        = fmt.Errorf("inventory: limit must be 1 to %d", MaxLimit)
	ErrCursor       = errors.New("inventory: not a cursor of an earlier page")
	ErrSort         = errors.New("inventory: sort must be one of " + strings.Join(Measures(), ", "))
	ErrOrganization = errors.New("inventory: organization_id must be an identifier")
	ErrUser         = errors.New("inventory: user_id must be a user id")
	ErrGroup        = errors.New("inventory: group must be a group name")
	ErrConnection   = errors.New("inventory: connection_id must be an identifier")
)

// Check returns an error if a query cannot be answered.
func (q Query) Check() error {
	switch {
	case q.Limit < 1 || q.Limit > MaxLimit:
		return ErrLimit
	case len(q.After) > maxAfter || !utf8.ValidString(q.After) || q.After != "" && q.Sort != "":
		return ErrCursor
	case q.Sort != "" && !slices.Contains(Measures(), q.Sort):
		return ErrSort
	case q.Organization != "" && !orgctx.ValidID(q.Organization):
		return ErrOrganization
	case q.User != "" && !orgctx.ValidUserID(q.User):
		return ErrUser
	case q.Group != "" && !event.ValidGroupName(q.Group):
		return ErrGroup
	case q.Connection != "" && !orgctx.ValidID(q.Connection):
		return ErrConnection
	default:
		return nil
	}
}

// Organization is what all connections of an organization on one node, or on all, have in common.
// Users without an organization have the ID "".
type Organization struct {
	ID          string `json:"organization_id"`
	Nodes       int    `json:"nodes"`
	Connections int    `json:"connections"`
	// QueuedBytes wait for browsers. LagSeconds is how long the slowest browser has kept a write
	// waiting.
	QueuedBytes int64   `json:"queued_bytes"`
	LagSeconds  float64 `json:"lag_seconds"`
	// Deliveries and DeliveredBytes count since the node started. They may start over when the
	// organization comes back after some time without a connection there.
	Deliveries          uint64  `json:"deliveries"`
	DeliveredBytes      uint64  `json:"delivered_bytes"`
	DeliveriesPerSecond float64 `json:"deliveries_per_second"`
}

// Total is what all organizations of a node have together.
type Total struct {
	Organizations, Connections int
	QueuedBytes                int64
	LagSeconds                 float64 // of the slowest
	DeliveriesPerSecond        float64
}

// Connection is one connection.
type Connection struct {
	ID           string    `json:"connection_id"`
	Organization string    `json:"organization_id"`
	User         string    `json:"user_id"`
	Session      string    `json:"session_id,omitempty"`
	Node         string    `json:"node"`
	Route        string    `json:"route"`
	Transport    string    `json:"transport"`
	Client       string    `json:"client"`
	UserAgent    string    `json:"user_agent,omitempty"`
	ConnectedAt  time.Time `json:"connected_at"`
	// HeardAt is when the last bytes of the client arrived. Its answers to pings count.
	HeardAt        time.Time `json:"last_heard_at"`
	Groups         int       `json:"groups"`
	QueuedBytes    int64     `json:"queued_bytes"`
	LagSeconds     float64   `json:"lag_seconds"`
	Deliveries     uint64    `json:"deliveries"`
	DeliveredBytes uint64    `json:"delivered_bytes"`
}

// Group is one group with members.
type Group struct {
	Organization string `json:"organization_id"`
	Name         string `json:"group"`
	Nodes        int    `json:"nodes"`
	Connections  int    `json:"connections"`
}

// Key returns the row's place in the order of pages. A name is never empty there.
func (o Organization) Key() string { return "." + o.ID }

// Key returns the row's place in the order of pages.
func (c Connection) Key() string { return c.ID }

// Key returns the row's place in the order of pages. An identifier has no slash.
func (g Group) Key() string { return g.Organization + "/" + g.Name }

// Plus returns the total with one more organization.
func (t Total) Plus(o Organization) Total {
	t.Organizations++
	t.Connections += o.Connections
	t.QueuedBytes += o.QueuedBytes
	t.LagSeconds = max(t.LagSeconds, o.LagSeconds)
	t.DeliveriesPerSecond += o.DeliveriesPerSecond
	return t
}

// Plus returns the row for both nodes together.
func (o Organization) Plus(b Organization) Organization {
	o.Nodes += b.Nodes
	o.Connections += b.Connections
	o.QueuedBytes += b.QueuedBytes
	o.LagSeconds = max(o.LagSeconds, b.LagSeconds)
	o.Deliveries += b.Deliveries
	o.DeliveredBytes += b.DeliveredBytes
	o.DeliveriesPerSecond += b.DeliveriesPerSecond
	return o
}

// Plus returns one of two rows of the same connection. There are none.
func (c Connection) Plus(Connection) Connection { return c }

// Plus returns the row for both nodes together.
func (g Group) Plus(b Group) Group {
	g.Nodes += b.Nodes
	g.Connections += b.Connections
	return g
}

// Measure returns the value of one of [Measures].
func (o Organization) Measure(name string) float64 {
	return map[string]float64{
		ByConnections: float64(o.Connections), ByDeliveries: o.DeliveriesPerSecond, ByQueued: float64(o.QueuedBytes), ByLag: o.LagSeconds,
	}[name]
}

// Measure returns the value of one of [Measures]. A connection has no rate of its own; all its
// deliveries count instead.
func (c Connection) Measure(name string) float64 {
	return map[string]float64{
		ByConnections: 1, ByDeliveries: float64(c.Deliveries), ByQueued: float64(c.QueuedBytes), ByLag: c.LagSeconds,
	}[name]
}

// Measure returns the number of connections, whatever the name.
func (g Group) Measure(string) float64 { return float64(g.Connections) }

// Usage is what an organization has used of one node in a period.
type Usage struct {
	Organization    string
	PeakConnections int
	// Deliveries are events written to connections, and Bytes what they took before compression.
	Deliveries, Bytes uint64
	// LagSeconds is the longest time from an event's arrival at the node to its write.
	LagSeconds float64
}

// LoadQuery asks what a node has to carry.
type LoadQuery struct{}

// Check returns nil.
func (LoadQuery) Check() error { return nil }

// Load is what a node has to carry.
type Load struct {
	Connections   int `json:"connections"`
	Organizations int `json:"organizations"`
	Groups        int `json:"groups"`
	// Ready is what its readiness says. NotReady has the names of the checks that fail.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"not_ready,omitempty"`
}
