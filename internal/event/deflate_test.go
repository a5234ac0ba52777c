package event_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orgcast/internal/event"
)

// rsv1 marks a compressed message (RFC 7692, section 6).
const rsv1 = 0x40

// frames splits consecutive server frames and decompresses each on its own, as a client without
// context takeover does. compressed is the number of compressed frames.
func frames(tb testing.TB, b []byte) (payloads []string, compressed int) {
	tb.Helper()
	for len(b) > 0 {
		if len(b) < 2 || b[0]&^rsv1 != 0x81 {
			tb.Fatalf("no whole text frame: % x", b[:min(len(b), 10)])
		}
		header, size := 2, int(b[1])
		switch size {
		case 126:
			header, size = 4, int(binary.BigEndian.Uint16(b[2:]))
		case 127:
			header, size = 10, int(binary.BigEndian.Uint64(b[2:]))
		}
		if size < 0 || header+size > len(b) {
			tb.Fatalf("a frame of %d bytes in the last %d", header+size, len(b))
		}
		payload := b[header : header+size]
		if b[0]&rsv1 != 0 {
			compressed++
			payload = inflate(tb, payload)
		}
		payloads = append(payloads, string(payload))
		b = b[header+size:]
	}
	return payloads, compressed
}

// inflate follows RFC 7692, section 7.2.2, with a final empty block so that the reader sees the
// end.
func inflate(tb testing.TB, b []byte) []byte {
	tb.Helper()
	r := flate.NewReader(io.MultiReader(bytes.NewReader(b), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	plain, err := io.ReadAll(r)
	if err != nil {
		tb.Fatalf("inflate: %v", err)
	}
	return plain
}

// checkDeflated checks that a client gets the same from both forms.
func checkDeflated(tb testing.TB, b shaped, threshold int) (compressed int) {
	tb.Helper()
	want, none := frames(tb, b.Frames())
	got, compressed := frames(tb, b.Deflated(threshold))
	if none != 0 {
		tb.Fatalf("Frames: %d compressed", none)
	}
	if len(got) != len(want) {
		tb.Fatalf("got %d messages, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			tb.Fatalf("message %d: got %.200q, want %.200q", i, got[i], want[i])
		}
	}
	if len(b.Deflated(threshold)) > len(b.Frames()) {
		tb.Fatalf("deflated to %d bytes from %d", len(b.Deflated(threshold)), len(b.Frames()))
	}
	return compressed
}

// noise returns text that cannot be compressed.
func noise(size int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]rune, size)
	for i := range b {
		b[i] = rune(0x4e00 + r.IntN(0x5000)) // three bytes each, of some 15 bits
	}
	return string(b)
}

func TestDeflated(t *testing.T) {
	const threshold = 512
	overhead := len(decoded(t, mustGroup(t, "7", "all"), "").Payload())
	tests := map[string]struct {
		texts []string
		want  int // number of compressed frames
	}{
		"small":                           {[]string{"hello"}, 0},
		"one below the threshold":         {[]string{strings.Repeat("x", threshold-overhead-1)}, 0},
		"at the threshold":                {[]string{strings.Repeat("x", threshold-overhead)}, 1},
		"header of 2 bytes out of 4":      {[]string{strings.Repeat("ab", 2000)}, 1},
		"header of 4 bytes out of 10":     {[]string{strings.Repeat("hello, world ", 9000)}, 1},
		"several":                         {[]string{strings.Repeat("x", 1000), "hello", strings.Repeat("y", 1000)}, 2},
		"several, all small":              {[]string{"a", "b", "c"}, 0},
		"almost the largest there may be": {[]string{strings.Repeat("é", event.DefaultMaxSize/2-100)}, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var list []*event.Event
			for _, text := range test.texts {
				list = append(list, decoded(t, mustGroup(t, "7", "all"), text))
			}
			b, rest := event.NewBurst(list, 1<<20)
			if len(rest) > 0 {
				t.Fatalf("%d events left over", len(rest))
			}
			if got := checkDeflated(t, plain(b), threshold); got != test.want {
				t.Errorf("compressed: got %d, want %d", got, test.want)
			}
		})
	}
}

