package sse_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"orgcast/internal/socket"
)

// budget counts held bytes, up to a limit.
type budget struct{ room, held int }

func (b *budget) Take(n int) error {
	if b.held+n > b.room {
		return errors.New("no room")
	}
	b.held += n
	return nil
}

func (b *budget) Give(n int) { b.held -= n }

// asked is the result of a request.
type asked struct {
	message, ids string
	refused      bool
	status       int    // of a refusal
	code         string // of a refusal
}

// ask reads a request. It checks that a message that is passed on is counted as the gateway gives
// it back, and that nothing else stays counted.
func ask(tb testing.TB, r *http.Request) asked {
	tb.Helper()
	w, b := httptest.NewRecorder(), &budget{room: 1 << 20}
	message, ids, err := newCarrier().Wish(w, r, b)
	held := 0
	if message != nil {
		held = socket.Held(message)
	}
	if b.held != held {
		tb.Errorf("the budget counts %d bytes, want %d", b.held, held)
	}
	if err == nil {
		if w.Body.Len() > 0 {
			tb.Errorf("answered %s, and went on", w.Body)
		}
		return asked{message: string(message), ids: ids}
	}
	var problem struct{ Code, Message string }
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || problem.Message == "" || w.Code < 400 {
		tb.Errorf("got %d %s, want a refusal", w.Code, w.Body)
	}
	if message != nil {
		tb.Errorf("refused, and went on with %s", message)
	}
	return asked{refused: true, status: w.Code, code: problem.Code}
}

func get(query, last string) *http.Request {
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/sse/events", RawQuery: query}, Header: http.Header{}}
	if last != "" {
		r.Header["Last-Event-Id"] = []string{last}
	}
	return r
}

func post(kind, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/sse/events", strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	return r
}

func TestWishOfQuery(t *testing.T) {
	bad := asked{refused: true, status: http.StatusBadRequest, code: "bad_message"}
	for name, test := range map[string]struct {
		query, last string
		want        asked
	}{
		"no group":               {"", "", asked{ids: "id: \n"}},
		"no group, and a place":  {"", "5-1", asked{ids: "id: \n"}},
		"other parameters":       {"a=b", "", asked{ids: "id: \n"}},
		"one":                    {"group=a", "", asked{message: `{"type":"subscribe","groups":{"a":{}}}`, ids: "id: \n"}},
		"where it was":           {"group=a", "5-1", asked{message: `{"type":"subscribe","groups":{"a":{"after":"5-1"}}}`, ids: "id: 5-1\n"}},
		"in an empty history":    {"group=a", "0-0.Ep0ch", asked{message: `{"type":"subscribe","groups":{"a":{"after":"0-0.Ep0ch"}}}`, ids: "id: 0-0.Ep0ch\n"}},
		"several":                {"group=b&group=a", "5-1,6-1", asked{message: `{"type":"subscribe","groups":{"a":{"after":"6-1"},"b":{"after":"5-1"}}}`, ids: "id: 5-1,6-1\n"}},
		"one of them unknown":    {"group=b&group=a", ",6-1", asked{message: `{"type":"subscribe","groups":{"a":{"after":"6-1"},"b":{}}}`, ids: "id: ,6-1\n"}},
		"one twice":              {"group=a&group=a&group=b", "5-1,6-1", asked{message: `{"type":"subscribe","groups":{"a":{"after":"5-1"},"b":{"after":"6-1"}}}`, ids: "id: 5-1,6-1\n"}},
		"a name that is no name": {"group=%22%7D%0A%0Adata:", "", asked{message: `{"type":"subscribe","groups":{"\"}\n\ndata:":{}}}`, ids: "id: \n"}},
		"too few places":         {"group=a&group=b", "5-1", bad},
		"too many places":        {"group=a", "5-1,5-2", bad},
		"no place":               {"group=a", "yesterday", bad},
		"a place and more":       {"group=a", "5-1\nretry: 1", bad},
		"a place and a return":   {"group=a", "5-1\r", bad},
		"half a place":           {"group=a&group=b", "5-,6-1", bad},
		"a number too large":     {"group=a", strings.Repeat("9", 30) + "-1", bad},
		"a query that is none":   {"group=a;group=b", "", bad},
		"half a byte":            {"group=%2", "", bad},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ask(t, get(test.query, test.last)); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestWishOfBody(t *testing.T) {
	const good = `{"type":"subscribe","groups":{"a":{"after":"5-1","token":"x"}}}`
	const limit = 1 << 10
	refused := func(status int, code string) asked { return asked{refused: true, status: status, code: code} }
	for name, test := range map[string]struct {
		kind, body string
		want       asked
	}{
		"subscribe":          {"application/json", good, asked{message: good}},
		"no group":           {"application/json", `{"type":"subscribe","groups":{}}`, asked{}},
		"no group at all":    {"application/json", `{"type":"subscribe"}`, asked{}},
		"groups of no kind":  {"application/json", `{"type":"subscribe","groups":7}`, asked{message: `{"type":"subscribe","groups":7}`}},
		"with a charset":     {"application/json; charset=utf-8", good, asked{message: good}},
		"form":               {"application/x-www-form-urlencoded", good, refused(415, "bad_message")},
		"text":               {"text/plain", good, refused(415, "bad_message")},
		"no type":            {"", good, refused(415, "bad_message")},
		"another message":    {"application/json", `{"type":"ping"}`, refused(501, "websocket_required")},
		"a chat message":     {"application/json", `{"type":"message","text":"x"}`, refused(501, "websocket_required")},
		"it, in disguise":    {"application/json", `{"type":"message","TYPE":"subscribe"}`, refused(501, "websocket_required")},
		"two types":          {"application/json", `{"type":"message","type":"subscribe"}`, refused(400, "bad_message")},
		"no message":         {"application/json", `{}`, refused(501, "websocket_required")},
		"empty":              {"application/json", ``, refused(400, "bad_message")},
		"no JSON":            {"application/json", `{"type":"subscribe"`, refused(400, "bad_message")},
		"two":                {"application/json", good + good, refused(400, "bad_message")},
		"a list":             {"application/json", `[` + good + `]`, refused(400, "bad_message")},
		"no UTF-8":           {"application/json", `{"type":"subscribe","group":"` + "\xff" + `"}`, refused(400, "bad_message")},
		"as large as may be": {"application/json", good + strings.Repeat(" ", limit-len(good)), asked{message: good + strings.Repeat(" ", limit-len(good))}},
		"too large":          {"application/json", good + strings.Repeat(" ", limit-len(good)+1), refused(413, "too_large")},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ask(t, post(test.kind, test.body)); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			chunked := post(test.kind, test.body) // whose length is not announced
			chunked.ContentLength, chunked.Body = -1, io.NopCloser(strings.NewReader(test.body))
			if got := ask(t, chunked); got != test.want {
				t.Errorf("in chunks: got %+v, want %+v", got, test.want)
			}
		})
	}
	t.Run("cut short", func(t *testing.T) {
		r := post("application/json", good)
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader(good[:20]), broken{}))
		if got, want := ask(t, r), refused(400, "bad_message"); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestBodiesCountForTheirOrganization: a body that exceeds the budget is refused, and nothing stays
// counted.
func TestBodiesCountForTheirOrganization(t *testing.T) {
	for name, r := range map[string]func() *http.Request{
		"POST": func() *http.Request { return post("application/json", `{"type":"subscribe","group":"a"}`) },
		"GET":  func() *http.Request { return get("group=a", "") },
	} {
		w, b := httptest.NewRecorder(), &budget{room: 80}
		if _, _, err := newCarrier().Wish(w, r(), b); err == nil || w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: got %v, %d %s, want 429 and a time", name, err, w.Code, w.Body)
		}
		if b.held != 0 {
			t.Errorf("%s: %d bytes stay counted", name, b.held)
		}
	}
}

