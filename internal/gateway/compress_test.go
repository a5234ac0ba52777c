package gateway_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// rsv1 marks a compressed message (RFC 7692, section 6), as it stands in testkit.Frame.
const rsv1 = 4

const deflateOffer = "permessage-deflate; client_max_window_bits" // what Chromium and Firefox say

func offering(extensions ...string) http.Header {
	return http.Header{"Sec-Websocket-Extensions": extensions}
}

// connectDeflate connects a client with which compression is agreed, and joins groups.
func (n *node) connectDeflate(user, org string, groups ...string) *testkit.Client {
	n.tb.Helper()
	c, answer := testkit.Try(n.tb, n.dial, n.handshake("/ws/events", user, org, offering(deflateOffer)))
	if c == nil || !strings.HasPrefix(answer.Header.Get("Sec-Websocket-Extensions"), "permessage-deflate") {
		n.tb.Fatalf("handshake: got %v, want permessage-deflate", answer)
	}
	c.RSV = rsv1
	for _, g := range groups {
		if err := c.SendText(`{"type":"subscribe","group":"` + g + `"}`); err != nil {
			n.tb.Fatal(err)
		}
		expectMessage(n.tb, c, `{"type":"subscribed","group":"`+g+`"}`, false)
	}
	return c
}

// expectMessage reads a frame, inflates it if it is compressed, and compares.
func expectMessage(tb testing.TB, c *testkit.Client, want string, compressed bool) {
	tb.Helper()
	f, err := c.ReadFrame()
	if err != nil {
		tb.Fatal(err)
	}
	if got := f.RSV == rsv1; got != compressed {
		tb.Errorf("compressed: got %t, want %t", got, compressed)
	}
	payload := f.Payload
	if f.RSV == rsv1 {
		if payload, err = inflate(payload); err != nil {
			tb.Fatal(err)
		}
	}
	if string(payload) != want {
		tb.Fatalf("got %.200q, want %.200q", payload, want)
	}
}

// inflate undoes the compression of one message on its own (RFC 7692, section 7.2.2).
func inflate(b []byte) ([]byte, error) {
	return io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(b), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
}

// deflated makes the compressed frame of a client.
func deflated(tb testing.TB, text string) testkit.Frame {
	tb.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		tb.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	return testkit.Frame{Opcode: testkit.OpText, RSV: rsv1, Payload: bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))}
}

// TestCompressionAgreed: compression takes an option and an offer that we can keep, and then has
// no context takeover in either direction.
func TestCompressionAgreed(t *testing.T) {
	tests := map[string]struct {
		off   bool
		offer []string
		want  bool
	}{
		"switched off":               {true, []string{deflateOffer}, false},
		"not offered":                {false, nil, false},
		"other extension":            {false, []string{"x-webkit-deflate-frame"}, false},
		"plain":                      {false, []string{"permessage-deflate"}, true},
		"browser":                    {false, []string{deflateOffer}, true},
		"no takeover":                {false, []string{"permessage-deflate; server_no_context_takeover; client_no_context_takeover"}, true},
		"window that we cannot keep": {false, []string{"permessage-deflate; server_max_window_bits=10"}, false},
		"unknown parameter":          {false, []string{"permessage-deflate; color=red"}, false},
		"second offer":               {false, []string{"permessage-deflate; server_max_window_bits=10, permessage-deflate"}, true},
		"two headers":                {false, []string{"x-other", "permessage-deflate"}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, setup{options: gateway.Options{Compress: !test.off}})
			c, answer := testkit.Try(t, n.dial, n.handshake("/ws/events", "ada", "acme", offering(test.offer...)))
			if c == nil {
				t.Fatalf("handshake: got %v, want an upgrade", answer)
			}
			got := answer.Header.Get("Sec-Websocket-Extensions")
			if (got != "") != test.want {
				t.Fatalf("agreed: got %q, want agreement %t", got, test.want)
			}
			if test.want && (!strings.Contains(got, "server_no_context_takeover") || !strings.Contains(got, "client_no_context_takeover")) {
				t.Errorf("agreed: got %q, want no context takeover", got)
			}
			if err := c.SendText(`{"type":"subscribe","group":"all"}`); err != nil {
				t.Fatal(err)
			}
			c.Expect(t, `{"type":"subscribed","group":"all"}`)
			if test.want {
				c.RSV = rsv1
			}
			expectMessage(t, c, n.publish("acme", "all", strings.Repeat("long ", 500)), test.want)
		})
	}
}

