package sse_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/sse"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func newCarrier() *sse.Carrier {
	return sse.New(sse.Options{MaxBody: 1 << 10, WriteTimeout: 10 * time.Second, AckTimeout: 35 * time.Second})
}

// newEvent returns an event of a group of acme with this payload, recorded at a position unless it
// is empty.
func newEvent(tb testing.TB, group, position, payload string) *event.Event {
	tb.Helper()
	org, err := orgctx.ParseID("acme")
	if err != nil {
		tb.Fatal(err)
	}
	g, err := event.NewGroup(org, group)
	if err != nil {
		tb.Fatal(err)
	}
	var head event.Head
	if position != "" {
		if head.Position, err = event.ParsePosition(position); err != nil {
			tb.Fatal(err)
		}
	}
	e, err := event.DecodeObject(g, head, payload, 1<<20, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// received parses the bytes of a stream as a client does: each event with its name, id and data.
func received(tb testing.TB, stream string) (list []string) {
	tb.Helper()
	blocks := strings.Split(stream, "\n\n")
	if blocks[len(blocks)-1] != "" {
		tb.Errorf("the last event is not complete: %q", stream)
	}
	for _, block := range blocks[:len(blocks)-1] {
		var name, id, data string
		for line := range strings.SplitSeq(block, "\n") {
			field, value, _ := strings.Cut(line, ": ")
			switch field {
			case "event":
				name += value
			case "id":
				id = value
			case "data":
				data += value + "\n"
			case "retry":
				name = "retry " + value + " " + name
			default:
				tb.Errorf("unexpected line %q", line)
			}
		}
		list = append(list, strings.TrimSpace(name+" "+id+" "+strings.TrimSpace(data)))
	}
	return list
}

// TestEveryLineEndOfAPayload: a payload may have line ends between its parts, and a client reads
// the same JSON.
func TestEveryLineEndOfAPayload(t *testing.T) {
	encoding, _ := newCarrier().Encodings()
	for _, end := range []string{"", "\n", "\r", "\r\n", "\n\n", "\n\r\n", "\nid: 9-9\n", "\r\rdata: x"} {
		payload := `{"type":"note","organization_id":"acme",` + end + `"text":"a\r\nb"` + end + `}`
		if strings.Contains(end, ":") { // not JSON, so it is not an event
			payload = `{"type":"note","organization_id":"acme","text":` + fmt.Sprintf("%q", end) + `}`
		}
		stream := string(newEvent(t, "all", "5-1", payload).Alone().Bytes(event.Plain, encoding))
		if strings.Contains(stream, "\r") || strings.Count(stream, "\n\n") != 1 {
			t.Errorf("%q: got %q, want one event without carriage returns", payload, stream)
		}
		id, data := "", ""
		for line := range strings.SplitSeq(strings.TrimSuffix(stream, "\n\n"), "\n") {
			field, value, _ := strings.Cut(line, ": ")
			if field == "id" {
				id = value
			}
			if field == "data" {
				data += value + "\n"
			}
		}
		var got, want any
		if err := json.Unmarshal([]byte(data), &got); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if err := json.Unmarshal([]byte(payload), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || id != "5-1" {
			t.Errorf("%q: id %q, data (-want +got):\n%s", payload, id, diff)
		}
	}
}

// TestEventsThatWereNotRecordedHaveNoID: a transient event does not change the client's place.
func TestEventsThatWereNotRecordedHaveNoID(t *testing.T) {
	encoding, _ := newCarrier().Encodings()
	stream := string(newEvent(t, "all", "", `{"type":"note","organization_id":"acme"}`).Alone().Bytes(event.Plain, encoding))
	if strings.Contains(stream, "id:") || !strings.HasPrefix(stream, "data: ") {
		t.Errorf("got %q", stream)
	}
}

func TestCloseFrame(t *testing.T) {
	for reason, want := range map[string]string{
		"session ended":           `close  {"code":4401,"reason":"session ended"}`,
		`{"retry":"once"}`:        `close  {"code":4401,"reason":"{\"retry\":\"once\"}"}`,
		`{"retry_after_ms":1500}`: `retry 1500 close  {"code":4401,"reason":"{\"retry_after_ms\":1500}"}`,
		"line\nend\rof\x00both":   `close  {"code":4401,"reason":"line\nend\rof\u0000both"}`,
		"":                        `close  {"code":4401,"reason":""}`,
	} {
		if diff := cmp.Diff([]string{want}, received(t, string(newCarrier().CloseFrame(4401, reason)))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", reason, diff)
		}
	}
}

// recorder is a connection that takes everything.
type recorder struct {
	net.Conn
	bytes.Buffer
	writes []int
}

func (r *recorder) Write(b []byte) (int, error) {
	r.writes = append(r.writes, len(b))
	return r.Buffer.Write(b)
}

func (r *recorder) Read(b []byte) (int, error)     { return r.Buffer.Read(b) }
func (*recorder) SetWriteDeadline(time.Time) error { return nil }

// sending is a stream whose bytes are kept.
type sending struct {
	tb     testing.TB
	stream *sse.Stream
	to     *recorder
}

func newSending(tb testing.TB, groups ...string) sending {
	tb.Helper()
	to := new(recorder)
	return sending{tb, newCarrier().NewStream(to, groups...), to}
}

// frame sends a frame with these fields.
func (s sending) frame(kind, group, id string) {
	s.tb.Helper()
	text := fmt.Sprintf(`{"type":%q,"group":%q}`, kind, group)
	if id != "" {
		text = fmt.Sprintf(`{"type":%q,"group":%q,"id":%q}`, kind, group, id)
	}
	if err := s.stream.WriteFrame(newCarrier().Frame([]byte(text))); err != nil {
		s.tb.Fatal(err)
	}
}

// events sends events of one group.
func (s sending) events(list ...*event.Event) {
	s.tb.Helper()
	b, rest := event.NewBurst(list, 1<<30)
	if len(rest) > 0 {
		s.tb.Fatal("the burst is not whole")
	}
	if err := s.stream.WriteEvents(b, event.Enveloped); err != nil {
		s.tb.Fatal(err)
	}
}

// expect compares what the client got.
func (s sending) expect(want ...string) {
	s.tb.Helper()
	if diff := cmp.Diff(want, received(s.tb, s.to.String())); diff != "" {
		s.tb.Errorf("events (-want +got):\n%s", diff)
	}
}

func note(tb testing.TB, group, position string, n int) *event.Event {
	tb.Helper()
	return newEvent(tb, group, position, fmt.Sprintf(`{"type":"note","organization_id":"acme","n":%d}`, n))
}

// TestIDsOfSeveralGroups: each id contains the marks of all the client's groups, in the order of
// its URL.
func TestIDsOfSeveralGroups(t *testing.T) {
	s := newSending(t, "b", "a", "c", "a")
	s.frame("subscribed", "a", "5-1")
	s.frame("subscribed", "b", "0-0.Ep0ch")
	s.frame("subscribed", "foreign", "6-1")
	s.frame("note", "a", "9-9")
	s.events(note(t, "a", "5-2", 1), note(t, "a", "", 2), note(t, "a", "5-3", 3))
	s.events(note(t, "b", "7-1", 4))
	s.frame("subscribed", "a", "") // Redis has lost its history: so must the client
	s.expect(
		`,5-1, {"type":"subscribed","group":"a","id":"5-1"}`,
		`0-0.Ep0ch,5-1, {"type":"subscribed","group":"b","id":"0-0.Ep0ch"}`,
		`{"type":"subscribed","group":"foreign","id":"6-1"}`,
		`{"type":"note","group":"a","id":"9-9"}`,
		`0-0.Ep0ch,5-2, {"event":{"type":"note","organization_id":"acme","n":1},"group":"a","id":"5-2"}`,
		`{"event":{"type":"note","organization_id":"acme","n":2},"group":"a"}`,
		`0-0.Ep0ch,5-3, {"event":{"type":"note","organization_id":"acme","n":3},"group":"a","id":"5-3"}`,
		`7-1,5-3, {"event":{"type":"note","organization_id":"acme","n":4},"group":"b","id":"7-1"}`,
		`7-1,, {"type":"subscribed","group":"a"}`,
	)
}

// TestIDsOfOneGroup: the client forgets its mark if the gateway has none for it.
func TestIDsOfOneGroup(t *testing.T) {
	s := newSending(t, "a")
	s.frame("subscribed", "a", "5-1")
	s.events(note(t, "a", "5-2", 1))
	s.frame("subscribed", "a", "")
	if got, want := s.to.String(), "id: 5-1\ndata: {\"type\":\"subscribed\",\"group\":\"a\",\"id\":\"5-1\"}\n\n"+
		"id: 5-2\ndata: {\"event\":{\"type\":\"note\",\"organization_id\":\"acme\",\"n\":1},\"group\":\"a\",\"id\":\"5-2\"}\n\n"+
		"id: \ndata: {\"type\":\"subscribed\",\"group\":\"a\"}\n\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestForeignPlaces: an event of a group that the query does not name, or one that a consumer shows
// again, has no id. Otherwise its position would be taken for the mark of a group in the query,
// whose missed events would then be lost.
func TestForeignPlaces(t *testing.T) {
	encoding, _ := newCarrier().Encodings()
	for name, groups := range map[string][]string{"one group": {"a"}, "two groups": {"a", "b"}} {
		t.Run(name, func(t *testing.T) {
			s := newSending(t, groups...)
			s.events(note(t, "user.ada", "9-1", 1))
			if err := s.stream.WriteFrame(note(t, "a", "4-1", 2).Alone().Bytes(event.Enveloped, encoding)); err != nil {
				t.Fatal(err)
			}
			s.expect(
				`{"event":{"type":"note","organization_id":"acme","n":1},"group":"user.ada","id":"9-1"}`,
				`{"event":{"type":"note","organization_id":"acme","n":2},"group":"a","id":"4-1"}`,
			)
		})
	}
	t.Run("POST", func(t *testing.T) { // whose client puts each position where it belongs
		s := newSending(t)
		s.events(note(t, "user.ada", "9-1", 1))
		s.expect(`9-1 {"event":{"type":"note","organization_id":"acme","n":1},"group":"user.ada","id":"9-1"}`)
	})
}

// TestManyIDsAtOnce: a client of many groups gets ids that are longer than the events. They are
// made and written in pieces, so that at most one piece is held for a slow client.
func TestManyIDsAtOnce(t *testing.T) {
	groups := make([]string, 100)
	for i := range groups {
		groups[i] = fmt.Sprint("room.", i)
	}
	s := newSending(t, groups...)
	for _, g := range groups {
		s.frame("subscribed", g, "1732358911000-0")
	}
	list := make([]*event.Event, 1000)
	for i := range list {
		list[i] = note(t, "room.7", fmt.Sprintf("1732358911001-%d", i), i)
	}
	s.to.writes = nil
	s.events(list...)
	if total, largest := s.to.Len(), slices.Max(s.to.writes); total < 1_500_000 || largest > sse.PieceSize+4<<10 {
		t.Errorf("got %d bytes in writes of up to %d, want more than 1.5 MB in pieces of %d", total, largest, sse.PieceSize)
	}
}

// TestClientsShareBytes: clients of one group share bytes, and so do clients that track positions
// themselves.
func TestClientsShareBytes(t *testing.T) {
	encoding, _ := newCarrier().Encodings()
	b := note(t, "a", "5-1", 1).Alone()
	shared := string(b.Bytes(event.Enveloped, encoding))
	for name, groups := range map[string][]string{"POST": nil, "GET": {"a"}} {
		s := newSending(t, groups...)
		if err := s.stream.WriteEvents(b, event.Enveloped); err != nil {
			t.Fatal(err)
		}
		if got := s.to.String(); got != shared {
			t.Errorf("%s: got %q, want %q", name, got, shared)
		}
		if allocs := testing.AllocsPerRun(100, func() {
			s.to.Reset()
			s.to.writes = s.to.writes[:0]
			_ = s.stream.WriteEvents(b, event.Enveloped)
		}); allocs > 0 {
			t.Errorf("%s: %v allocations for each client, want none", name, allocs)
		}
	}
}
