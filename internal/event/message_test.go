package event_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/event"
	"orgcast/internal/socket"
)

// readFrame parses a WebSocket frame by hand, after RFC 6455 section 5.2, and allows no further
// bytes.
func readFrame(tb testing.TB, frame []byte) (payload []byte) {
	tb.Helper()
	if len(frame) < 2 {
		tb.Fatalf("frame: got %d bytes, want 2 at least", len(frame))
	}
	if frame[0] != 0x81 {
		tb.Fatalf("first byte: got %#x, want 0x81: final, text", frame[0])
	}
	if frame[1]&0x80 != 0 {
		tb.Fatal("a server's frame is masked")
	}
	size, rest := int(frame[1]), frame[2:]
	var extended int
	switch size {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	if extended > 0 {
		if len(rest) < extended {
			tb.Fatalf("length: got %d bytes, want %d", len(rest), extended)
		}
		size = 0
		for _, b := range rest[:extended] {
			size = size<<8 | int(b)
		}
		rest = rest[extended:]
		if least := map[int]int{2: 126, 8: 65536}[extended]; size < least {
			tb.Fatalf("length %d is not in its shortest form", size)
		}
	}
	if len(rest) != size {
		tb.Fatalf("payload: got %d bytes, want %d as the header says", len(rest), size)
	}
	return rest
}

func mustFrame(tb testing.TB, frame []byte, payload string) {
	tb.Helper()
	if got := string(readFrame(tb, frame)); got != payload {
		tb.Errorf("frame's payload: got %q, want %q", got, payload)
	}
}

func TestFrameHeaders(t *testing.T) {
	g := mustGroup(t, "7", "room")
	for size, header := range map[int]int{60: 2, 125: 2, 126: 4, 127: 4, 65535: 4, 65536: 10, 70000: 10} {
		e, err := event.Decode(g, sized(size), 1<<20, time.Time{})
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		mustFrame(t, frameOf(e), sized(size))
		if got := len(frameOf(e)) - size; got != header {
			t.Errorf("%d bytes: header of %d bytes, want %d", size, got, header)
		}

		mustFrame(t, socket.TextFrame([]byte(strings.Repeat("x", size))), strings.Repeat("x", size))
	}
	if diff := cmp.Diff([]byte{0x81, 1, '0'}, socket.TextFrame([]byte("0"))); diff != "" {
		t.Errorf("smallest frame (-want +got):\n%s", diff)
	}
}

func TestMarshal(t *testing.T) {
	for name, test := range map[string]struct {
		value any
		want  string
	}{
		"object":            {map[string]any{"type": "pong"}, `{"type":"pong"}`},
		"markup is text":    {map[string]any{"m": "<b>&"}, `{"m":"<b>&"}`},
		"newline at an end": {"a\n", `"a\n"`},
		"not UTF-8":         {"\xff", "\"\\ufffd\""},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := event.Marshal(test.value)
			if err != nil || string(text) != test.want {
				t.Errorf("got %s, %v, want %s", text, err, test.want)
			}
		})
	}
	if _, err := event.Marshal(math.NaN()); err == nil {
		t.Error("Marshal NaN: got nil, want an error")
	}
}

var messages = map[string]struct {
	frame    event.RawMessage
	wantType string
	want     error
}{
	"ping":              {event.RawMessage{Data: []byte(`{"type":"ping"}`)}, "ping", nil},
	"no type":           {event.RawMessage{Data: []byte(`{"message":"hi"}`)}, "", nil},
	"type no text":      {event.RawMessage{Data: []byte(`{"type":7}`)}, "", nil},
	"escaped type":      {event.RawMessage{Data: []byte(`{"t\u0079pe":"\u0070ing"}`)}, "ping", nil},
	"nested type":       {event.RawMessage{Data: []byte(`{"a":{"type":"ping"}}`)}, "", nil},
	"binary":            {event.RawMessage{Binary: true, Data: []byte(`{"type":"ping"}`)}, "", event.ErrNotObject},
	"empty":             {event.RawMessage{}, "", event.ErrNotObject},
	"array":             {event.RawMessage{Data: []byte(`["ping"]`)}, "", event.ErrNotObject},
	"null":              {event.RawMessage{Data: []byte(`null`)}, "", event.ErrNotObject},
	"text":              {event.RawMessage{Data: []byte(`ping`)}, "", event.ErrNotObject},
	"trailing bytes":    {event.RawMessage{Data: []byte(`{"type":"ping"} x`)}, "", event.ErrNotObject},
	"two types":         {event.RawMessage{Data: []byte(`{"type":"ping","type":"edit"}`)}, "", event.ErrDuplicateField},
	"two types escaped": {event.RawMessage{Data: []byte(`{"type":"ping","typ\u0065":"edit"}`)}, "", event.ErrDuplicateField},
	"two organizations": {event.RawMessage{Data: []byte(`{"type":"ping","organization_id":1,"organization_id":2}`)}, "", event.ErrDuplicateField},
}

func TestParseMessage(t *testing.T) {
	for name, test := range messages {
		t.Run(name, func(t *testing.T) {
			m, err := event.ParseMessage(test.frame)
			if !errors.Is(err, test.want) || m.Type != test.wantType {
				t.Fatalf("got %q, %v, want %q, %v", m.Type, err, test.wantType, test.want)
			}
		})
	}
}

func TestMessageDecode(t *testing.T) {
	m, err := event.ParseMessage(event.RawMessage{Data: []byte(`{"type":"user_message","message":"hi","agent_id":3,"unknown":[]}`)})
	if err != nil {
		t.Fatal(err)
	}
	type fields struct {
		Message string `json:"message"`
		AgentID int    `json:"agent_id"`
	}
	var got fields
	if err := m.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fields{Message: "hi", AgentID: 3}, got); diff != "" {
		t.Errorf("fields differ (-want +got):\n%s", diff)
	}
	var wrong struct {
		Message int `json:"message"`
	}
	if err := m.Decode(&wrong); err == nil {
		t.Error("Decode text into a number: got nil, want an error")
	}
}

// FuzzParseMessage compares ParseMessage with encoding/json.
func FuzzParseMessage(f *testing.F) {
	for _, seed := range messages {
		f.Add(seed.frame.Binary, seed.frame.Data)
	}
	for _, seed := range payloads {
		f.Add(false, []byte(seed.payload))
	}
	f.Fuzz(func(t *testing.T, binary bool, data []byte) {
		m, err := event.ParseMessage(event.RawMessage{Binary: binary, Data: data})
		fields, duplicate, isObject := topLevel(string(data))
		var want error
		switch {
		case binary || !isObject:
			want = event.ErrNotObject
		case duplicate:
			want = event.ErrDuplicateField
		}
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
		if err != nil {
			return
		}
		// encoding/json turns bytes that are not UTF-8 into U+FFFD. The gateway refuses them
		// earlier.
		if typ, _ := fields["type"].(string); strings.ToValidUTF8(m.Type, "\ufffd") != strings.ToValidUTF8(typ, "\ufffd") && !strings.Contains(typ, "\ufffd") {
			t.Fatalf("type: got %q, want %q", m.Type, typ)
		}
		var all map[string]any
		if err := m.Decode(&all); err != nil && json.Unmarshal(data, &all) == nil {
			t.Fatalf("Decode: %v", err)
		}
	})
}