// TestCompressedEvents: in one group those that agreed get large events compressed, the others as
// they are, and all the same.
func TestCompressedEvents(t *testing.T) {
	n := startNode(t, setup{options: gateway.Options{Compress: true}})
	packed, again, plain := n.connectDeflate("ada", "acme", "all"), n.connectDeflate("ada", "acme", "all"), n.subscribe("alan", "acme", "all")
	foreign := n.connectDeflate("grace", "globex", "all")
	for _, test := range []struct {
		text       string
		compressed bool
	}{
		{"small", false},
		{strings.Repeat("large ", 200), true},
		{strings.Repeat("very large ", 10000), true},
		{"small again", false},
	} {
		want := n.publish("acme", "all", test.text)
		expectMessage(t, packed, want, test.compressed)
		expectMessage(t, again, want, test.compressed)
		plain.Expect(t, want)
	}
	want := n.publish("globex", "all", strings.Repeat("own ", 500))
	expectMessage(t, foreign, want, true)
}

// TestCompressedBursts: many events of one moment, small and large, through the joined writes of a
// large group.
func TestCompressedBursts(t *testing.T) {
	n := startNode(t, setup{options: gateway.Options{Compress: true, Membership: everybody{}}})
	const members, events = 40, 60 // more members than are served on the spot
	var packed, plain []*testkit.Client
	for i := range members {
		if i%2 == 0 {
			packed = append(packed, n.connectDeflate(fmt.Sprint("u", i), "acme", "all"))
		} else {
			plain = append(plain, n.subscribe(fmt.Sprint("u", i), "acme", "all"))
		}
	}
	g := mustGroup(t, "acme", "all")
	numbered := newNumbers(t)
	want := make([]*event.Event, events)
	for i := range want {
		want[i] = numbered.event(g, "note", []int{10, 2000, 300, 40000}[i%4])
	}
	for _, e := range want {
		n.hub.Deliver(e)
	}
	for _, e := range want {
		for _, c := range packed {
			expectMessage(t, c, string(e.Payload()), len(e.Payload()) >= 512)
		}
		for _, c := range plain {
			expectMessage(t, c, string(e.Payload()), false)
		}
	}
	n.expectMetric(members*events, "orgcast_deliveries_total")
}

