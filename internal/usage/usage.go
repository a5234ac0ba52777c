// Package usage meters what organizations use: each node writes its share of every hour to Redis, and
// any node reads the shares of all.
//
// A share has its own field in the hash of the hour, and always the whole of what the node has
// counted in it. So a write that is repeated changes nothing, and nodes never wait for each other. A
// node that is killed loses at most what it counted since its last write, which is no longer ago than
// [Interval] while Redis accepts writes.
package usage

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"orgcast/internal/inventory"
	"orgcast/internal/orgctx"
)

const (
	// Interval is how often a node writes, and measures rates.
	Interval = 10 * time.Second
	// DefaultRetention is how long an hour is kept.
	DefaultRetention = 90 * 24 * time.Hour
)

// Share is what an organization used of one node in an hour.
type Share = inventory.Usage

var errMalformed = errors.New("usage: malformed share")

// fieldOf returns the name of the field of a share. Neither an organization nor a node has a colon.
func fieldOf(organization, node string) string { return organization + ":" + node }

// parseField returns the organization of a field.
func parseField(field string) (organization string, ok bool) {
	organization, node, ok := strings.Cut(field, ":")
	return organization, ok && orgctx.ValidID(node) && (organization == "" || orgctx.ValidID(organization))
}

// encode returns the text of a share: its four numbers. It is short, because there are many.
func encode(s Share) string {
	return fmt.Sprintf("%d %d %d %d", s.PeakConnections, s.Deliveries, s.Bytes, int64(s.LagSeconds*1000))
}

// decode is the reverse of encode.
func decode(organization, text string) (Share, error) {
	parts := strings.Split(text, " ")
	if len(parts) != 4 {
		return Share{}, errMalformed
	}
	var numbers [4]uint64
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 63)
		if err != nil {
			return Share{}, errMalformed
		}
		numbers[i] = n
	}
	return Share{
		Organization: organization, PeakConnections: int(numbers[0]), Deliveries: numbers[1], Bytes: numbers[2], //nolint:gosec // of 63 bits
		LagSeconds: float64(numbers[3]) / 1000,
	}, nil
}
