package bench_test

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/bench"
)

func TestNextFrame(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 70_000)
	tests := map[string]struct {
		in   string
		want bench.Frame
		n    int
		err  error
	}{
		"nothing":                   {in: ""},
		"half a header":             {in: "\x81"},
		"text":                      {in: "\x81\x02hi\x81", want: bench.Frame{Final: true, Opcode: 1, Payload: []byte("hi")}, n: 4},
		"empty text":                {in: "\x81\x00", want: bench.Frame{Final: true, Opcode: 1, Payload: []byte{}}, n: 2},
		"payload incomplete":        {in: "\x81\x03hi"},
		"16 bits, incomplete":       {in: "\x81\x7e\x00"},
		"64 bits, incomplete":       {in: "\x81\x7f\x00\x00\x00"},
		"fragment, compressed":      {in: "\x41\x01x", want: bench.Frame{Compressed: true, Opcode: 1, Payload: []byte("x")}, n: 3},
		"ping":                      {in: "\x89\x00", want: bench.Frame{Final: true, Opcode: 9, Payload: []byte{}}, n: 2},
		"70,000 bytes":              {in: string(bench.AppendServerFrame(nil, 1, []byte(long))), want: bench.Frame{Final: true, Opcode: 1, Payload: []byte(long)}, n: 70_010},
		"masked":                    {in: "\x81\x82abcdhi", err: bench.ErrFrame},
		"RSV2":                      {in: "\xa1\x00", err: bench.ErrFrame},
		"unknown opcode":            {in: "\x83\x00", err: bench.ErrFrame},
		"fragmented ping":           {in: "\x09\x00", err: bench.ErrFrame},
		"long ping":                 {in: "\x89\x7e\x00\x80", err: bench.ErrFrame},
		"compressed close":          {in: "\xc8\x00", err: bench.ErrFrame},
		"16 bits for a short frame": {in: "\x81\x7e\x00\x05hello", err: bench.ErrFrame},
		"64 bits for a short frame": {in: "\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x05hello", err: bench.ErrFrame},
		"longer than any event":     {in: "\x81\x7f\x00\x00\x00\x00\x40\x00\x00\x00", err: bench.ErrFrame},
		"negative length":           {in: "\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", err: bench.ErrFrame},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, n, err := bench.NextFrame([]byte(tt.in))
			if !errors.Is(err, tt.err) {
				t.Fatalf("error: got %v, want %v", err, tt.err)
			}
			if n != tt.n {
				t.Errorf("length: got %d, want %d", n, tt.n)
			}
			if err != nil || n == 0 {
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("frame (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzNextFrame(f *testing.F) {
	f.Add([]byte("\x81\x02hi"), 3)
	f.Add([]byte("\x81\x7e\x00\x80"+strings.Repeat("a", 128)), 4)
	f.Add([]byte("\xc1\x03abc\x00\x00\x80\x01x\x88\x02\x03\xe9"), 6)
	f.Add([]byte("\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"), 9)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		frame, n, err := bench.NextFrame(b)
		if n < 0 || n > len(b) || (err != nil && n != 0) {
			t.Fatalf("got length %d of %d bytes, error %v", n, len(b), err)
		}
		if n == 0 {
			return
		}
		// No more than the frame's own bytes matter, and not one less is enough.
		again, m, err := bench.NextFrame(b[:n])
		if err != nil || m != n || !cmp.Equal(frame, again) {
			t.Errorf("without what follows: got %v, %d, %v, want %v, %d", again, m, err, frame, n)
		}
		if cut >= 0 && cut < n {
			if _, m, err := bench.NextFrame(b[:cut]); m != 0 || err != nil {
				t.Errorf("%d of %d bytes: got length %d, error %v, want to wait", cut, n, m, err)
			}
		}
		if frame.Final && !frame.Compressed {
			if got := bench.AppendServerFrame(nil, frame.Opcode, frame.Payload); !bytes.Equal(got, b[:n]) {
				t.Errorf("encoded again: got %q, want %q", got, b[:n])
			}
		}
	})
}

func TestParseDelivery(t *testing.T) {
	t.Parallel()
	head := bench.EventHead("bench-7")
	for _, size := range []int{0, 128, 1024} {
		want := bench.NewDelivery(3, 12_345, 1_790_000_000_123_456_789)
		payload := bench.AppendEvent(nil, head, want, size)
		got, ok := bench.ParseDelivery(inEnvelope(payload, "g"), head)
		if !ok || got != want {
			t.Errorf("%s: got %v, %t, want %v", payload, got, ok, want)
		}
		if _, ok := bench.ParseDelivery(payload, head); ok {
			t.Errorf("%s: taken for an event outside of an envelope", payload)
		}
		if len(payload) < size || (size > 110 && len(payload) != size) {
			t.Errorf("size: got %d, want %d", len(payload), size)
		}
		var object map[string]any
		if err := json.Unmarshal(payload, &object); err != nil {
			t.Errorf("%s is no JSON: %v", payload, err)
		}
		if got := object["organization_id"]; got != "bench-7" {
			t.Errorf("organization_id: got %v, want bench-7", got)
		}
	}
}

// inEnvelope returns an event as the server sends it.
func inEnvelope(payload []byte, group string) []byte {
	return fmt.Appendf(nil, `{"event":%s,"group":%q}`, payload, group)
}

