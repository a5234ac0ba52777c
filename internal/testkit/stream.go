package testkit

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const streamType = "text/event-stream"

// stream is the state of a client of server-sent events (HTML Standard, section 9.2.6).
type stream struct {
	lastID   string
	retry    time.Duration
	comments int
	flat     bool
}

// LastID returns the last id in a stream, which EventSource sends back.
func (c *Client) LastID() string { return c.stream.lastID }

// Retry returns the last reconnection time in a stream.
func (c *Client) Retry() time.Duration { return c.stream.retry }

// Comments returns how many comments a stream has sent. EventSource ignores them.
func (c *Client) Comments() int { return c.stream.comments }

// Streams reports whether the client has a stream of server-sent events and not a WebSocket.
func (c *Client) Streams() bool { return c.stream != nil }

// Flatten makes Next return the events of a stream without their envelope, as WebSockets without a
// subprotocol get them.
func (c *Client) Flatten() { c.stream.flat = true }

// nextEvent returns the data of the next event. The event "close" is an error that is a
// [*ClosedError].
func (c *Client) nextEvent() (string, error) {
	var name string
	var data []string
	for {
		c.extend()
		line, err := c.br.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("stream ended: %w", err) // an incomplete event does not count
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" && data != nil {
			return c.dispatch(name, strings.Join(data, "\n"))
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			name = ""
		case field == "":
			c.stream.comments++
		case field == "event":
			name = value
		case field == "data":
			data = append(data, value)
		case field == "id":
			c.stream.lastID = value
		case field == "retry":
			ms, err := strconv.Atoi(value)
			if err != nil {
				return "", fmt.Errorf("retry: %w", err)
			}
			c.stream.retry = time.Duration(ms) * time.Millisecond
		default:
			return "", fmt.Errorf("unexpected line %q", line)
		}
	}
}

func (c *Client) dispatch(name, data string) (string, error) {
	switch name {
	case "":
	case "close":
		var end ClosedError
		if err := json.Unmarshal([]byte(data), &end); err != nil {
			return "", err
		}
		return "", &end
	default:
		return "", fmt.Errorf("unexpected event %q", name)
	}
	if event, ok := strings.CutPrefix(data, `{"event":`); ok && c.stream.flat {
		return event[:strings.LastIndex(event, `,"group":"`)], nil // the group follows the event, as the protocol says
	}
	return data, nil
}
