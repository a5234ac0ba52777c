package event_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orgcast/internal/event"
)

func mustPosition(tb testing.TB, text string) event.Position {
	tb.Helper()
	p, err := event.ParsePosition(text)
	if err != nil {
		tb.Fatalf("ParsePosition(%q): %v", text, err)
	}
	return p
}

func TestParsePosition(t *testing.T) {
	for text, good := range map[string]bool{
		"0-0": true, "0-1": true, "1-0": true, "1732358911000-0": true, "1732358911000-17": true,
		"18446744073709551615-18446744073709551615": true,
		"": false, "-": false, "1": false, "1-": false, "-1": false, "1-1-1": false, "01-1": false, "1-01": false,
		"00-0": false, "1 -1": false, "1- 1": false, "1-1 ": false, "+1-1": false, "1--1": false, "1.0-1": false,
		"1e3-1": false, "0x1-1": false, "1_0-1": false, "１-1": false, "*": false, "$": false, "+": false,
		"(1-1": false, "18446744073709551616-0": false, "0-18446744073709551616": false, "1-*": false,
	} {
		p, err := event.ParsePosition(text)
		switch {
		case good && err != nil:
			t.Errorf("ParsePosition(%q): %v", text, err)
		case good && p.String() != text:
			t.Errorf("ParsePosition(%q): got %q", text, p)
		case !good && (!errors.Is(err, event.ErrInvalidPosition) || !p.IsZero()):
			t.Errorf("ParsePosition(%q): got %v, %v, want %v", text, p, err, event.ErrInvalidPosition)
		}
	}
	if zero := (event.Position{}); !zero.IsZero() || zero.String() != "0-0" || mustPosition(t, "0-1").IsZero() {
		t.Errorf("zero: got %v", zero)
	}
}

// TestPositionOrder: positions are ordered by their numbers, not by their texts.
func TestPositionOrder(t *testing.T) {
	numbers := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 12), rapid.Just(uint64(math.MaxUint64)))
	rapid.Check(t, func(t *rapid.T) {
		a, b := [2]uint64{numbers.Draw(t, "ms"), numbers.Draw(t, "seq")}, [2]uint64{numbers.Draw(t, "ms"), numbers.Draw(t, "seq")}
		p, q := event.NewPosition(a[0], a[1]), event.NewPosition(b[0], b[1])
		if got, want := p.Compare(q), slices.Compare(a[:], b[:]); got != want || got != -q.Compare(p) {
			t.Fatalf("%v to %v: got %d, want %d", p, q, got, want)
		}
		if p.Milliseconds() != a[0] || p.Sequence() != a[1] || (p == q) != (a == b) {
			t.Fatalf("%v: got %d, %d", a, p.Milliseconds(), p.Sequence())
		}
		if back, err := event.ParsePosition(p.String()); err != nil || back != p {
			t.Fatalf("%v: came back as %v, %v", p, back, err)
		}
	})
}

func FuzzParsePosition(f *testing.F) {
	f.Add("1732358911000-0")
	f.Add("0-0")
	f.Add("00-1")
	f.Add("18446744073709551616-0")
	form := regexp.MustCompile(`\A(0|[1-9][0-9]*)-(0|[1-9][0-9]*)\z`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := event.ParsePosition(text)
		want := form.MatchString(text)
		for number := range strings.SplitSeq(text, "-") {
			n, ok := new(big.Int).SetString(number, 10)
			want = want && ok && n.IsUint64()
		}
		if (err == nil) != want {
			t.Fatalf("%q: got %v, want a position: %t", text, err, want)
		}
		if want && p.String() != text {
			t.Fatalf("%q: got %q", text, p)
		}
	})
}

func TestValidIdempotencyKey(t *testing.T) {
	for key, want := range map[string]bool{
		"a": true, "order:17/paid": true, "~!{}": true, strings.Repeat("k", event.MaxIdempotencyKeyLength): true,
		"": false, "a b": false, "a\n": false, "\x00": false, "é": false, "\x7f": false, strings.Repeat("k", event.MaxIdempotencyKeyLength+1): false,
	} {
		if got := event.ValidIdempotencyKey(key); got != want {
			t.Errorf("%q: got %t, want %t", key, got, want)
		}
	}
}

