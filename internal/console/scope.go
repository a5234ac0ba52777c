package console

import (
	"context"
	"encoding/base64"
	"errors"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/inventory"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
)

// Reports are what all nodes know. Errors are [ErrBusy] and those of Redis.
type Reports interface {
	// Connections and Organizations return a page, and whether all nodes have answered.
	Connections(ctx context.Context, q inventory.Query) (page inventory.Page[inventory.Connection], complete bool, err error)
	Organizations(ctx context.Context, q inventory.Query) (page inventory.Page[inventory.Organization], complete bool, err error)
}

// Hour is what an organization used in an hour.
type Hour struct {
	Organization    string    `json:"-"`
	Hour            time.Time `json:"hour"`
	PeakConnections int       `json:"peak_connections"`
	Deliveries      uint64    `json:"deliveries"`
	DeliveredBytes  uint64    `json:"delivered_bytes"`
	LagSeconds      float64   `json:"lag_seconds"`
}

// Revoker ends the right to be connected. [lease.Revoker] is one.
type Revoker interface {
	Revoke(ctx context.Context, m lease.Message) (recorded bool, err error)
}

// Connection is a connection as the administrators of its organization see it: nothing about the
// nodes.
type Connection struct {
	ID          string    `json:"connection_id"`
	Session     string    `json:"session_id,omitempty"`
	User        string    `json:"user_id"`
	Route       string    `json:"route"`
	Transport   string    `json:"transport"`
	Client      string    `json:"client"`
	UserAgent   string    `json:"user_agent,omitempty"`
	ConnectedAt time.Time `json:"connected_at"`
	HeardAt     time.Time `json:"last_heard_at"`
	Groups      int       `json:"groups"`
	QueuedBytes int64     `json:"queued_bytes"`
	LagSeconds  float64   `json:"lag_seconds"`
	Deliveries  uint64    `json:"deliveries"`
}

// devicesLimit is how many connections a page of devices has.
const devicesLimit = 200

// scope is what the console can do. Every method works for the organization of its context, and
// for none without one: no other way leads to an organization.
type scope struct {
	Options
}

var errIsolation = errors.New("console: a row of another organization")

// query returns the organization of the context, and a query about it.
func query(ctx context.Context) (orgctx.ID, inventory.Query, error) {
	org, ok := orgctx.From(ctx)
	if !ok {
		return orgctx.ID{}, inventory.Query{}, orgctx.ErrNoOrganization
	}
	return org, inventory.Query{Limit: devicesLimit, Organization: org.String()}, nil
}

// belongs compares a row with the organization that asked. It should never find a difference. If it
// does, nothing of the answer leaves, and it counts as an isolation violation.
func (s *scope) belongs(org orgctx.ID, row string) error {
	if row == org.String() {
		return nil
	}
	s.Log.Error("isolation violation prevented", zap.Stringer("organization_id", org), zap.String("row_organization_id", row))
	s.Violated()
	return errIsolation
}

// devices returns a page of the organization's connections.
func (s *scope) devices(ctx context.Context, parameters map[string]string) (any, error) {
	org, q, err := query(ctx)
	if err != nil {
		return nil, err
	}
	q.User = parameters["user_id"]
	if text := parameters["cursor"]; text != "" {
		after, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			return nil, errParameter
		}
		q.After = string(after)
	}
	if q.Check() != nil {
		return nil, errParameter
	}
	page, complete, err := s.Reports.Connections(ctx, q)
	if err != nil {
		return nil, err
	}
	rows := make([]Connection, 0, len(page.Rows))
	for _, c := range page.Rows {
		if err := s.belongs(org, c.Organization); err != nil {
			return nil, err
		}
		rows = append(rows, Connection{
			ID: c.ID, Session: c.Session, User: c.User, Route: c.Route, Transport: c.Transport, Client: c.Client, UserAgent: c.UserAgent,
			ConnectedAt: c.ConnectedAt, HeardAt: c.HeardAt, Groups: c.Groups, QueuedBytes: c.QueuedBytes, LagSeconds: c.LagSeconds, Deliveries: c.Deliveries,
		})
	}
	body := map[string]any{"devices": rows, "complete": complete}
	if last := len(rows) - 1; page.More && last >= 0 {
		body["next"] = base64.RawURLEncoding.EncodeToString([]byte(rows[last].ID))
	}
	return body, nil
}

// health returns how well events reach the organization.
func (s *scope) health(ctx context.Context) (any, error) {
	org, q, err := query(ctx)
	if err != nil {
		return nil, err
	}
	page, complete, err := s.Reports.Organizations(ctx, q)
	if err != nil {
		return nil, err
	}
	var sum inventory.Organization
	for _, row := range page.Rows {
		if err := s.belongs(org, row.ID); err != nil {
			return nil, err
		}
		sum = sum.Plus(row)
	}
	return map[string]any{
		"organization_id": org.String(), "connections": sum.Connections, "queued_bytes": sum.QueuedBytes, "lag_seconds": sum.LagSeconds,
		"deliveries_per_second": sum.DeliveriesPerSecond, "complete": complete,
	}, nil
}

// usage returns what the organization used in each of the last 24 hours.
func (s *scope) usage(ctx context.Context) (any, error) {
	org, _, err := query(ctx)
	if err != nil {
		return nil, err
	}
	if s.Usage == nil {
		return nil, errNoUsage
	}
	hours, err := s.Usage(ctx, org)
	for _, hour := range hours {
		if err := s.belongs(org, hour.Organization); err != nil {
			return nil, err
		}
	}
	if hours == nil {
		hours = []Hour{}
	}
	return map[string]any{"usage": hours}, err
}

// revoke ends the session of a connection. A connection of another organization is not found.
func (s *scope) revoke(ctx context.Context, who Administrator, id string) (any, error) {
	org, q, err := query(ctx)
	if err != nil {
		return nil, err
	}
	q.Connection = id
	if q.Check() != nil {
		return nil, errBody
	}
	page, complete, err := s.Reports.Connections(ctx, q)
	switch {
	case err != nil:
		return nil, err
	case len(page.Rows) == 0 && !complete:
		return nil, ErrBusy // a node that did not answer may have it
	case len(page.Rows) == 0:
		return nil, errNoDevice
	}
	c := page.Rows[0]
	if err := s.belongs(org, c.Organization); err != nil {
		return nil, err
	}
	if c.ID != id {
		return nil, errNoDevice
	}
	if c.Session == "" {
		return nil, errNoSession
	}
	if _, err := s.Revoker.Revoke(ctx, lease.Message{Type: lease.SessionEnded, SessionID: c.Session}); err != nil {
		return nil, err
	}
	s.Log.Info("session ended in the console", zap.Stringer("organization_id", org), zap.String("admin_user_id", who.UserID),
		zap.String("user_id", c.User), zap.String("session_id", c.Session), zap.String("connection_id", c.ID))
	return map[string]string{"status": "revoked"}, nil
}
