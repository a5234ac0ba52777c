// Package webhook tells the back end of a site what happens at the gateway: a connection is there or
// has ended, a group has its first connection or lost its last, a connection was told of a gap.
//
// A [Recorder] takes what the node observes, without waiting for anything, and writes it to Redis in
// the background. Which groups are occupied is counted in Redis over all nodes; a node that dies is
// counted out by the others. Whatever is told of a user or a group waits there in a line of its own.
// A [Deliverer] on any node takes the first entry of a line and calls the receiver of its
// organization, again and again until that has answered or the entry is a dead letter. So each line
// keeps its order, and a line that waits delays no other.
//
// Calls are made and signed as https://www.standardwebhooks.com describes. Each organization has its
// own key ([Targets]), so no receiver can forge calls to another.
package webhook

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// Type is what a webhook tells.
type Type string

// The types of webhooks.
const (
	Connected    Type = "connection.connected"
	Disconnected Type = "connection.disconnected"
	Gap          Type = "connection.gap"
	Occupied     Type = "group.occupied"
	Vacated      Type = "group.vacated"
)

// Types returns all types, in the order of the documentation.
func Types() []string {
	return []string{string(Connected), string(Disconnected), string(Gap), string(Occupied), string(Vacated)}
}

// ParseTypes parses the types that are wanted.
func ParseTypes(list []string) (map[Type]bool, error) {
	wanted := make(map[Type]bool)
	for _, text := range list {
		if !slices.Contains(Types(), text) {
			return nil, fmt.Errorf("%q must be one of %s", text, strings.Join(Types(), ", "))
		}
		wanted[Type(text)] = true
	}
	return wanted, nil
}

// Patterns say which groups are told of.
type Patterns []string

// ParsePatterns parses group names, or the starts of group names followed by "*".
func ParsePatterns(list []string) (Patterns, error) {
	for _, text := range list {
		prefix, open := strings.CutSuffix(text, "*")
		if (prefix != "" || !open) && !event.ValidGroupName(prefix) {
			return nil, fmt.Errorf("%q must be the name of a group, or the start of one followed by *", text)
		}
	}
	return list, nil
}

// match reports whether a group is told of.
func (p Patterns) match(g event.Group) bool {
	return slices.ContainsFunc(p, func(text string) bool {
		prefix, open := strings.CutSuffix(text, "*")
		return g.Name() == text || open && strings.HasPrefix(g.Name(), prefix)
	})
}

// Connection is one that webhooks tell of.
type Connection struct {
	Organization orgctx.ID
	UserID, ID   string
}

// happening is something to tell.
type happening struct {
	kind  Type
	at    time.Time
	conn  Connection  // of a connection
	group event.Group // of a group, or of a gap
	cause string      // of the end of a connection
}

func (h *happening) organization() orgctx.ID {
	if h.conn.Organization.IsZero() {
		return h.group.Organization()
	}
	return h.conn.Organization
}

// line returns the name of the line in which it waits.
func (h *happening) line() string {
	if h.conn.Organization.IsZero() {
		return keyspace.WebhookGroupLine(h.group)
	}
	return keyspace.WebhookUserLine(h.conn.UserID)
}

// bytes returns about how much memory it takes.
func (h *happening) bytes() int {
	return happeningBytes + len(h.conn.UserID) + len(h.conn.ID) + len(h.group.Name()) + len(h.cause)
}

// happeningBytes is the size of a happening without its texts, which may be shared.
const happeningBytes = 200

// body is what the receiver gets.
type body struct {
	Type      Type      `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      data      `json:"data"`
}

type data struct {
	OrganizationID string `json:"organization_id"`
	UserID         string `json:"user_id,omitempty"`
	ConnectionID   string `json:"connection_id,omitempty"`
	Group          string `json:"group,omitempty"`
	Cause          string `json:"cause,omitempty"`
}

// Entry is one webhook as it waits in Redis. It never changes, so each attempt to deliver it has the
// same ID and the same body.
type Entry struct {
	// ID is unique.
	ID string
	// At is when it happened.
	At time.Time
	// Body is JSON.
	Body []byte
}

// entry returns the entry of a happening, under a new ID.
func (h *happening) entry() Entry {
	text, _ := event.Marshal(body{Type: h.kind, Timestamp: h.at.UTC().Truncate(time.Millisecond), Data: data{ // texts and a time
		OrganizationID: h.organization().String(), UserID: h.conn.UserID, ConnectionID: h.conn.ID, Group: h.group.Name(), Cause: h.cause,
	}})
	return Entry{ID: "msg_" + rand.Text(), At: h.at, Body: text}
}

// text returns an entry as it is stored: the ID, the time in milliseconds since 1970, and the body,
// each on a line.
func (e Entry) text() string {
	return e.ID + "\n" + strconv.FormatInt(e.At.UnixMilli(), 10) + "\n" + string(e.Body)
}

var errMalformed = errors.New("webhook: malformed entry")

// parseEntry parses the text of an entry.
func parseEntry(text string) (Entry, error) {
	id, rest, ok1 := strings.Cut(text, "\n")
	at, body, ok2 := strings.Cut(rest, "\n")
	ms, err := strconv.ParseInt(at, 10, 64)
	if !ok1 || !ok2 || err != nil || id == "" || !json.Valid([]byte(body)) {
		return Entry{}, errMalformed
	}
	return Entry{ID: id, At: time.UnixMilli(ms), Body: bytes.Clone([]byte(body))}, nil
}

// Type returns the type of an entry, empty if it has none.
func (e Entry) Type() Type {
	var b struct{ Type Type }
	_ = json.Unmarshal(e.Body, &b) // see above
	return b.Type
}