// TestIncompressible: a payload that compression does not make smaller is sent unchanged, without a
// copy.
func TestIncompressible(t *testing.T) {
	e := decoded(t, mustGroup(t, "7", "all"), noise(5))
	checkDeflated(t, plain(e.Alone()), 1)
	if got := plain(e.Alone()).Deflated(1); &got[0] != &frameOf(e)[0] {
		t.Errorf("%d bytes became %d, want the frame itself", len(frameOf(e)), len(got))
	}
}

// TestDeflatedOnce: all receivers share one compressed form, and the events of a burst share theirs
// with receivers that get them alone.
func TestDeflatedOnce(t *testing.T) {
	g := mustGroup(t, "7", "all")
	e := decoded(t, g, strings.Repeat("x", 10000))
	const receivers = 8
	var got [receivers][]byte
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i] = plain(e.Alone()).Deflated(512) })
	}
	wg.Wait()
	for i := range got {
		if &got[i][0] != &got[0][0] {
			t.Fatalf("receiver %d got a copy of its own", i)
		}
	}
	b, _ := event.NewBurst([]*event.Event{e, decoded(t, g, strings.Repeat("y", 10000))}, 1<<20)
	if first := plain(b).Deflated(512); &first[0] != &plain(b).Deflated(512)[0] {
		t.Error("a burst is compressed for each receiver")
	}
	enc := deflatedFrom(512)
	if allocs := testing.AllocsPerRun(100, func() { e.Alone().Bytes(event.Plain, enc); b.Bytes(event.Plain, enc) }); allocs != 0 {
		t.Errorf("allocations of further calls: got %v, want 0", allocs)
	}
}

// FuzzDeflated: whatever the payload, a client with compression gets the same as one without.
func FuzzDeflated(f *testing.F) {
	f.Add("", 1, 0)
	f.Add("hello", 2, 10)
	f.Add(strings.Repeat("hello, world ", 1000), 3, 512)
	f.Add(noise(300), 1, 512)
	f.Add("\x00\xff\xff\x00\x00\xff\xff", 1, 1)
	f.Fuzz(func(t *testing.T, text string, count, threshold int) {
		g := mustGroup(t, "7", "all")
		var list []*event.Event
		for range min(max(count, 1), 5) {
			quoted, err := json.Marshal(text + strings.Repeat("z", len(list)))
			if err != nil {
				t.Fatal(err)
			}
			e, err := event.Decode(g, `{"type":"t","organization_id":"7","x":`+string(quoted)+`}`, event.DefaultMaxSize, time.Unix(1, 0))
			if err != nil {
				return // not an event: too large
			}
			list = append(list, e)
		}
		for len(list) > 0 {
			var b *event.Burst
			b, list = event.NewBurst(list, 32<<10)
			checkDeflated(t, plain(b), threshold)
		}
	})
}

func TestPropertyDeflated(t *testing.T) {
	g := mustGroup(t, "7", "all")
	rapid.Check(t, func(rt *rapid.T) {
		var list []*event.Event
		for _, text := range rapid.SliceOfN(rapid.String(), 1, 6).Draw(rt, "texts") {
			quoted, err := json.Marshal(strings.Repeat(text, rapid.IntRange(1, 100).Draw(rt, "times")))
			if err != nil {
				rt.Fatal(err)
			}
			e, err := event.Decode(g, `{"type":"t","organization_id":"7","x":`+string(quoted)+`}`, event.DefaultMaxSize, time.Unix(1, 0))
			if err != nil {
				rt.Fatal(err)
			}
			list = append(list, e)
		}
		b, _ := event.NewBurst(list, 1<<20)
		checkDeflated(t, plain(b), rapid.SampledFrom([]int{0, 1, 100, 512, 100000}).Draw(rt, "threshold"))
	})
}

func BenchmarkDeflated(b *testing.B) {
	g := mustGroup(b, "7", "all")
	payload := string(decoded(b, g, strings.Repeat("progress of export 12 of 17; ", 40)).Payload())
	enc := deflatedFrom(512)
	b.ReportAllocs()
	for b.Loop() {
		e, err := event.Decode(g, payload, event.DefaultMaxSize, time.Unix(1, 0))
		if err != nil {
			b.Fatal(err)
		}
		e.Alone().Bytes(event.Plain, enc)
	}
}
