package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// streamRequest returns the HTTP request that opens a stream of server-sent events and names the
// groups. path is that of the WebSocket.
func streamRequest(host, path, origin, cookie string, groups []string) ([]byte, error) {
	all := make(map[string]struct{}, len(groups))
	for _, name := range groups {
		all[name] = struct{}{}
	}
	body, err := json.Marshal(map[string]any{"type": "subscribe", "groups": all})
	if err != nil {
		return nil, fmt.Errorf("subscribe frame: %w", err)
	}
	method := http.MethodPost
	if len(groups) == 0 {
		method, body = http.MethodGet, nil
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\n", method, strings.Replace(path, "/ws/", "/sse/", 1), host, origin)
	if cookie != "" {
		fmt.Fprintf(&b, "Cookie: %s\r\n", cookie)
	}
	if len(body) > 0 {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	return append(b.Bytes(), body...), nil
}

// nextEvent parses the server-sent event at the start of b like a frame: the last one, "close", is
// a close frame, a comment is a pong, and all others are texts.
func nextEvent(b []byte) (f frame, n int, err error) {
	end := bytes.Index(b, []byte("\n\n"))
	if end < 0 {
		return frame{}, 0, nil
	}
	f = frame{final: true, opcode: opPong}
	for block := b[:end]; len(block) > 0; {
		line, rest, _ := bytes.Cut(block, []byte("\n"))
		block = rest
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			if f.payload != nil { // the events of a load have one line
				return frame{}, 0, errFrame
			}
			f.payload = value
			if f.opcode == opPong {
				f.opcode = opText
			}
		case "event":
			if string(value) != "close" {
				return frame{}, 0, errFrame
			}
			f.opcode = opClose
		case "", "id", "retry":
		default:
			return frame{}, 0, errFrame
		}
	}
	if f.opcode == opClose {
		var closed struct{ Code uint16 }
		if json.Unmarshal(f.payload, &closed) != nil {
			return frame{}, 0, errFrame
		}
		f.payload = binary.BigEndian.AppendUint16(nil, closed.Code)
	}
	return f, end + 2, nil
}

// parseStream reads the head of the response that is a stream. n is its length, 0 if b does not
// hold all of it yet.
func parseStream(b []byte) (n int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > maxResponse {
			return 0, fmt.Errorf("handshake: no end of response after %d bytes", len(b))
		}
		return 0, nil
	}
	_, status, _ := strings.Cut(string(b[:min(end, 40)]), " ")
	status, _, _ = strings.Cut(status, " ")
	code, err := strconv.Atoi(status)
	switch {
	case err != nil:
		return 0, fmt.Errorf("handshake: not an HTTP response: %.40q", b)
	case code != http.StatusOK:
		return 0, &refusal{code: code}
	}
	return end + 4, nil
}
