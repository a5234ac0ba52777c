package event_test

import (
	"strings"
	"testing"

	"orgcast/internal/event"
)

const goodTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// TestParseTrace: only traceparents that W3C Trace Context allows are accepted.
func TestParseTrace(t *testing.T) {
	for text, want := range map[string]string{
		goodTrace:                                  goodTrace,
		strings.TrimSuffix(goodTrace, "1") + "0":   strings.TrimSuffix(goodTrace, "1") + "0",
		strings.TrimSuffix(goodTrace, "01") + "ff": goodTrace,
		"cc" + goodTrace[2:]:                       goodTrace,
		"cc" + goodTrace[2:] + "-more":             goodTrace,
		"cc" + goodTrace[2:] + "more":              "",
		"ff" + goodTrace[2:]:                       "",
		goodTrace + "-more":                        "",
		strings.ToUpper(goodTrace):                 "",
		goodTrace[:54]:                             "",
		"":                                         "",
		"00-" + strings.Repeat("0", 32) + goodTrace[35:]:          "",
		goodTrace[:36] + strings.Repeat("0", 16) + goodTrace[52:]: "",
		strings.Replace(goodTrace, "4bf9", "4b-9", 1):             "",
		strings.Replace(goodTrace, "00f067", "00g067", 1):         "",
		"0-0" + goodTrace[3:]:                                     "",
	} {
		got, ok := event.ParseTrace(text)
		if got.String() != want || ok != (want != "") || ok == got.IsZero() {
			t.Errorf("%q: got %q, %t, want %q", text, got, ok, want)
		}
	}
}

// TestHeadWithMetadata: words of metadata are cut off, known or not, and an object stays whole.
func TestHeadWithMetadata(t *testing.T) {
	const object = `{"type":"note"}`
	trace, _ := event.ParseTrace(goodTrace)
	for payload, want := range map[string]event.Head{
		object: {},
		string(event.AppendTrace(event.Trace{}, []byte(object))):          {},
		string(event.AppendTrace(trace, []byte(object))):                  {Trace: trace},
		"~other=1 ~traceparent=" + goodTrace + " " + object:               {Trace: trace},
		"~traceparent=bad " + object:                                      {},
		"~ " + object:                                                     {},
		"17-1 ~traceparent=" + goodTrace + " " + object:                   {Position: event.NewPosition(17, 1), Trace: trace},
		"17-1 #00000000000000ff ~traceparent=" + goodTrace + " " + object: {Position: event.NewPosition(17, 1), Key: 255, Trace: trace},
		"17-1 ~x " + object:                                               {Position: event.NewPosition(17, 1)},
	} {
		if got, rest := event.CutHead(payload); got != want || rest != object {
			t.Errorf("%q: got %+v and %q, want %+v", payload, got, rest, want)
		}
	}
	for _, payload := range []string{"~" + object, "~x", "~" + strings.Repeat("x", 300) + " " + object, strings.Repeat("~x ", 9) + object} {
		if got, rest := event.CutHead(payload); got != (event.Head{}) || rest != payload {
			t.Errorf("%q: got %+v and %q, want it whole", payload, got, rest)
		}
	}
}

func FuzzParseTrace(f *testing.F) {
	f.Add(goodTrace)
	f.Add("cc" + goodTrace[2:] + "-more")
	f.Fuzz(func(t *testing.T, text string) {
		trace, ok := event.ParseTrace(text)
		if ok == trace.IsZero() {
			t.Errorf("%q: got %v, %t", text, trace, ok)
		}
		if again, okAgain := event.ParseTrace(trace.String()); ok && (!okAgain || again != trace) {
			t.Errorf("%q: got %v, want %v", text, again, trace)
		}
	})
}
