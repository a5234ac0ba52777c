package lease

import (
	"slices"
	"sync"
	"time"
)

// AnnouncementsKept is how many announcements a node remembers for operators.
const AnnouncementsKept = 200

// Announcement is a message that was heard on the control channel, as operators see it.
type Announcement struct {
	At           time.Time `json:"at"`
	Type         Type      `json:"type"`
	SessionID    string    `json:"session_id,omitempty"`
	UserID       string    `json:"user_id,omitempty"`
	Organization string    `json:"organization_id,omitempty"`
	Role         string    `json:"role,omitempty"`
	// Connections is how many connections it closed.
	Connections int `json:"connections"`
}

// announcements remembers the newest announcements.
type announcements struct {
	mu   sync.Mutex
	list []Announcement // the oldest first
}

// add remembers a message. The oldest ones give way, many at a time.
func (a *announcements) add(m Message, at time.Time, connections int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.list) == 2*AnnouncementsKept {
		a.list = append(a.list[:0], a.list[AnnouncementsKept:]...)
	}
	a.list = append(a.list, Announcement{
		At: at.UTC().Truncate(time.Millisecond), Type: m.Type, SessionID: m.SessionID, UserID: m.UserID,
		Organization: m.Organization.String(), Role: m.Role, Connections: connections,
	})
}

// Announcements returns the newest announcements that this node has heard, the newest first.
func (c *Control) Announcements() []Announcement {
	c.heard.mu.Lock()
	list := slices.Clone(c.heard.list[max(0, len(c.heard.list)-AnnouncementsKept):])
	c.heard.mu.Unlock()
	slices.Reverse(list)
	return list
}

// sameWithin is how far apart two nodes may hear the same announcement. The clocks of nodes differ.
const sameWithin = 5 * time.Second

// MergeAnnouncements makes one list of what several nodes have heard, the newest first. Each
// announcement has the connections that it closed on all nodes.
func MergeAnnouncements(nodes [][]Announcement) []Announcement {
	var merged []Announcement
	latest := make(map[Announcement]int) // an announcement without time and connections, to its place in merged
	var all []heardBy
	for node, list := range nodes {
		for _, a := range list {
			all = append(all, heardBy{node, a})
		}
	}
	slices.SortStableFunc(all, func(a, b heardBy) int { return a.At.Compare(b.At) })
	counted := make(map[int]map[int]bool) // the nodes that are in a place of merged
	for _, a := range all {
		key := a.Announcement
		key.At, key.Connections = time.Time{}, 0
		place, known := latest[key]
		if known && a.At.Sub(merged[place].At) <= sameWithin && !counted[place][a.node] {
			merged[place].Connections += a.Connections
		} else {
			place = len(merged)
			merged = append(merged, a.Announcement)
			latest[key], counted[place] = place, make(map[int]bool)
		}
		counted[place][a.node] = true
	}
	slices.Reverse(merged)
	return merged[:min(len(merged), AnnouncementsKept)]
}

// heardBy is an announcement with the number of the node that heard it.
type heardBy struct {
	node int
	Announcement
}