func FuzzParseDelivery(f *testing.F) {
	head := bench.EventHead("o")
	f.Add(inEnvelope(bench.AppendEvent(nil, head, bench.NewDelivery(1, 2, 3), 128), "g"))
	f.Add(inEnvelope([]byte(`{"type":"bench","organization_id":"o","room":1,"seq":99999999999999999999,"t":1,"pad":""}`), "g"))
	f.Add(inEnvelope([]byte(`{"type":"bench","organization_id":"p","room":1,"seq":1,"t":1,"pad":""}`), "g"))
	f.Add([]byte(`{"type":"bench","organization_id":"o","room":1,"seq":1,"t":1,"pad":""}`))
	f.Add([]byte(`{"event":{"type":"bench","organization_id":"o","room":`))
	f.Fuzz(func(t *testing.T, p []byte) {
		got, ok := bench.ParseDelivery(p, head)
		if !ok {
			return
		}
		// What the short cut reads must be what a JSON decoder would.
		if !json.Valid(p) {
			return // the server's decoder has seen to that
		}
		var want struct {
			Organization string `json:"organization_id"`
			Room, Seq, T int64
		}
		first, _, _ := bytes.Cut(bytes.TrimPrefix(p, []byte(`{"event":`)), []byte(`,"pad":`)) // later fields could repeat names
		if err := json.Unmarshal(append(first, '}'), &want); err != nil {
			return // leading zeros are no JSON
		}
		if got != bench.NewDelivery(want.Room, want.Seq, want.T) || want.Organization != "o" {
			t.Errorf("%s: got %v, want %v", p, got, want)
		}
	})
}

func TestInflate(t *testing.T) {
	t.Parallel()
	inflater := bench.NewInflater()
	w, err := flate.NewWriter(nil, flate.BestSpeed) // one for all: it is large
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		want := fmt.Sprintf(`{"n":%d,"text":%q}`, i%300, strings.Repeat("status ", i%300))
		var b bytes.Buffer
		w.Reset(&b)
		if _, err := w.Write([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		deflated := bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
		for range 2 { // the second time from memory
			got, err := inflater.Inflate(deflated)
			if err != nil || string(got) != want {
				t.Fatalf("got %q, %v, want %q", got, err, want)
			}
		}
	}
	if got, err := inflater.Inflate([]byte("\xff\xff\xff")); err == nil {
		t.Errorf("garbage: got %q, want an error", got)
	}
}

func FuzzInflate(f *testing.F) {
	f.Add([]byte("\xf2\x48\xcd\xc9\xc9\x07\x00"))
	f.Add([]byte("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		inflater := bench.NewInflater()
		first, err1 := inflater.Inflate(b)
		first = bytes.Clone(first)
		second, err2 := inflater.Inflate(b)
		if (err1 == nil) != (err2 == nil) || !bytes.Equal(first, second) {
			t.Errorf("got %q, %v, then %q, %v", first, err1, second, err2)
		}
	})
}

func TestParseUpgrade(t *testing.T) {
	t.Parallel()
	const accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	tests := map[string]struct {
		in       string
		n        int
		deflated bool
		err      string
	}{
		"incomplete":        {in: "HTTP/1.1 101 Switching Protocols\r\n" + accept},
		"accepted":          {in: "HTTP/1.1 101 Switching Protocols\r\n" + accept + "\r\n\x81\x00", n: 88},
		"compressed":        {in: "HTTP/1.1 101 X\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n", n: 144, deflated: true},
		"context takeover":  {in: "HTTP/1.1 101 X\r\n" + accept + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", err: "requires"},
		"wrong answer":      {in: "HTTP/1.1 101 X\r\nSec-WebSocket-Accept: x\r\n\r\n", err: "wrong"},
		"forbidden":         {in: "HTTP/1.1 403 Forbidden\r\n\r\n", err: "403 Forbidden"},
		"too many":          {in: "HTTP/1.1 503 X\r\n\r\n{\"code\":\"handshake_rate\"}\n", err: "refused: 503 Service Unavailable handshake_rate (see --handshakes-per-second"},
		"odd reason":        {in: "HTTP/1.1 429 X\r\n\r\n{\"code\":\"A\x1b\"}", err: "refused: 429 Too Many Requests"},
		"no HTTP":           {in: "SSH-2.0-x\r\n\r\n", err: "not an HTTP response"},
		"endless":           {in: "HTTP/1.1 101 X\r\n" + strings.Repeat("a: b\r\n", 4000), err: "no end"},
		"status is no code": {in: "HTTP/1.1 abc\r\n\r\n", err: "not an HTTP response"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, deflated, err := bench.ParseUpgrade([]byte(tt.in))
			if (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("error: got %v, want %q", err, tt.err)
			}
			if n != tt.n || deflated != tt.deflated {
				t.Errorf("got %d, %t, want %d, %t", n, deflated, tt.n, tt.deflated)
			}
		})
	}
}

func FuzzParseUpgrade(f *testing.F) {
	f.Add([]byte("HTTP/1.1 101 X\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"))
	f.Add([]byte("\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, _, err := bench.ParseUpgrade(b); n < 0 || n > len(b) || (err != nil && n != 0) {
			t.Errorf("got %d of %d bytes, error %v", n, len(b), err)
		}
	})
}
