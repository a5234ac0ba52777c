package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Bounds of one answer, besides that of its bytes.
const (
	maxGroups = 100
	maxFrames = 100
)

// ErrMalformed is returned, wrapped, for an answer that is not one.
var ErrMalformed = errors.New("hook: malformed answer")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Decode reads an answer to a question that was asked for an organization. It refuses what it does
// not know, what is there twice, and what belongs to the gateway or to another organization.
func Decode(org orgctx.ID, body []byte) (consumer.HookAnswer, error) {
	var answer consumer.HookAnswer
	fields, err := members(body)
	if err != nil {
		return answer, err
	}
	for name, value := range fields {
		switch name {
		case "groups":
			answer.Groups, err = decodeGroups(value)
		case "send":
			answer.Send, err = decodeFrames(org, value)
		case "task":
			answer.Task, err = decodeTask(value)
		case "close":
			answer.Close, err = decodeClose(value)
		default:
			err = malformed("unknown field %q", shorten(name))
		}
		if err != nil {
			return consumer.HookAnswer{}, err
		}
	}
	return answer, nil
}

// shorten makes a stranger's text fit into a line of the log.
func shorten(text string) string {
	const most = 50
	return text[:min(len(text), most)]
}

// members returns the members of a JSON object, none of which is there twice.
func members(object []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(object) || !json.Valid(object) {
		return nil, malformed("is not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(object))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, malformed("is not an object")
	}
	all := make(map[string]json.RawMessage)
	for d.More() {
		name, err := d.Token()
		text, ok := name.(string)
		if err != nil || !ok {
			return nil, malformed("is not an object")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, malformed("is not an object")
		}
		if _, twice := all[text]; twice {
			return nil, malformed("field %q occurs twice", shorten(text))
		}
		all[text] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, malformed("is not an object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed("is not one object")
	}
	return all, nil
}

// text returns the text that a value is.
func text(value json.RawMessage) (string, bool) {
	var s *string
	if json.Unmarshal(value, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

func decodeGroups(value json.RawMessage) ([]string, error) {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) != nil || len(list) > maxGroups {
		return nil, malformed("groups is not a list of up to %d names", maxGroups)
	}
	names := []string{}
	for _, v := range list {
		name, ok := text(v)
		if !ok || !event.ValidGroupName(name) {
			return nil, malformed("groups has something that is not the name of a group")
		}
		names = append(names, name)
	}
	return names, nil
}

func decodeFrames(org orgctx.ID, value json.RawMessage) ([]json.RawMessage, error) {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) != nil || len(list) > maxFrames {
		return nil, malformed("send is not a list of up to %d frames", maxFrames)
	}
	for _, frame := range list {
		fields, err := members(frame)
		if err != nil {
			return nil, fmt.Errorf("send: %w", err)
		}
		typ, ok := text(fields["type"])
		if !ok || !event.ValidType(typ) {
			return nil, malformed("send has a frame without a type")
		}
		if consumer.IsControlType(typ) {
			return nil, malformed("send has a frame of the type %q, which is the gateway's", typ)
		}
		if _, ok := fields["event"]; ok && bytes.HasPrefix(bytes.TrimSpace(fields["event"]), []byte("{")) {
			return nil, malformed("send has a frame that looks like an event")
		}
		if id, ok := fields["organization_id"]; ok {
			if named, ok := orgctx.TextOrInteger(id); !ok || named != org.String() {
				return nil, malformed("send has a frame that names another organization")
			}
		}
	}
	return list, nil
}

func decodeTask(value json.RawMessage) (*consumer.Work, error) {
	fields, err := members(value)
	if err != nil {
		return nil, fmt.Errorf("task: %w", err)
	}
	var w consumer.Work
	for name, v := range fields {
		var ok bool
		switch name {
		case "kind":
			w.Kind, ok = text(v)
			ok = ok && orgctx.ValidID(w.Kind) && !strings.HasPrefix(w.Kind, "orgcast_")
		case "id":
			w.ID, ok = text(v)
			ok = ok && orgctx.ValidID(w.ID)
		case "key":
			w.Idempotency, ok = text(v)
			ok = ok && event.ValidGroupName(w.Idempotency)
		case "group":
			w.Group, ok = text(v)
			ok = ok && event.ValidGroupName(w.Group)
		case "payload":
			w.Payload, ok = v, true
			if err := checkPayload(v); err != nil {
				return nil, err
			}
		default:
			return nil, malformed("task: unknown field %q", shorten(name))
		}
		if !ok {
			return nil, malformed("task: %s has no valid form", name)
		}
	}
	if w.Kind == "" {
		return nil, malformed("task: kind is missing")
	}
	return &w, nil
}

// checkPayload refuses what the gateway sets itself.
func checkPayload(value json.RawMessage) error {
	fields, err := members(value)
	if err != nil {
		return fmt.Errorf("task: payload: %w", err)
	}
	for name := range fields {
		if slices.Contains(consumer.ReservedNames(), name) {
			return malformed("task: payload: %q is set by the gateway", name)
		}
	}
	return nil
}

// decodeClose returns the cause with which a connection ends, and what is wrong with the answer.
func decodeClose(value json.RawMessage) (cause, wrong error) {
	switch word, _ := text(value); word {
	case "done":
		return consumer.ErrDone, nil
	case "forbidden":
		return consumer.ErrForbidden, nil
	case "not_found":
		return consumer.ErrNotFound, nil
	}
	return nil, malformed("close is not done, forbidden or not_found")
}
