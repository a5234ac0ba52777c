package usage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"orgcast/internal/orgctx"
)

const (
	// DefaultLimit is how many rows a page has, unless the request says otherwise.
	DefaultLimit = 100
	// MaxLimit is how many rows a page may have.
	MaxLimit = 1000
	// MaxHours is how long a period may be. It bounds how many hashes a question reads.
	MaxHours = 31 * 24
	// scanCount is how many fields Redis returns at a time.
	scanCount = 1000
)

// Errors of [Query.Check].
var (
	ErrPeriod = fmt.Errorf("usage: the period must end after it begins, and have at most %d hours", MaxHours)
	ErrCursor = errors.New("usage: not a cursor of an earlier page")
	ErrLimit  = fmt.Errorf("usage: limit must be 1 to %d", MaxLimit)
)

// Query asks for the usage of a period.
type Query struct {
	From, To time.Time // the hours that begin in between
	// Organization keeps the rows of one organization. The zero ID keeps all.
	Organization orgctx.ID
	After        string // the key of the last row of the page before, or ""
	Limit        int
}

// Row is what an organization used in an hour of all nodes together.
type Row struct {
	Hour         time.Time `json:"hour"`
	Organization string    `json:"organization_id"`
	// Nodes counts processes, so a node that was restarted counts twice.
	Nodes int `json:"nodes"`
	// PeakConnections is the sum of the nodes' peaks, which may have been at different moments.
	PeakConnections int     `json:"peak_connections"`
	Deliveries      uint64  `json:"deliveries"`
	DeliveredBytes  uint64  `json:"delivered_bytes"`
	LagSeconds      float64 `json:"lag_seconds"` // of the slowest write
}

// Key returns the row's place in the order of pages.
func (r Row) Key() string { return r.Hour.Format(time.RFC3339) + "/" + r.Organization }

// Check returns an error if a query cannot be answered.
func (q Query) Check() error {
	switch {
	case q.Limit < 1 || q.Limit > MaxLimit:
		return ErrLimit
	case !q.To.After(q.From) || q.To.Sub(q.From) > MaxHours*time.Hour:
		return ErrPeriod
	}
	if q.After == "" {
		return nil
	}
	if _, _, err := q.after(); err != nil {
		return err
	}
	return nil
}

// after returns the hour and the organization of the last row of the page before.
func (q Query) after() (hour time.Time, organization string, err error) {
	if q.After == "" {
		return time.Time{}, "", nil
	}
	text, organization, ok := strings.Cut(q.After, "/")
	hour, err = time.Parse(time.RFC3339, text)
	if !ok || err != nil || organization != "" && !orgctx.ValidID(organization) {
		return time.Time{}, "", ErrCursor
	}
	return hour, organization, nil
}

// Read returns a page of rows, ordered by hour and organization, and whether there are more.
func (s *Redis) Read(ctx context.Context, q Query) (rows []Row, more bool, err error) {
	if err := q.Check(); err != nil {
		return nil, false, err
	}
	lastHour, lastOrganization, _ := q.after() // as checked
	hour := hourOf(q.From)
	if hour.Before(q.From) {
		hour = hour.Add(time.Hour)
	}
	if lastHour.After(hour) {
		hour = lastHour
	}
	for ; hour.Before(q.To); hour = hour.Add(time.Hour) {
		of, err := s.readHour(ctx, hour, q.Organization)
		if err != nil {
			return nil, false, fmt.Errorf("read usage: %w", err)
		}
		for _, row := range of {
			switch {
			case hour.Equal(lastHour) && row.Organization <= lastOrganization:
			case len(rows) == q.Limit:
				return rows, true, nil
			default:
				rows = append(rows, row)
			}
		}
	}
	return rows, false, nil
}

// readHour returns the rows of an hour, ordered by organization.
func (s *Redis) readHour(ctx context.Context, hour time.Time, org orgctx.ID) ([]Row, error) {
	match := "*"
	if !org.IsZero() {
		match = fieldOf(org.String(), "*") // an ID has no character that means something here
	}
	seen := make(map[string]bool) // Redis may return a field twice
	rows := make(map[string]*Row)
	for cursor := uint64(0); ; {
		list, next, err := s.client.HScan(ctx, s.keys.Usage(hour), cursor, match, scanCount).Result()
		if err != nil {
			return nil, err
		}
		for i := 0; i+1 < len(list); i += 2 {
			if !seen[list[i]] {
				seen[list[i]] = true
				add(rows, hour, list[i], list[i+1])
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	return slices.SortedFunc(func(yield func(Row) bool) {
		for row := range maps.Values(rows) {
			if !yield(*row) {
				return
			}
		}
	}, func(a, b Row) int { return cmp.Compare(a.Organization, b.Organization) }), nil
}

// add adds a share to the row of its organization. It ignores what is not a share.
func add(rows map[string]*Row, hour time.Time, field, text string) {
	organization, ok := parseField(field)
	share, err := decode(organization, text)
	if !ok || err != nil {
		return
	}
	row := rows[organization]
	if row == nil {
		row = &Row{Hour: hour, Organization: organization}
		rows[organization] = row
	}
	row.Nodes++
	row.PeakConnections += share.PeakConnections
	row.Deliveries += share.Deliveries
	row.DeliveredBytes += share.Bytes
	row.LagSeconds = max(row.LagSeconds, share.LagSeconds)
}