// TestCompressedInput: messages of a client may be compressed, in fragments, too; limits count what
// they become.
func TestCompressedInput(t *testing.T) {
	n := startNode(t, setup{options: gateway.Options{Compress: true, MaxFrame: 10000}})
	c := n.connectDeflate("ada", "acme", "all")
	for name, frames := range map[string][]testkit.Frame{
		"compressed":        {deflated(t, `{"type":"ping"}`)},
		"plain":             {text(`{"type":"ping"}`)},
		"large, compressed": {deflated(t, `{"type":"ping","pad":"`+strings.Repeat("x", 9900)+`"}`)},
		"in fragments":      split(deflated(t, `{"type":"ping"}`)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.Send(frames...); err != nil {
				t.Fatal(err)
			}
			expectMessage(t, c, `{"type":"pong"}`, false)
		})
	}

	// Data that were cut off cannot be told from shorter ones: they are a message that makes no
	// sense, and the next is read as if nothing had been.
	truncated := deflated(t, `{"type":"ping","pad":"hello, world"}`)
	truncated.Payload = truncated.Payload[:len(truncated.Payload)-5]
	if err := c.Send(truncated, deflated(t, `{"type":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Next(); err != nil || !strings.Contains(got, "bad_message") {
		t.Fatalf("got %s, %v, want an error frame", got, err)
	}
	expectMessage(t, c, `{"type":"pong"}`, false)

	other := n.subscribe("alan", "acme", "all")
	bomb := deflated(t, strings.Repeat(" ", 4<<20))
	if len(bomb.Payload) > 100<<10 {
		t.Fatalf("the bomb has %d bytes", len(bomb.Payload))
	}
	broken := deflated(t, `{"type":"ping"}`)
	broken.Payload = []byte{0xff, 0xff, 0xff, 0xff, 0xff}
	bad := deflated(t, "{\"type\":\"\xff\"}")
	over := deflated(t, strings.Repeat("x", 10001))
	for name, test := range map[string]struct {
		frame testkit.Frame
		codes []int
	}{
		"zip bomb":            {bomb, []int{1009}},
		"one byte too many":   {over, []int{1009}},
		"no deflate data":     {broken, []int{1002, 1007}},
		"not UTF-8 inside":    {bad, []int{1007}},
		"binary, compressed":  {testkit.Frame{Opcode: testkit.OpBinary, RSV: rsv1, Payload: over.Payload[:0]}, []int{1002, 1003}},
		"RSV1 on a ping":      {testkit.Frame{Opcode: testkit.OpPing, RSV: rsv1}, []int{1002}},
		"RSV1 on a fragment":  {testkit.Frame{Opcode: testkit.OpContinuation, RSV: rsv1}, []int{1002}},
		"other reserved bits": {testkit.Frame{Opcode: testkit.OpText, RSV: 2}, []int{1002}},
	} {
		t.Run(name, func(t *testing.T) {
			victim := n.connectDeflate("ada", "acme", "all")
			go func() { _ = victim.Send(test.frame) }() // the server may stop reading before the end
			_, err := victim.Next()
			_ = victim.Close()
			closed, ok := errors.AsType[*testkit.ClosedError](err)
			if !ok {
				t.Fatalf("got %v, want a close frame with one of %v", err, test.codes)
			}
			if !slices.Contains(test.codes, closed.Code) {
				t.Errorf("got %v, want one of %v", closed, test.codes)
			}
		})
	}
	n.expectConnections(2) // one connection each, no other
	want := n.publish("acme", "all", "still here")
	other.Expect(t, want)
	expectMessage(t, c, want, false)

	uncompressed := n.subscribe("alan", "acme", "all") // has agreed on nothing
	_ = uncompressed.Send(deflated(t, `{"type":"ping"}`))
	uncompressed.ExpectClose(t, 1002)
}

// TestBytesBehindCompressedMessage: a deflate stream may say that it ends before its frame does. What
// stands behind it in the frame is no frame of its own: nobody would count it.
func TestBytesBehindCompressedMessage(t *testing.T) {
	ping := text(`{"type":"ping"}`).Bytes()
	const readAhead = 4096 // what is read of a frame to be inflated at once
	tests := map[string]struct {
		size   int // of what is read as compressed
		behind []byte
		open   bool // the frame says that more would come
		want   int  // code of the close frame, 0 for none
	}{
		"one byte, as RFC 7692 has it": {100, []byte{0}, false, 0},
		"frames":                       {readAhead, bytes.Repeat(ping, 50), false, 1002},
		"a few bytes":                  {readAhead, ping[:4], false, 1002},
		"without end":                  {readAhead, bytes.Repeat(ping, 50), true, 1002},
	}
	for name, test := range tests {
		for place, pipe := range map[string]bool{"tcp": false, "memory": true} {
			t.Run(name+", "+place, func(t *testing.T) {
				s := setup{options: gateway.Options{Compress: true, FramesPerSecond: 1, FrameBurst: 100}}
				if pipe {
					s.pipe = testkit.Listen()
				}
				n := startNode(t, s)
				c := n.connectDeflate("ada", "acme")
				packed := finished(t, `{"type":"ping"}`)
				room := test.size + len(test.behind)
				if test.open {
					room += 32 << 10 // within the limit of a message
				}
				packed.Payload = append(packed.Payload, make([]byte, room-len(packed.Payload))...)
				whole := packed.Bytes()
				header := len(whole) - len(packed.Payload)
				whole = append(whole[:header+test.size], test.behind...)
				go func() { _, _ = c.Write(whole) }() // the server may stop reading before the end
				if test.want != 0 {
					got, err := c.Next()
					_ = c.Close() // nobody waits for it
					if closed, ok := errors.AsType[*testkit.ClosedError](err); !ok || closed.Code != test.want {
						t.Errorf("got %s, %v, want a close frame %d", got, err, test.want)
					}
					return
				}
				expectMessage(t, c, `{"type":"pong"}`, false)
				_ = c.SendText(`{"type":"ping"}`)
				expectMessage(t, c, `{"type":"pong"}`, false)
			})
		}
	}
}

// finished makes the compressed frame of a client that ends its stream with a final block (RFC 7692,
// section 7.2.3.4).
func finished(tb testing.TB, text string) testkit.Frame {
	tb.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		tb.Fatal(err)
	}
	_, _ = w.Write([]byte(text))
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return testkit.Frame{Opcode: testkit.OpText, RSV: rsv1, Payload: b.Bytes()}
}

// split divides a message into a frame for each byte.
func split(f testkit.Frame) []testkit.Frame {
	var frames []testkit.Frame
	for i := range f.Payload {
		part := testkit.Frame{Opcode: testkit.OpContinuation, More: i < len(f.Payload)-1, Payload: f.Payload[i : i+1]}
		if i == 0 {
			part.Opcode, part.RSV = f.Opcode, f.RSV
		}
		frames = append(frames, part)
	}
	return frames
}
