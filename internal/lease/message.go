package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// Type is the type of an announcement.
type Type string

// The types of messages on the control channel.
const (
	SessionEnded          Type = "session.ended"
	UserDisabled          Type = "user.disabled"
	MemberRemoved         Type = "member.removed"
	MemberRole            Type = "member.role"
	OrganizationSuspended Type = "organization.suspended"
	OrganizationSwitched  Type = "organization.switched"

	// typeMissed marks a place among remembered messages where some may be missing.
	typeMissed Type = "missed"
)

var (
	// ErrUnknownType is returned for a message of a type that this version does not know.
	ErrUnknownType = errors.New("lease: unknown control message type")
	// ErrMalformed is returned for a payload that is not a message.
	ErrMalformed = errors.New("lease: malformed control message")
)

// MaxMessage is the longest message, in bytes. No valid message is longer, even if its encoder
// escapes every character.
const MaxMessage = 2 << 10

// Message is an announcement.
type Message struct {
	Type Type
	// The type decides which of these a message has.
	SessionID    string
	UserID       string
	Organization orgctx.ID // for OrganizationSwitched, zero if none is active
	Role         string    // may be empty
}

// Names of the fields of a message.
const (
	fieldType         = "type"
	fieldSession      = "session_id"
	fieldUser         = "user_id"
	fieldOrganization = "organization_id"
	fieldRole         = "role"
)

// fieldsOf returns the fields that a message of a type must have besides the type. It may not have
// others.
func fieldsOf(t Type) (names []string, ok bool) {
	switch t {
	case SessionEnded:
		return []string{fieldSession}, true
	case UserDisabled:
		return []string{fieldUser}, true
	case MemberRemoved:
		return []string{fieldOrganization, fieldUser}, true
	case MemberRole:
		return []string{fieldOrganization, fieldUser, fieldRole}, true
	case OrganizationSuspended:
		return []string{fieldOrganization}, true
	case OrganizationSwitched:
		return []string{fieldSession, fieldOrganization}, true
	default:
		return nil, false
	}
}

// Decode parses a message. It refuses duplicate fields, fields in another spelling, and fields that
// the type does not have, because the author meant something else. Identifiers are strings or
// integers. A role, and the organization to which a session switched, may also be null or empty.
func Decode(payload []byte) (Message, error) {
	if len(payload) > MaxMessage || !utf8.Valid(payload) {
		return Message{}, ErrMalformed
	}
	fields, err := readFields(payload)
	if err != nil {
		return Message{}, ErrMalformed // without the cause, which may quote the content
	}
	var text string
	if json.Unmarshal(fields[fieldType], &text) != nil || text == "" {
		return Message{}, ErrMalformed
	}
	m := Message{Type: Type(text)}
	names, ok := fieldsOf(m.Type)
	if !ok {
		return Message{}, ErrUnknownType
	}
	if len(fields) != len(names)+1 {
		return Message{}, ErrMalformed
	}
	for _, name := range names {
		raw, ok := fields[name]
		if !ok {
			return Message{}, fmt.Errorf("%w: no %s", ErrMalformed, name)
		}
		value, ok := identifier(raw)
		if !ok || !m.Type.allows(name, value) {
			return Message{}, fmt.Errorf("%w: %s", ErrMalformed, name)
		}
		m = m.with(name, value)
	}
	return m, nil
}

// allows reports whether a field of a message of this type may have the value.
func (t Type) allows(name, value string) bool {
	switch {
	case name == fieldUser:
		return orgctx.ValidUserID(value)
	case name == fieldRole:
		return value == "" || orgctx.ValidRole(value)
	case name == fieldOrganization && t == OrganizationSwitched:
		return value == "" || orgctx.ValidID(value)
	default:
		return orgctx.ValidID(value)
	}
}

// with returns the message with a field set.
func (m Message) with(name, value string) Message {
	switch name {
	case fieldSession:
		m.SessionID = value
	case fieldUser:
		m.UserID = value
	case fieldRole:
		m.Role = value
	case fieldOrganization:
		m.Organization, _ = orgctx.ParseID(value) // valid, or empty for none
	}
	return m
}

// get returns a field.
func (m Message) get(name string) string {
	switch name {
	case fieldSession:
		return m.SessionID
	case fieldUser:
		return m.UserID
	case fieldRole:
		return m.Role
	default:
		return m.Organization.String()
	}
}

// MarshalJSON implements json.Marshaler. Decode reads its result.
func (m Message) MarshalJSON() ([]byte, error) {
	names, ok := fieldsOf(m.Type)
	if !ok {
		return nil, ErrUnknownType
	}
	fields := map[string]string{fieldType: string(m.Type)}
	for _, name := range names {
		fields[name] = m.get(name)
	}
	return json.Marshal(fields)
}

// check returns the error that [Decode] would return for the message.
func (m Message) check() error {
	text, err := m.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = Decode(text)
	return err
}

// readFields returns the fields of one JSON object. Each name must occur only once.
func readFields(b []byte) (map[string]json.RawMessage, error) {
	if !json.Valid(b) { // a Decoder would accept an extra brace at the end
		return nil, ErrMalformed
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, ErrMalformed
	}
	fields := make(map[string]json.RawMessage)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // names are text
		if _, twice := fields[name]; twice {
			return nil, ErrMalformed
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		fields[name] = raw
	}
	return fields, nil
}

// identifier returns the text of an identifier, and "" for null.
func identifier(raw json.RawMessage) (text string, ok bool) {
	if string(raw) == "null" {
		return "", true
	}
	return orgctx.TextOrInteger(raw)
}

// place returns the index and the key under which to find the connections that the message may
// affect.
func (m Message) place() (index int, key string) {
	switch m.Type {
	case SessionEnded, OrganizationSwitched:
		return bySession, m.SessionID
	case OrganizationSuspended:
		return byOrganization, m.Organization.String()
	default:
		return byUser, m.UserID
	}
}

// cause returns why the message ends a connection with that identity, nil if it does not.
func (m Message) cause(id session.Identity) error {
	session := m.SessionID == id.SessionID
	user := m.UserID == id.UserID
	organization := m.Organization == id.Organization
	switch {
	case m.Type == SessionEnded && session:
		return ErrSessionEnded
	case m.Type == OrganizationSwitched && session && !organization:
		return ErrSwitched
	case m.Type == UserDisabled && user,
		m.Type == MemberRemoved && user && organization,
		m.Type == OrganizationSuspended && organization:
		return ErrNotAllowed
	case m.Type == MemberRole && user && organization && m.Role != id.Role:
		return ErrRoleChanged
	}
	return nil
}