func TestDecodeRecorded(t *testing.T) {
	g := mustGroup(t, "7", "room")
	const object = `{"type":"t","organization_id":7}`
	for name, test := range map[string]struct {
		payload string
		want    string // the position
		err     error
	}{
		"recorded":                    {"1732358911000-5 " + object, "1732358911000-5", nil},
		"longest position":            {"18446744073709551615-18446744073709551615 " + object, "18446744073709551615-18446744073709551615", nil},
		"space around the object":     {"1-1  " + object + "\n", "1-1", nil},
		"object of exactly the limit": {"1-1 " + sized(testLimit), "1-1", nil},
		"transient":                   {object, "0-0", nil},
		"over the limit":              {"1-1 " + sized(testLimit+1), "", event.ErrTooLarge},
		"the zero position":           {"0-0 " + object, "", event.ErrNotObject},
		"position alone":              {"1-1", "", event.ErrNotObject},
		"position and space":          {"1-1 ", "", event.ErrNotObject},
		"no space":                    {"1-1" + object, "", event.ErrNotObject},
		"tab":                         {"1-1\t" + object, "", event.ErrNotObject},
		"two positions":               {"1-1 2-2 " + object, "", event.ErrNotObject},
		"space before":                {" 1-1 " + object, "", event.ErrNotObject},
		"leading zero":                {"01-1 " + object, "", event.ErrNotObject},
		"number":                      {"1 " + object, "", event.ErrNotObject},
		"65 bits":                     {"18446744073709551616-0 " + object, "", event.ErrNotObject},
		"foreign":                     {`1-1 {"type":"t","organization_id":8}`, "", event.ErrForeign},
		"no type":                     {`1-1 {"organization_id":7}`, "", event.ErrInvalidType},
		"not UTF-8":                   {"1-1 {\"type\":\"t\",\"organization_id\":7,\"x\":\"\xff\"}", "", event.ErrNotUTF8},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := event.Decode(g, test.payload, testLimit, time.Time{})
			if !errors.Is(err, test.err) {
				t.Fatalf("got %v, want %v", err, test.err)
			}
			// A publisher cannot choose a position.
			if check := event.Check(g, []byte(test.payload), testLimit+1); check == nil && name != "transient" {
				t.Error("Check: got nil, want an error")
			}
			if err != nil {
				return
			}
			if got := e.Position().String(); got != test.want {
				t.Errorf("position: got %s, want %s", got, test.want)
			}
			_, want, ok := strings.Cut(test.payload, " ")
			if !ok {
				want = test.payload
			}
			if got := string(e.Payload()); got != want {
				t.Errorf("payload: got %q, want %q", got, want)
			}
			mustFrame(t, frameOf(e), want)
		})
	}
}

