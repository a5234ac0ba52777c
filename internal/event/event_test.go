package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

func mustID(tb testing.TB, text string) orgctx.ID {
	tb.Helper()
	id, err := orgctx.ParseID(text)
	if err != nil {
		tb.Fatalf("ParseID(%q): %v", text, err)
	}
	return id
}

func mustGroup(tb testing.TB, org, name string) event.Group {
	tb.Helper()
	g, err := event.NewGroup(mustID(tb, org), name)
	if err != nil {
		tb.Fatalf("NewGroup(%q): %v", name, err)
	}
	return g
}

// payloads are decoded for the group 7/room. They also seed the fuzz tests.
var payloads = map[string]struct {
	payload string
	want    error
}{
	"text":                         {`{"type":"t","organization_id":"7"}`, nil},
	"integer":                      {`{"type":"t","organization_id":7}`, nil},
	"escaped text":                 {`{"type":"t","organization_id":"\u0037"}`, nil},
	"escaped name":                 {`{"type":"t","organi\u007aation_id":7}`, nil},
	"escaped type":                 {`{"typ\u0065":"\u0074","organization_id":7}`, nil},
	"space everywhere":             {" \t\r\n{ \"type\" : \"t\" , \"organization_id\" : 7 } \n", nil},
	"more fields":                  {`{"a":[1,{"b":"}"}],"type":"t","organization_id":7,"c":null,"d":-1.5e3,"e":true,"f":{}}`, nil},
	"brackets and quotes in text":  {`{"x":"]}\"\\","type":"t","y":["[{\\\""],"organization_id":7}`, nil},
	"look-alike in an object":      {`{"type":"t","data":{"organization_id":8,"type":1},"organization_id":7}`, nil},
	"look-alike in text":           {`{"type":"t","data":"\"organization_id\":8,","organization_id":7}`, nil},
	"look-alike in an array":       {`{"type":"t","data":[{"organization_id":8}],"organization_id":7}`, nil},
	"other names twice":            {`{"type":"t","organization_id":7,"a":1,"a":2}`, nil},
	"name in other case beside":    {`{"type":"t","organization_id":7,"Organization_ID":8,"TYPE":"u"}`, nil},
	"nul in text":                  {`{"type":"t","organization_id":7,"x":"\u0000"}`, nil},
	"nested 9000 deep":             {`{"type":"t","organization_id":7,"x":` + deep(9000) + `}`, nil},
	"type of every character":      {`{"type":"aZ09_.:-","organization_id":7}`, nil},
	"longest type":                 {`{"type":"` + strings.Repeat("t", event.MaxTypeLength) + `","organization_id":7}`, nil},
	"exactly the limit":            {sized(testLimit), nil},
	"one over the limit":           {sized(testLimit + 1), event.ErrTooLarge},
	"empty":                        {``, event.ErrNotObject},
	"space":                        {"  \n", event.ErrNotObject},
	"array":                        {`[{"type":"t","organization_id":7}]`, event.ErrNotObject},
	"string":                       {`"{}"`, event.ErrNotObject},
	"number":                       {`7`, event.ErrNotObject},
	"null":                         {`null`, event.ErrNotObject},
	"truncated":                    {`{"type":"t","organization_id":7`, event.ErrNotObject},
	"truncated in text":            {`{"type":"t","organization_id":"7`, event.ErrNotObject},
	"truncated after escape":       {`{"type":"t","organization_id":"7\`, event.ErrNotObject},
	"trailing comma":               {`{"type":"t","organization_id":7,}`, event.ErrNotObject},
	"trailing bytes":               {`{"type":"t","organization_id":7}x`, event.ErrNotObject},
	"trailing nul":                 {"{\"type\":\"t\",\"organization_id\":7}\x00", event.ErrNotObject},
	"two objects":                  {`{"type":"t","organization_id":7}{"type":"t","organization_id":8}`, event.ErrNotObject},
	"byte order mark":              {"\ufeff" + `{"type":"t","organization_id":7}`, event.ErrNotObject},
	"comment":                      {`{"type":"t",/**/"organization_id":7}`, event.ErrNotObject},
	"single quotes":                {`{'type':'t','organization_id':7}`, event.ErrNotObject},
	"name without quotes":          {`{type:"t","organization_id":7}`, event.ErrNotObject},
	"raw newline in text":          {"{\"type\":\"t\",\"organization_id\":7,\"x\":\"\n\"}", event.ErrNotObject},
	"NaN":                          {`{"type":"t","organization_id":NaN}`, event.ErrNotObject},
	"NaN elsewhere":                {`{"type":"t","organization_id":7,"x":NaN}`, event.ErrNotObject},
	"leading zero":                 {`{"type":"t","organization_id":07}`, event.ErrNotObject},
	"plus sign":                    {`{"type":"t","organization_id":+7}`, event.ErrNotObject},
	"hexadecimal":                  {`{"type":"t","organization_id":0x7}`, event.ErrNotObject},
	"nested 10001 deep":            {`{"type":"t","organization_id":7,"x":` + deep(10001) + `}`, event.ErrNotObject},
	"not UTF-8":                    {"{\"type\":\"t\",\"organization_id\":7,\"x\":\"\xff\"}", event.ErrNotUTF8},
	"surrogate in UTF-8":           {"{\"type\":\"t\",\"organization_id\":7,\"x\":\"\xed\xa0\x80\"}", event.ErrNotUTF8},
	"overlong UTF-8":               {"{\"type\":\"t\",\"organization_id\":7,\"x\":\"\xc0\xaf\"}", event.ErrNotUTF8},
	"cut rune":                     {"{\"type\":\"t\",\"organization_id\":7,\"x\":\"\xe2\x82\"}", event.ErrNotUTF8},
	"no type":                      {`{"organization_id":7}`, event.ErrInvalidType},
	"empty object":                 {`{}`, event.ErrInvalidType},
	"empty type":                   {`{"type":"","organization_id":7}`, event.ErrInvalidType},
	"type null":                    {`{"type":null,"organization_id":7}`, event.ErrInvalidType},
	"type number":                  {`{"type":1,"organization_id":7}`, event.ErrInvalidType},
	"type object":                  {`{"type":{"type":"t"},"organization_id":7}`, event.ErrInvalidType},
	"type with space":              {`{"type":"a b","organization_id":7}`, event.ErrInvalidType},
	"type not ASCII":               {`{"type":"é","organization_id":7}`, event.ErrInvalidType},
	"type too long":                {`{"type":"` + strings.Repeat("t", event.MaxTypeLength+1) + `","organization_id":7}`, event.ErrInvalidType},
	"no organization":              {`{"type":"t"}`, event.ErrNoOrganization},
	"only a look-alike":            {`{"type":"t","data":{"organization_id":7}}`, event.ErrNoOrganization},
	"name in other case":           {`{"type":"t","Organization_id":7}`, event.ErrNoOrganization},
	"name with space":              {`{"type":"t","organization_id ":7}`, event.ErrNoOrganization},
	"name with nul":                {`{"type":"t","organization_id\u0000":7}`, event.ErrNoOrganization},
	"organization null":            {`{"type":"t","organization_id":null}`, event.ErrNoOrganization},
	"organization true":            {`{"type":"t","organization_id":true}`, event.ErrNoOrganization},
	"organization array":           {`{"type":"t","organization_id":[7]}`, event.ErrNoOrganization},
	"organization object":          {`{"type":"t","organization_id":{"7":7}}`, event.ErrNoOrganization},
	"organization empty":           {`{"type":"t","organization_id":""}`, event.ErrNoOrganization},
	"organization with space":      {`{"type":"t","organization_id":" 7"}`, event.ErrNoOrganization},
	"organization in braces":       {`{"type":"t","organization_id":"{7}"}`, event.ErrNoOrganization},
	"organization a wildcard":      {`{"type":"t","organization_id":"*"}`, event.ErrNoOrganization},
	"organization in other digits": {`{"type":"t","organization_id":"７"}`, event.ErrNoOrganization},
	"organization too long":        {`{"type":"t","organization_id":"` + strings.Repeat("7", orgctx.MaxIDLength+1) + `"}`, event.ErrNoOrganization},
	"integer too long":             {`{"type":"t","organization_id":` + strings.Repeat("7", orgctx.MaxIDLength+1) + `}`, event.ErrNoOrganization},
	"fraction":                     {`{"type":"t","organization_id":7.0}`, event.ErrNoOrganization},
	"exponent":                     {`{"type":"t","organization_id":7e0}`, event.ErrNoOrganization},
	"exponent in capitals":         {`{"type":"t","organization_id":7E0}`, event.ErrNoOrganization},
	"fraction as text":             {`{"type":"t","organization_id":"7.0"}`, event.ErrNoOrganization},
	"foreign text":                 {`{"type":"t","organization_id":"8"}`, event.ErrForeign},
	"foreign integer":              {`{"type":"t","organization_id":8}`, event.ErrForeign},
	"minus":                        {`{"type":"t","organization_id":-7}`, event.ErrForeign},
	"minus zero":                   {`{"type":"t","organization_id":-0}`, event.ErrForeign},
	"leading zero as text":         {`{"type":"t","organization_id":"07"}`, event.ErrForeign},
	"longer by a digit":            {`{"type":"t","organization_id":77}`, event.ErrForeign},
	"two organizations":            {`{"type":"t","organization_id":7,"organization_id":8}`, event.ErrDuplicateField},
	"two equal organizations":      {`{"type":"t","organization_id":7,"organization_id":7}`, event.ErrDuplicateField},
	"second organization escaped":  {`{"type":"t","organization_id":7,"organi\u007aation_id":8}`, event.ErrDuplicateField},
	"first organization null":      {`{"type":"t","organization_id":null,"organization_id":7}`, event.ErrDuplicateField},
	"second organization null":     {`{"type":"t","organization_id":7,"organization_id":null}`, event.ErrDuplicateField},
	"two types":                    {`{"type":"t","organization_id":7,"type":"u"}`, event.ErrDuplicateField},
	"second type escaped":          {`{"type":"t","organization_id":7,"\u0074ype":"u"}`, event.ErrDuplicateField},
}

// testLimit is large enough for the deepest payload.
const testLimit = 32 << 10

// deep returns nested arrays.
func deep(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }

// sized returns a valid payload of a size.
func sized(size int) string {
	const head, tail = `{"type":"t","organization_id":7,"x":"`, `"}`
	return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
}

func TestDecode(t *testing.T) {
	g := mustGroup(t, "7", "room")
	for name, test := range payloads {
		t.Run(name, func(t *testing.T) {
			received := time.Now()
			e, err := event.Decode(g, test.payload, testLimit, received)
			if !errors.Is(err, test.want) {
				t.Fatalf("Decode: got %v, want %v", err, test.want)
			}
			if got := event.Check(g, []byte(test.payload), testLimit); !errors.Is(got, err) {
				t.Errorf("Check: got %v, want what Decode returned, %v", got, err)
			}
			if err != nil {
				if e != nil {
					t.Errorf("Decode: got an event beside the error %v", err)
				}
				return
			}
			if e.Group() != g || e.Organization() != g.Organization() || !e.Received().Equal(received) {
				t.Errorf("event: got %v, %v, %v", e.Group(), e.Organization(), e.Received())
			}
			if got := string(e.Payload()); got != test.payload {
				t.Errorf("Payload: got %q, want %q", got, test.payload)
			}
			if got, want := e.String(), e.Type()+" to 7/room"; got != want {
				t.Errorf("String: got %q, want %q", got, want)
			}
			mustFrame(t, frameOf(e), test.payload)
		})
	}
}

// TestDecodeComparesDigitsExactly uses integers that are equal as floating-point numbers.
func TestDecodeComparesDigitsExactly(t *testing.T) {
	for name, test := range map[string]struct {
		org, value string
		want       error
	}{
		"2^53":               {"9007199254740992", "9007199254740992", nil},
		"2^53+1 for 2^53":    {"9007199254740992", "9007199254740993", event.ErrForeign},
		"2^64":               {"18446744073709551616", "18446744073709551616", nil},
		"2^64+1 for 2^64":    {"18446744073709551616", "18446744073709551617", event.ErrForeign},
		"64 digits":          {strings.Repeat("9", 64), strings.Repeat("9", 64), nil},
		"exponent for 100":   {"100", "1e2", event.ErrNoOrganization},
		"text that has an e": {"1e2", `"1e2"`, nil},
		"number for text":    {"1e2", "1e2", event.ErrNoOrganization},
		"zero":               {"0", "0", nil},
		"minus zero for 0":   {"0", "-0", event.ErrForeign},
		"case":               {"Acme", `"acme"`, event.ErrForeign},
	} {
		t.Run(name, func(t *testing.T) {
			payload := `{"type":"t","organization_id":` + test.value + `}`
			_, err := event.Decode(mustGroup(t, test.org, "room"), payload, testLimit, time.Time{})
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestDecodeForNoGroup(t *testing.T) {
	_, err := event.Decode(event.Group{}, `{"type":"t","organization_id":"7"}`, testLimit, time.Time{})
	if !errors.Is(err, event.ErrForeign) {
		t.Fatalf("got %v, want %v", err, event.ErrForeign)
	}
}

func TestReason(t *testing.T) {
	seen := make(map[string]error)
	for _, err := range []error{
		event.ErrTooLarge, event.ErrNotUTF8, event.ErrNotObject, event.ErrInvalidType,
		event.ErrNoOrganization, event.ErrForeign, event.ErrDuplicateField, event.ErrInvalidIdempotencyKey, io.EOF,
	} {
		reason := event.Reason(fmt.Errorf("wrapped: %w", err))
		if other, ok := seen[reason]; ok || reason == "" {
			t.Errorf("Reason(%v): got %q, the same as for %v", err, reason, other)
		}
		seen[reason] = err
	}
	if got := event.Reason(io.EOF); got != "invalid" {
		t.Errorf("Reason of another error: got %q, want invalid", got)
	}
}

// TestDecodeAllocations shows the cost of an event, which every received event has: one object. Its
// payload and its type stay where they were read, and its first frame needs no second object.
func TestDecodeAllocations(t *testing.T) {
	g := mustGroup(t, "acme", "room")
	payload := `{"type":"crew_message","organization_id":"acme","message":"hello","n":[1,2,3]}`
	got := testing.AllocsPerRun(1000, func() {
		if _, err := event.Decode(g, payload, testLimit, time.Time{}); err != nil {
			t.Fatal(err)
		}
	})
	if want := 1.0; got > want {
		t.Errorf("allocations: got %v, want at most %v", got, want)
	}
	got = testing.AllocsPerRun(1000, func() {
		e, err := event.Decode(g, payload, testLimit, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		frameOf(e)
	})
	if want := 2.0; got > want {
		t.Errorf("allocations with the frame: got %v, want at most %v", got, want)
	}
}

// positionFirst matches a payload that may be recorded.
var positionFirst = regexp.MustCompile(`^[0-9]+-[0-9]+ `)

// FuzzDecode compares Decode with encoding/json: both accept the same objects, and they read the
// same envelope if no name occurs twice.
func FuzzDecode(f *testing.F) {
	for _, seed := range payloads {
		f.Add("7", seed.payload)
	}
	f.Add("acme", `{"type":"t","organization_id":"acme"}`)
	f.Fuzz(func(t *testing.T, org, payload string) {
		id, err := orgctx.ParseID(org)
		if err != nil {
			return
		}
		g, err := event.NewGroup(id, "room")
		if err != nil {
			t.Fatal(err)
		}
		if positionFirst.MatchString(payload) {
			return // FuzzDecodeRecorded covers those
		}
		e, err := event.Decode(g, payload, testLimit, time.Time{})
		if got := event.Check(g, []byte(payload), testLimit); !errors.Is(got, err) {
			t.Fatalf("Check: got %v, want what Decode returned, %v", got, err)
		}
		if len(payload) > testLimit {
			if !errors.Is(err, event.ErrTooLarge) {
				t.Fatalf("%d bytes: got %v, want %v", len(payload), err, event.ErrTooLarge)
			}
			return
		}
		fields, duplicate, isObject := topLevel(payload)
		switch {
		case !utf8.ValidString(payload):
			if !errors.Is(err, event.ErrNotUTF8) {
				t.Fatalf("not UTF-8: got %v", err)
			}
			return
		case !isObject:
			if !errors.Is(err, event.ErrNotObject) {
				t.Fatalf("no object: got %v", err)
			}
			return
		case duplicate:
			if !errors.Is(err, event.ErrDuplicateField) {
				t.Fatalf("duplicate: got %v", err)
			}
			return
		case errors.Is(err, event.ErrNotObject), errors.Is(err, event.ErrNotUTF8), errors.Is(err, event.ErrDuplicateField):
			t.Fatalf("good object: got %v", err)
		}
		typ, _ := fields["type"].(string)
		var organization string
		switch v := fields["organization_id"].(type) {
		case string:
			organization = v
		case json.Number:
			if !strings.ContainsAny(v.String(), ".eE") {
				organization = v.String()
			}
		}
		var want error
		switch {
		case !event.ValidType(typ):
			want = event.ErrInvalidType
		case !orgctx.ValidID(organization):
			want = event.ErrNoOrganization
		case organization != org:
			want = event.ErrForeign
		}
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
		if err != nil {
			return
		}
		if e.Type() != typ || e.Organization() != id || string(e.Payload()) != payload {
			t.Fatalf("event: got %q, %v, %q", e.Type(), e.Organization(), e.Payload())
		}
		mustFrame(t, frameOf(e), payload)
	})
}

// topLevel reads an object with encoding/json's tokens, which show every name. duplicate is true if
// type or organization_id occurs twice.
func topLevel(payload string) (fields map[string]any, duplicate, isObject bool) {
	if !json.Valid([]byte(payload)) {
		return nil, false, false
	}
	d := json.NewDecoder(bytes.NewReader([]byte(payload)))
	d.UseNumber()
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, false, false
	}
	fields = make(map[string]any)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, false, false
		}
		name, ok := token.(string)
		if !ok {
			return nil, false, false
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return nil, false, false
		}
		if _, ok := fields[name]; ok && (name == "type" || name == "organization_id") {
			duplicate = true
		}
		fields[name] = value
	}
	return fields, duplicate, true
}

func BenchmarkDecode(b *testing.B) {
	g := mustGroup(b, "7", "room")
	for _, size := range []int{128, 1 << 10, 16 << 10} {
		payload := sized(size)
		b.Run(fmt.Sprintf("%d bytes", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := event.Decode(g, payload, testLimit, time.Time{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
