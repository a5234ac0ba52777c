package bench_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/bench"
)

func TestNextEvent(t *testing.T) {
	text := func(payload string) bench.Frame {
		return bench.Frame{Final: true, Opcode: 0x1, Payload: []byte(payload)}
	}
	pong := bench.Frame{Final: true, Opcode: 0xA}
	for name, test := range map[string]struct {
		stream string
		want   bench.Frame
		n      int
		err    error
	}{
		"event":               {"data: {}\n\n", text("{}"), 10, nil},
		"event, then another": {"data: {}\n\ndata: 1\n\n", text("{}"), 10, nil},
		"with an id":          {"id: 5-1\ndata: {}\n\n", text("{}"), 18, nil},
		"comment":             {":\n\n", pong, 3, nil},
		"time to wait":        {"retry: 1000\n\n", pong, 13, nil},
		"end":                 {"event: close\ndata: {\"code\":4401,\"reason\":\"\"}\n\n", bench.Frame{Final: true, Opcode: 0x8, Payload: []byte{0x11, 0x31}}, 46, nil},
		"incomplete":          {"data: {}\n", bench.Frame{}, 0, nil},
		"nothing":             {"", bench.Frame{}, 0, nil},
		"unknown field":       {"dat: {}\n\n", bench.Frame{}, 0, bench.ErrFrame},
		"unknown event":       {"event: x\ndata: {}\n\n", bench.Frame{}, 0, bench.ErrFrame},
		"end without code":    {"event: close\ndata: x\n\n", bench.Frame{}, 0, bench.ErrFrame},
		"two lines of data":   {"data: {\ndata: }\n\n", bench.Frame{}, 0, bench.ErrFrame},
		"WebSocket":           {"\x81\x02{}\n\n", bench.Frame{}, 0, bench.ErrFrame},
	} {
		t.Run(name, func(t *testing.T) {
			got, n, err := bench.NextEvent([]byte(test.stream))
			if diff := cmp.Diff(test.want, got); diff != "" || n != test.n || !errors.Is(err, test.err) {
				t.Errorf("got %d, %v, want %d, %v; frame (-want +got):\n%s", n, err, test.n, test.err, diff)
			}
		})
	}
}

func FuzzNextEvent(f *testing.F) {
	for _, seed := range []string{"data: {}\n\n", "id: 1-1\ndata: x\n\n:\n\n", "event: close\ndata: {\"code\":1}\n\n", "\n\n", "retry\n\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, n, err := bench.NextEvent(b)
		if n > len(b) || n == 0 && got.Payload != nil || err != nil && n != 0 {
			t.Errorf("%q: got %+v, %d, %v", b, got, n, err)
		}
	})
}