// recorded returns an event with a text and a position.
func recorded(tb testing.TB, g event.Group, position, text string) *event.Event {
	tb.Helper()
	e, err := event.Decode(g, position+" "+string(decoded(tb, g, text).Payload()), event.DefaultMaxSize, time.Unix(1, 0))
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// checkEnveloped checks that each event is there byte for byte, with its group and, if it was
// recorded, its position.
func checkEnveloped(tb testing.TB, b *event.Burst, threshold int) {
	tb.Helper()
	p := enveloped(b)
	if p.Group() != b.Group() || p.Organization() != b.Organization() || len(p.Events()) != len(b.Events()) {
		tb.Fatalf("got %d events of %s for %s, want %d", len(p.Events()), p.Group(), p.Organization(), len(b.Events()))
	}
	checkDeflated(tb, p, threshold)
	got, _ := frames(tb, p.Frames())
	if len(got) != len(b.Events()) {
		tb.Fatalf("got %d messages, want %d", len(got), len(b.Events()))
	}
	for i, e := range b.Events() {
		want := fmt.Sprintf(`{"event":%s,"group":%q}`, e.Payload(), e.Group().Name())
		if !e.Position().IsZero() {
			want = fmt.Sprintf(`{"event":%s,"group":%q,"id":%q}`, e.Payload(), e.Group().Name(), e.Position())
		}
		if got[i] != want {
			tb.Fatalf("message %d: got %.200q, want %.200q", i, got[i], want)
		}
		if !json.Valid([]byte(got[i])) {
			tb.Fatalf("message %d is no JSON: %.200q", i, got[i])
		}
	}
	if &p.Frames()[0] != &enveloped(b).Frames()[0] {
		tb.Fatal("the second shape was made twice")
	}
}

func TestEnveloped(t *testing.T) {
	g := mustGroup(t, "7", "room")
	tests := map[string][]*event.Event{
		"transient":                    {decoded(t, g, "x")},
		"recorded":                     {recorded(t, g, "1732358911000-5", "x")},
		"header of 2 bytes becomes 4":  {recorded(t, g, "1732358911000-5", strings.Repeat("x", 40))},
		"header of 4 bytes becomes 10": {recorded(t, g, "1732358911000-5", strings.Repeat("x", 65480))},
		"braces in text":               {recorded(t, g, "1-1", "}}{{}")},
		"several":                      {recorded(t, g, "1-1", "a"), recorded(t, g, "1-2", strings.Repeat("b", 1000))},
		"both kinds":                   {decoded(t, g, "a"), recorded(t, g, "1-2", "b"), decoded(t, g, strings.Repeat("c", 1000))},
	}
	for name, list := range tests {
		t.Run(name, func(t *testing.T) {
			b, rest := event.NewBurst(slices.Clone(list), 1<<20)
			if len(rest) > 0 {
				t.Fatalf("%d events left over", len(rest))
			}
			checkEnveloped(t, b, 512)
			checkDeflated(t, plain(b), 512)
		})
	}
}

// TestEnvelopedOnce: each of the four forms of an event is made once, for any number of receivers.
func TestEnvelopedOnce(t *testing.T) {
	g := mustGroup(t, "7", "all")
	e := recorded(t, g, "1-1", strings.Repeat("x", 10000))
	const receivers = 8
	var plain, packed [receivers][]byte
	var wg sync.WaitGroup
	for i := range receivers {
		wg.Go(func() {
			plain[i] = enveloped(e.Alone()).Frames()
			packed[i] = enveloped(e.Alone()).Deflated(512)
		})
	}
	wg.Wait()
	for i := range receivers {
		if &plain[i][0] != &plain[0][0] || &packed[i][0] != &packed[0][0] {
			t.Fatalf("receiver %d got a copy of its own", i)
		}
	}
	b, _ := event.NewBurst([]*event.Event{e, recorded(t, g, "1-2", "y")}, 1<<20)
	enc := deflatedFrom(512)
	ask := func() {
		for _, b := range []*event.Burst{e.Alone(), b} {
			b.Bytes(event.Enveloped, textFrames)
			b.Bytes(event.Enveloped, enc)
		}
	}
	ask()
	if allocs := testing.AllocsPerRun(100, ask); allocs != 0 {
		t.Errorf("allocations of further calls: got %v, want 0", allocs)
	}
}

// TestPropertyEnveloped: bursts of any events have both shapes.
func TestPropertyEnveloped(t *testing.T) {
	g := mustGroup(t, "7", "all")
	rapid.Check(t, func(rt *rapid.T) {
		var list []*event.Event
		for range rapid.IntRange(1, 6).Draw(rt, "events") {
			text := strings.Repeat("x", rapid.IntRange(0, 300).Draw(rt, "size"))
			e := decoded(t, g, text)
			if rapid.Bool().Draw(rt, "recorded") {
				e = recorded(t, g, fmt.Sprintf("%d-%d", rapid.Uint64Min(1).Draw(rt, "ms"), rapid.Uint64().Draw(rt, "seq")), text)
			}
			list = append(list, e)
		}
		for _, b := range join(list, rapid.SampledFrom([]int{0, 500, 1 << 20}).Draw(rt, "limit")) {
			checkEnveloped(t, b, rapid.SampledFrom([]int{0, 200, 100000}).Draw(rt, "threshold"))
		}
	})
}

// FuzzDecodeRecorded: a position before a payload changes nothing except the position, and the
// object remains valid when the position is put into it.
func FuzzDecodeRecorded(f *testing.F) {
	for _, seed := range payloads {
		f.Add(uint64(1732358911000), uint64(3), seed.payload)
	}
	f.Add(uint64(0), uint64(0), `{"type":"t","organization_id":7}`)
	f.Add(uint64(1), uint64(1), `{"type":"t","organization_id":7,"id":1,"group":"}"} `)
	g := mustGroup(f, "7", "room")
	f.Fuzz(func(t *testing.T, ms, seq uint64, object string) {
		if strings.HasPrefix(object, "#") {
			return // FuzzCutHead covers those
		}
		want := event.Check(g, []byte(object), testLimit)
		p := event.NewPosition(ms, seq)
		e, err := event.Decode(g, p.String()+" "+object, testLimit, time.Time{})
		switch {
		case p.IsZero():
			if err == nil {
				t.Fatal("the zero position was taken")
			}
			return
		case !errors.Is(err, want):
			t.Fatalf("got %v, want %v as without a position", err, want)
		case err != nil:
			return
		}
		if e.Position() != p || string(e.Payload()) != object {
			t.Fatalf("got %v and %q, want %v and %q", e.Position(), e.Payload(), p, object)
		}
		checkEnveloped(t, e.Alone(), 1)
	})
}

// TestDecodeKeyed: the position may be followed by the hash of an idempotency key, in one spelling.
func TestDecodeKeyed(t *testing.T) {
	g := mustGroup(t, "7", "room")
	const object = `{"type":"t","organization_id":7}`
	for name, test := range map[string]struct {
		payload string
		want    uint64
		err     error
	}{
		"keyed":               {"1-1 #2c70e12b7a0646f9 " + object, 0x2c70e12b7a0646f9, nil},
		"all bits":            {"1-1 #ffffffffffffffff " + object, 1<<64 - 1, nil},
		"over the limit":      {"1-1 #2c70e12b7a0646f9 " + sized(testLimit+1), 0, event.ErrTooLarge},
		"exactly the limit":   {"1-1 #2c70e12b7a0646f9 " + sized(testLimit), 0x2c70e12b7a0646f9, nil},
		"no position":         {"#2c70e12b7a0646f9 " + object, 0, event.ErrNotObject},
		"upper case":          {"1-1 #2C70E12B7A0646F9 " + object, 0, event.ErrNotObject},
		"one digit too few":   {"1-1 #2c70e12b7a0646f " + object, 0, event.ErrNotObject},
		"one digit too many":  {"1-1 #2c70e12b7a0646f90 " + object, 0, event.ErrNotObject},
		"a sign":              {"1-1 #+c70e12b7a0646f9 " + object, 0, event.ErrNotObject},
		"no space":            {"1-1 #2c70e12b7a0646f9" + object, 0, event.ErrNotObject},
		"twice":               {"1-1 #2c70e12b7a0646f9 #2c70e12b7a0646f9 " + object, 0, event.ErrNotObject},
		"alone":               {"1-1 #2c70e12b7a0646f9 ", 0, event.ErrNotObject},
		"cut off":             {"1-1 #2c70", 0, event.ErrNotObject},
		"before the position": {"#2c70e12b7a0646f9 1-1 " + object, 0, event.ErrNotObject},
		"foreign":             {`1-1 #2c70e12b7a0646f9 {"type":"t","organization_id":8}`, 0, event.ErrForeign},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := event.Decode(g, test.payload, testLimit, time.Time{})
			if !errors.Is(err, test.err) {
				t.Fatalf("got %v, want %v", err, test.err)
			}
			if err == nil && (e.Key() != test.want || e.Position() != event.NewPosition(1, 1) || e.Payload()[0] != '{') {
				t.Errorf("got key %x at %v, %.40q, want %x", e.Key(), e.Position(), e.Payload(), test.want)
			}
		})
	}
	// The output of `printf order:17:paid | sha1sum | cut -c -16`.
	if got, want := fmt.Sprintf("%016x", event.HashKey("order:17:paid")), "b5018a6badd5436a"; got != want {
		t.Errorf("HashKey: got %s, want %s", got, want)
	}
}

