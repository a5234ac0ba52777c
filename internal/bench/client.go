package bench

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// state is the state of a connection.
type state uint8

const (
	closed      state = iota
	connecting        // TCP
	securing          // TLS
	upgrading         // request sent, response not complete
	subscribing       // waits for welcome, or for answers to its subscriptions
	ready             // every group confirmed
)

// client is one connection, a WebSocket or a stream of server-sent events. It is a record of a few
// hundred bytes, without a goroutine or buffers. One loop owns it after construction.
type client struct {
	// Fixed after construction.
	index       int // among all connections
	key         int32
	org         *organization
	server      *server
	request     []byte // the request that opens it
	memberships []membership
	// stalled says that it stops reading as soon as it is ready.
	stalled bool

	state      state
	fd         int
	secure     *secure                // of this socket; nil without TLS
	sessions   tls.ClientSessionCache // of all its sockets; nil if none is resumed
	generation int32                  // counts sockets, so that an event for an earlier one is recognized
	deflated   bool                   // permessage-deflate was agreed
	started    int64                  // when it began to connect
	awaiting   int                    // subscriptions without answer
	partial    []byte
	fragments  []byte // of a fragmented message
	fragment   frame  // the first frame of that message, without payload
	out        []byte // what the socket has not taken yet
}

// webSocketKey is the key of every handshake. It need not be random, because there is no cache in
// between. acceptValue is its answer (RFC 6455, section 1.3).
const (
	webSocketKey = "dGhlIHNhbXBsZSBub25jZQ=="
	acceptValue  = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

	// subprotocol is the one for which the server sends welcome frames.
	subprotocol = "orgcast.v1"

	deflateOffer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

	// maxResponse is the longest response to an upgrade request, in bytes.
	maxResponse = 16 << 10
)

// upgradeRequest returns the HTTP request that opens a connection.
func upgradeRequest(host, path, origin, cookie string, compress bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", path, host)
	fmt.Fprintf(&b, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: %s\r\n",
		webSocketKey, subprotocol)
	fmt.Fprintf(&b, "Origin: %s\r\n", origin)
	if cookie != "" {
		fmt.Fprintf(&b, "Cookie: %s\r\n", cookie)
	}
	if compress {
		fmt.Fprintf(&b, "Sec-WebSocket-Extensions: %s\r\n", deflateOffer)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// opening returns the request that opens the connection.
func (c *client) opening(path, cookie string, o *Options) ([]byte, error) {
	host, origin := c.server.url.Host, cmp.Or(o.Origin, c.server.origin)
	if !o.SSE {
		return upgradeRequest(host, path, origin, cookie, o.Compress), nil
	}
	groups := make([]string, len(c.memberships))
	for i := range c.memberships {
		groups[i] = c.memberships[i].room.group.Name()
	}
	return streamRequest(host, path, origin, cookie, groups)
}

// refusal is an answer to an upgrade request that is not an upgrade, or a close frame before the
// connection was ready.
type refusal struct {
	code   int
	reason string // the gateway's code for it, if the answer has one
}

// refusalReason matches it.
var refusalReason = regexp.MustCompile(`"code":"([a-z_]{1,40})"`)

func (r *refusal) Error() string {
	if r.code < 1000 {
		return strings.TrimSpace(fmt.Sprintf("handshake refused: %d %s %s", r.code, http.StatusText(r.code), r.reason)) + r.hint()
	}
	return fmt.Sprintf("closed with %d during the handshake", r.code)
}

// hint says which setting to look at.
func (r *refusal) hint() string {
	if r.reason == "handshake_rate" {
		return " (see --handshakes-per-second of the gateway, or open fewer at a time: --parallel)"
	}
	switch r.code {
	case http.StatusUnauthorized:
		return " (sessions must match those of the gateway: --session-store, --session-cookie, --session-keys, --redis)"
	case http.StatusForbidden:
		return " (either --origin is not in --origins of the gateway, or it does not run with --directory=session)"
	case http.StatusNotFound:
		return " (no such path: see --url)"
	default:
		return ""
	}
}

// permanent reports whether trying again is pointless.
func (r *refusal) permanent() bool {
	switch r.code {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, 1001, 1006, 1012, 1013, 4408, 4429:
		return false
	default:
		return true
	}
}

// parseUpgrade parses the response to an upgrade request. n is its length, 0 if b does not contain
// all of it yet.
func parseUpgrade(b []byte) (n int, deflated bool, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > maxResponse {
			return 0, false, fmt.Errorf("handshake: no end of response after %d bytes", len(b))
		}
		return 0, false, nil
	}
	status, header, _ := strings.Cut(string(b[:end]), "\r\n")
	_, status, _ = strings.Cut(status, " ")
	status, _, _ = strings.Cut(status, " ")
	code, err := strconv.Atoi(status)
	if err != nil {
		return 0, false, fmt.Errorf("handshake: not an HTTP response: %.40q", b)
	}
	if code != http.StatusSwitchingProtocols {
		r := &refusal{code: code}
		if m := refusalReason.FindSubmatch(b[end:]); m != nil {
			r.reason = string(m[1])
		}
		return 0, false, r
	}
	accepted := false
	for line := range strings.SplitSeq(header, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch http.CanonicalHeaderKey(name) {
		case "Sec-Websocket-Accept":
			accepted = value == acceptValue
		case "Sec-Websocket-Extensions":
			deflated = strings.HasPrefix(value, "permessage-deflate")
			if deflated && !strings.Contains(value, "server_no_context_takeover") {
				return 0, false, fmt.Errorf("handshake: the server requires %q", value)
			}
		}
	}
	if !accepted {
		return 0, false, fmt.Errorf("handshake: wrong Sec-WebSocket-Accept")
	}
	return end + 4, deflated, nil
}

// membership returns the membership of the room with this number, or nil.
func (c *client) membership(number int64) *membership {
	for i := range c.memberships {
		if c.memberships[i].room.number == number {
			return &c.memberships[i]
		}
	}
	return nil
}

// membershipByName returns the membership of the group called name, or nil.
func (c *client) membershipByName(name string) *membership {
	for i := range c.memberships {
		if c.memberships[i].room.group.Name() == name {
			return &c.memberships[i]
		}
	}
	return nil
}

// subscriptions returns the frames that join all groups.
func (c *client) subscriptions() []byte {
	var b []byte
	for i := range c.memberships {
		name := c.memberships[i].room.group.Name()
		b = appendClientFrame(b, opText, []byte(`{"type":"subscribe","group":"`+name+`"}`))
	}
	return b
}