// FuzzBody: a body is either a subscribe frame, which is passed on unchanged, or is refused.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"type":"subscribe","group":"room.1"}`, `{"type":"subscribe","groups":{"a":{"after":"5-1.E","token":"1.ab"}}}`, `{"type":"resume"}`, `{"type":["subscribe"]}`,
		`{"type":"subscribe","type":"ping"}`, `{"TYPE":"subscribe"}`, "null", `"subscribe"`, `{"type":"subscribe"}` + "\r\n", "", "{", strings.Repeat("[", 900), "\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if got := ask(t, post("application/json", body)); !got.refused && (got.message != body && got.message != "" || !json.Valid([]byte(body))) {
			t.Errorf("%q: got %+v", body, got)
		}
	})
}

// FuzzQuery: whatever a query and Last-Event-ID contain, they are refused, or every group is
// requested from its mark, and the next id says the same.
func FuzzQuery(f *testing.F) {
	for _, seed := range [][2]string{
		{"group=a", ""},
		{"group=a", "5-1"},
		{"group=a&group=b", "5-1,0-0.E"},
		{"group=a&group=b", ","},
		{"group=a&group=a", "5-1"},
		{"group=", "x"},
		{"", "5-1"},
		{"group=a", "5-1,5-1"},
		{"group=%ff&group=%00", "\"},{"},
		{"a=b;group=c", "1"},
		{"group=a&group=%2C", "1-1,2-2"},
		{"group=a", "007-1\r\n"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, query, last string) {
		got := ask(t, get(query, last))
		if strings.ContainsAny(strings.TrimSuffix(got.ids, "\n"), "\r\n") {
			t.Errorf("%q, %q: the id %q has several lines", query, last, got.ids)
		}
		if got.message == "" {
			return
		}
		var frame struct {
			Type   string
			Groups map[string]struct{ After string }
		}
		if err := json.Unmarshal([]byte(got.message), &frame); err != nil || frame.Type != "subscribe" || len(frame.Groups) == 0 {
			t.Fatalf("got %s, %v", got.message, err)
		}
		if again := ask(t, get(query, strings.TrimSuffix(strings.TrimPrefix(got.ids, "id: "), "\n"))); again != got {
			t.Errorf("%q, %q: got %+v, and with its id %+v", query, last, got, again)
		}
	})
}