// FuzzCutHead: a head before an object is parsed, and other payloads lose nothing.
func FuzzCutHead(f *testing.F) {
	for _, seed := range payloads {
		f.Add(seed.payload)
		f.Add("1732358911000-3 " + seed.payload)
		f.Add("1732358911000-3 #2c70e12b7a0646f9 " + seed.payload)
	}
	f.Add("1-1 #2c70e12b7a0646f9")
	f.Add("1-1 #0000000000000000 ")
	f.Add("1-1 ##")
	f.Add("~ ")
	f.Add("~traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ~later=1 {}")
	f.Add("1-1 #2c70e12b7a0646f9 ~traceparent=x {}")
	words := regexp.MustCompile(`^(~[^ ]* )*$`)
	f.Fuzz(func(t *testing.T, payload string) {
		h, object := event.CutHead(payload)
		var front string
		if !h.Position.IsZero() {
			front = h.Position.String() + " "
		} else if h.Key != 0 {
			t.Fatalf("%q: a key without a position", payload)
		}
		keyed := front + fmt.Sprintf("#%016x ", h.Key)
		head, ok := strings.CutSuffix(payload, object)
		metadata := strings.TrimPrefix(strings.TrimPrefix(head, front), strings.TrimPrefix(keyed, front))
		if !ok || !strings.HasPrefix(head, front) || !words.MatchString(metadata) {
			t.Fatalf("%q became %+v and %q", payload, h, object)
		}
		h.Trace = event.Trace{}
		if again, rest := event.CutHead(keyed + "{}"); front != "" && (again != h || rest != "{}") {
			t.Fatalf("%+v came back as %+v and %q", h, again, rest)
		}
	})
}

func BenchmarkEnveloped(b *testing.B) {
	g := mustGroup(b, "7", "all")
	payload := "1732358911000-7 " + string(decoded(b, g, strings.Repeat("x", 300)).Payload())
	b.ReportAllocs()
	for b.Loop() {
		e, err := event.Decode(g, payload, event.DefaultMaxSize, time.Unix(1, 0))
		if err != nil {
			b.Fatal(err)
		}
		e.Alone().Bytes(event.Enveloped, textFrames)
	}
}
