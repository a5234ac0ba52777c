package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"orgcast/internal/orgctx"
)

// questionVersion is the version of questions to the web application.
const questionVersion = 1

// encodeQuestions returns the question about some cookies, in JSON.
func encodeQuestions(questions []*question) []byte {
	size := 32
	for _, q := range questions {
		size += len(q.encoded) + 1
	}
	b := bytes.NewBuffer(make([]byte, 0, size))
	fmt.Fprintf(b, `{"v":%d,"cookies":[`, questionVersion)
	for i, q := range questions {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(q.encoded)
	}
	b.WriteString("]}")
	return b.Bytes()
}

// encodeText returns text as JSON, without the escapes for HTML, which would make it longer.
func encodeText(text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		return []byte(`""`) // text is always encoded
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// webAnswer is what the web application says of one cookie: a code, or who it is.
type webAnswer struct{ document }

const (
	fieldCode = "code"
	fieldRole = "role"
)

// parseAnswers reads the answer to a question about so many cookies. Errors do not quote it.
func parseAnswers(body []byte, cookies int) ([]webAnswer, error) {
	var all struct {
		Identities []webAnswer `json:"identities"`
	}
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, errors.New("the web application's answer is not JSON of the form {\"identities\":[…]}")
	}
	if len(all.Identities) != cookies {
		return nil, fmt.Errorf("the web application answered about %d of %d cookies", len(all.Identities), cookies)
	}
	return all.Identities, nil
}

// UnmarshalJSON keeps what is no object as an answer without fields, which is good for nobody else.
func (a *webAnswer) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &a.document) != nil {
		a.document = nil
	}
	return nil
}

// identity returns what the answer says. What has no valid form says nothing: the user may be logged in.
func (a webAnswer) identity(now time.Time) (Identity, error) {
	if v, ok := a.get(fieldCode); ok && v != nil {
		switch v {
		case "none":
			return Identity{}, ErrNone
		case "no_organization":
			return Identity{}, orgctx.ErrNoOrganization
		case "forbidden":
			return Identity{}, ErrDisabled
		}
		return Identity{}, malformed(fieldCode)
	}
	id, err := a.document.identity(now)
	switch {
	case errors.Is(err, ErrExpired):
		return Identity{}, err
	case errors.Is(err, ErrNone):
		return Identity{}, malformed(fieldUser)
	case err != nil:
		return Identity{}, fmt.Errorf("%w: in the web application's answer: %w", ErrUnavailable, err)
	}
	role, _ := a.get(fieldRole)
	switch role := role.(type) {
	case nil:
	case string:
		if role != "" && !orgctx.ValidRole(role) {
			return Identity{}, malformed(fieldRole)
		}
		id.Role = role
	default:
		return Identity{}, malformed(fieldRole)
	}
	if v, _ := a.get(fieldID); v != nil {
		text, isText := v.(string)
		if !isText || !orgctx.ValidID(text) {
			return Identity{}, malformed(fieldID)
		}
		id.SessionID = text
	}
	return id, nil
}

func malformed(field string) error {
	return fmt.Errorf("%w: %s in the web application's answer has no valid form", ErrUnavailable, field)
}
