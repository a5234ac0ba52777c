package presence

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"orgcast/internal/event"
)

// User is one present user.
type User struct {
	UserID string `json:"user_id"`
	// Connections is how many connections of the user have joined the group, at least 1: a user whose
	// last connection was lost is still present.
	Connections int `json:"connections"`
	// Since is when the user came.
	Since time.Time `json:"since"`
	// State is what the user shows, if anything.
	State json.RawMessage `json:"state,omitempty"`
}

// leaver is a user who has left.
type leaver struct {
	UserID string `json:"user_id"`
}

// listFrame lists the users of a group, or counts them.
type listFrame struct {
	Type  string `json:"type"` // "presence"
	Group string `json:"group"`
	Users []User `json:"users,omitempty"`
	Count int    `json:"count"`
}

// changeFrame tells what has changed since the frame before.
type changeFrame struct {
	Type   string   `json:"type"` // "presence_change"
	Group  string   `json:"group"`
	Joined []User   `json:"joined,omitempty"`
	Left   []leaver `json:"left,omitempty"`
	Count  int      `json:"count"`
}

// errorFrame says that nothing is shown for now.
type errorFrame struct {
	Type    string `json:"type"` // "error"
	Code    string `json:"code"`
	Message string `json:"message"`
	Group   string `json:"group"`
}

// Frame is one frame about a group. All its receivers share it and its encoded forms.
type Frame struct {
	group event.Group
	value any // one of the frames above

	mu      sync.Mutex
	text    []byte
	encoded []encodedFrame
}

type encodedFrame struct {
	as   any
	text []byte
}

// NewFrame returns the frame that lists users of a group.
func NewFrame(g event.Group, users []User) *Frame {
	return &Frame{group: g, value: listFrame{"presence", g.Name(), users, len(users)}}
}

// Group returns the group that the frame is about.
func (f *Frame) Group() event.Group { return f.group }

// Encoded returns the frame as encode makes it from its JSON. All calls with the same key share the
// result, so they must encode alike. Keys are compared with ==.
func (f *Frame) Encoded(key any, encode func(text []byte) []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.encoded {
		if e.as == key {
			return e.text
		}
	}
	if f.text == nil {
		f.text, _ = event.Marshal(f.value) // it always encodes: states are JSON
	}
	text := encode(f.text)
	f.encoded = append(f.encoded, encodedFrame{key, text})
	return text
}

// Snapshot is who is present in a group.
type Snapshot struct {
	// Users is nil if there are more than can be listed.
	Users []User `json:"users,omitempty"`
	Count int    `json:"count"`
}

// sortUsers orders users by their ids.
func sortUsers(list []User) {
	slices.SortFunc(list, func(a, b User) int { return strings.Compare(a.UserID, b.UserID) })
}
