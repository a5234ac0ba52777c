package gateway

import (
	"slices"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/inventory"
)

// The reports below look at one connection after the other, and take no lock of the server, the hub
// or an organization for longer than it takes to copy a list.

// ReportOrganizations returns a page of the organizations that have connections.
func (s *Server) ReportOrganizations(q inventory.Query) (inventory.Page[inventory.Organization], error) {
	page, _, err := s.ReportLargest(q)
	return page, err
}

// ReportLargest is ReportOrganizations, and returns also what all organizations have together that
// the query asks for.
func (s *Server) ReportLargest(q inventory.Query) (inventory.Page[inventory.Organization], inventory.Total, error) {
	rows := make(map[*account]*inventory.Organization)
	now := time.Now()
	for a, at := range s.sums() {
		if members := a.members.Load(); members > 0 && (q.Organization == "" || q.Organization == a.org.String()) {
			rows[a] = &inventory.Organization{
				ID: a.org.String(), Nodes: 1, Deliveries: at.deliveries, DeliveredBytes: at.bytes,
				DeliveriesPerSecond: float64(a.rate.Load()) / 1000,
			}
		}
	}
	for _, c := range s.snapshot() {
		row := rows[c.budget.account]
		if row == nil || !c.matches(q) {
			continue
		}
		queued, lag := c.writer.box.Waiting(now)
		row.Connections++
		row.QueuedBytes += int64(queued)
		row.LagSeconds = max(row.LagSeconds, lag.Seconds())
	}
	collector := inventory.NewCollector[inventory.Organization](q)
	var total inventory.Total
	for _, row := range rows {
		if row.Connections > 0 {
			collector.Add(*row)
			total = total.Plus(*row)
		}
	}
	page, err := collector.Page()
	return page, total, err
}

// ReportConnections returns a page of the open connections.
func (s *Server) ReportConnections(q inventory.Query) (inventory.Page[inventory.Connection], error) {
	page := inventory.NewCollector[inventory.Connection](q)
	now := time.Now()
	for _, c := range s.snapshot() {
		if c.matches(q) && page.Wants(c.id) {
			page.Add(c.report(now))
		}
	}
	return page.Page()
}

// ReportGroups returns a page of the groups that connections have joined.
func (s *Server) ReportGroups(q inventory.Query) (inventory.Page[inventory.Group], error) {
	members := make(map[event.Group]int)
	var joined []event.Group // reused
	for _, c := range s.snapshot() {
		if !c.belongs(q) {
			continue
		}
		joined = c.groups.appendTo(joined[:0])
		for _, g := range joined {
			if q.Group == "" || q.Group == g.Name() {
				members[g]++
			}
		}
	}
	page := inventory.NewCollector[inventory.Group](q)
	for g, connections := range members {
		page.Add(inventory.Group{Organization: g.Organization().String(), Name: g.Name(), Nodes: 1, Connections: connections})
	}
	return page.Page()
}

// matches reports whether a query asks for the connection.
func (c *conn) matches(q inventory.Query) bool {
	return c.belongs(q) && (q.Connection == "" || q.Connection == c.id) && (q.Group == "" || c.groups.hasNamed(q.Group))
}

// belongs reports whether the connection is of the organization and the user of a query.
func (c *conn) belongs(q inventory.Query) bool {
	return (q.Organization == "" || q.Organization == c.identity.Organization.String()) && (q.User == "" || q.User == c.identity.UserID)
}

// report returns the connection as operators see it.
func (c *conn) report(now time.Time) inventory.Connection {
	queued, lag := c.writer.box.Waiting(now)
	return inventory.Connection{
		ID: c.id, Organization: c.identity.Organization.String(), User: c.identity.UserID, Session: c.identity.SessionID,
		Route: c.route.Pattern, Transport: c.kind.carrier.Name(), Client: c.from.address, UserAgent: c.from.agent.Value(),
		ConnectedAt: c.started.UTC().Truncate(time.Millisecond), HeardAt: c.heardAt().UTC().Truncate(time.Millisecond),
		Groups: c.groups.count(), QueuedBytes: int64(queued), LagSeconds: lag.Seconds(),
		Deliveries: c.writer.tally.deliveries.Load(), DeliveredBytes: c.writer.tally.bytes.Load(),
	}
}

// heardAt returns when the client was last heard.
func (c *conn) heardAt() time.Time {
	c.mu.Lock()
	attached := c.attached
	c.mu.Unlock()
	if !attached {
		return c.started
	}
	return c.writer.transport.Heard()
}

// appendTo appends the groups to a list.
func (ms *memberships) appendTo(list []event.Group) []event.Group {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return append(list, ms.groups...)
}

// hasNamed reports whether a group with the name is among them.
func (ms *memberships) hasNamed(name string) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return slices.ContainsFunc(ms.groups, func(g event.Group) bool { return g.Name() == name })
}

// count returns how many groups there are.
func (ms *memberships) count() int {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return len(ms.groups)
}
