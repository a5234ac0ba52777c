package presence

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// entry is what one node says of one user of a group. Times are in milliseconds since 1970.
type entry struct {
	Connections int   `json:"n"`
	Since       int64 `json:"since"`
	// State is the state as compact JSON, and SetAt when it was set.
	State json.RawMessage `json:"state,omitempty"`
	SetAt int64           `json:"at,omitempty"`
	// Until is set if the user has no connection left: until when the user may come back.
	Until int64 `json:"until,omitempty"`
}

// lingers reports whether the user has no connection left.
func (e entry) lingers() bool { return e.Until != 0 }

// text returns the value of the entry's field.
func (e entry) text() string {
	text, _ := event.Marshal(e) // it always encodes: the state is JSON
	return string(text)
}

const (
	// maxEntry is the longest value of a field.
	maxEntry = MaxState + 256
	// chunk is how many fields one write has at most. maxDiff is larger than it can become.
	chunk   = 500
	maxDiff = chunk * (maxEntry + 6*orgctx.MaxUserIDLength)
)

var errMalformed = errors.New("presence: malformed")

// decodeEntry parses the value of a field. A newer version may have further fields.
func decodeEntry(text []byte) (e entry, err error) {
	if len(text) > maxEntry || json.Unmarshal(text, &e) != nil {
		return entry{}, errMalformed
	}
	return e.checked()
}

// checked returns the entry if a node could have written it, with its state in compact form.
func (e entry) checked() (entry, error) {
	if e.Connections < 0 || e.Connections == 0 && !e.lingers() {
		return entry{}, errMalformed
	}
	if len(e.State) > 0 {
		text, err := compactState(e.State)
		if err != nil {
			return entry{}, errMalformed
		}
		if e.State = nil; text != "" {
			e.State = json.RawMessage(text)
		}
	}
	return e, nil
}

// diff is a write as it goes out on the channel.
type diff struct {
	Organization string           `json:"organization_id"`
	Node         string           `json:"node"`
	Seq          uint64           `json:"seq"`  // of this write; grows
	Prev         uint64           `json:"prev"` // of the node's write to this group before, 0 if there is none
	Set          map[string]entry `json:"set,omitempty"`
	Gone         []string         `json:"gone,omitempty"`
	// Last says that the node has no users left in the group, and forgets the number.
	Last bool `json:"last,omitempty"`
}

// decodeDiff parses a message on the channel of a group. A message that names another organization
// is refused.
func decodeDiff(g event.Group, text []byte) (d diff, err error) {
	if len(text) > maxDiff || json.Unmarshal(text, &d) != nil {
		return diff{}, errMalformed
	}
	if d.Organization != g.Organization().String() || !orgctx.ValidID(d.Node) || d.Seq == 0 || d.Prev >= d.Seq {
		return diff{}, errMalformed
	}
	for user, e := range d.Set {
		if !orgctx.ValidUserID(user) {
			return diff{}, errMalformed
		}
		if d.Set[user], err = e.checked(); err != nil {
			return diff{}, err
		}
	}
	return d, nil
}

// hash is the content of the hash of a group, by node.
type hash map[string]*share

// share is what one node has written.
type share struct {
	seq    uint64
	users  map[string]entry
	missed time.Time // since when the hash has had nothing of it, zero if it has
}

// decodeHash parses a hash. Fields that are not valid are ignored: they count for nobody.
func decodeHash(fields map[string]string) hash {
	h := make(hash)
	for field, value := range fields {
		node, user, ok := keyspace.ParsePresenceField(field)
		if !ok {
			continue
		}
		s := h[node]
		if s == nil {
			s = &share{users: make(map[string]entry)}
			h[node] = s
		}
		if user == "" {
			s.seq, _ = strconv.ParseUint(value, 10, 64) // 0 if it is not valid: no write matches it
		} else if e, err := decodeEntry([]byte(value)); err == nil {
			s.users[user] = e
		}
	}
	return h
}

// compactState checks a state and returns it as compact JSON, "" for none.
func compactState(state json.RawMessage) (string, error) {
	var b bytes.Buffer
	if len(state) == 0 || len(state) > 16*MaxState || json.Compact(&b, state) != nil {
		return "", ErrState
	}
	text := b.String()
	if text == "null" {
		return "", nil
	}
	if len(text) > MaxState || text[0] != '{' {
		return "", ErrState
	}
	return text, nil
}
