package main

import (
	"context"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"orgcast/internal/console"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/apidocs"
	"orgcast/internal/testkit/redistest"
)

const adminKeyOfDocs = "admin-key-of-thirty-two-bytes-!!"

// described is a gateway whose answers are held against docs/api.
type described struct {
	*serving

	t               *testing.T
	private, public *apidocs.Document
	seen            map[string]bool // operation and status
}

// send sends a request and checks the answer: its status and its body must be described.
func (d *described) send(doc *apidocs.Document, method, path, body, key string, header http.Header) (status int, text string) {
	d.t.Helper()
	listener := d.serving.private
	if doc == d.public {
		listener = d.serving.public
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), testkit.Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+listener+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(r)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer answer.Body.Close()
	kind, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";")
	b := make([]byte, 0, 64<<10)
	if kind == "application/x-ndjson" || kind == "text/event-stream" { // they do not end
		b = b[:cap(b)]
		n, _ := answer.Body.Read(b)
		b = b[:n]
	} else if b, err = io.ReadAll(answer.Body); err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	d.check(doc, method, r.URL.Path, answer.StatusCode, kind, string(b))
	return answer.StatusCode, string(b)
}

// numbers are ids in paths.
var numbers = regexp.MustCompile("/7/")

// check compares an answer with its description.
func (d *described) check(doc *apidocs.Document, method, path string, status int, kind, body string) {
	d.t.Helper()
	path = numbers.ReplaceAllString(path, "/{id}/")
	operation := []string{"paths", path, strings.ToLower(method)}
	item, _ := doc.Root()["paths"].(apidocs.Object)[path].(apidocs.Object)
	if item, ok := item["$ref"].(string); ok {
		operation = append(strings.Split(item, "/")[1:], strings.ToLower(method))
	}
	number := strconv.Itoa(status)
	responses := doc.Object(d.t, append(operation, "responses")...)
	if responses[number] == nil {
		d.t.Errorf("%s %s: docs/api has no answer with status %d: %s", method, path, status, body)
		return
	}
	d.seen[method+" "+path+" "+number] = true
	response := doc.Object(d.t, append(operation, "responses", number)...)
	content, _ := response["content"].(apidocs.Object)
	if content == nil {
		return
	}
	if content[kind] == nil {
		d.t.Errorf("%s %s: %d: docs/api does not have %q", method, path, status, kind)
		return
	}
	where := append(operation, "responses", number)
	if ref, ok := doc.Object(d.t, operation...)["responses"].(apidocs.Object)[number].(apidocs.Object)["$ref"].(string); ok {
		where = strings.Split(ref, "/")[1:]
	}
	lines := []string{body}
	if kind == "application/x-ndjson" {
		lines = strings.Split(strings.TrimSpace(body), "\n")
	} else if kind != "application/json" {
		return
	}
	for _, line := range lines {
		if err := doc.Validate(d.t, []byte(line), append(slices.Clone(where), "content", kind, "schema")...); err != nil {
			d.t.Errorf("%s %s: %d %s: %v", method, path, status, line, err)
		}
	}
	if codes := apidocs.Texts(response["x-codes"]); codes != nil && !slices.ContainsFunc(codes, func(c string) bool { return strings.Contains(body, `"code":"`+c+`"`) }) {
		d.t.Errorf("%s %s: %d: got %s, want one of %v", method, path, status, body, codes)
	}
}

// TestAnswersAreDescribed: the answers of a running gateway, good and bad, are as docs/api says. Each
// operation is asked at least once.
func TestAnswersAreDescribed(t *testing.T) {
	s := startServe(t, redistest.Start(t), environment{
		"ORGCAST_ADMIN_KEY": adminKeyOfDocs, "ORGCAST_CONSOLE_PATH": "/console", "ORGCAST_CONSOLE_KEY": consoleKey, "ORGCAST_PUBLIC_HEALTH": "/healthz",
	})
	d := &described{s, t, apidocs.Read(t, apidocs.Private), apidocs.Read(t, apidocs.Public), make(map[string]bool)}
	s.expectReady()
	s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	d.calls()
	d.views()
	d.organization()
	d.handshakes()
	seen := slices.Sorted(maps.Keys(d.seen))
	t.Logf("%d answers: %s", len(seen), strings.Join(seen, ", "))
	for _, doc := range []*apidocs.Document{d.private, d.public} {
		for operation := range doc.Operations(t) {
			if !slices.ContainsFunc(seen, func(one string) bool { return strings.HasPrefix(one, operation+" ") }) {
				t.Errorf("%s was not asked", operation)
			}
		}
	}
}

// calls asks what back ends ask.
func (d *described) calls() {
	d.t.Helper()
	const event = `"organization_id":"acme","group":"all","event":{"type":"note"}`
	for body, want := range map[string]int{
		"{" + event + "}": 200, "{" + event + `,"record":true,"idempotency_key":"k"}`: 200, "[{" + event + `},{"organization_id":"acme","group":"a b","event":{}}]`: 422,
		`{"organization_id":"acme","group":"all","event":{"type":"note","organization_id":"globex"}}`: 422, "{": 400, "[" + strings.Repeat("{},", 1000) + "{}]": 413,
	} {
		if status, text := d.send(d.private, "POST", "/v1/publish", body, testPublishKey, nil); status != want {
			d.t.Errorf("publish %.60s: got %d %s, want %d", body, status, text, want)
		}
	}
	d.send(d.private, "POST", "/v1/publish", "{}", "wrong", nil)
	for body, key := range map[string]string{`{"type":"user.disabled","user_id":"eve"}`: testPublishKey, `{"type":"member.role"}`: testPublishKey, `{}`: "wrong"} {
		d.send(d.private, "POST", "/v1/revoke", body, key, nil)
	}
	for _, body := range []string{`{"organization_id":"acme","all":true}`, `{"organization_id":"acme","id":"msg_none"}`, `{"organization_id":"a b","all":true}`, `{"organization_id":"acme"}`} {
		d.send(d.private, "POST", "/v1/webhooks/retry", body, testPublishKey, nil)
	}
	d.send(d.private, "POST", "/v1/webhooks/retry", "{}", "wrong", nil)
	for body, key := range map[string]string{"": adminKeyOfDocs, strings.Repeat("x", 2000): adminKeyOfDocs, "x": "wrong"} {
		d.send(d.private, "POST", "/v1/reload", body, key, nil)
	}
}

// views asks what operators ask.
func (d *described) views() {
	d.t.Helper()
	for operation := range d.private.Operations(d.t) {
		method, path, _ := strings.Cut(operation, " ")
		parameters := map[string]string{"/v1/history": "?organization_id=acme&group=all", "/v1/presence": "?organization_id=acme&group=all", "/v1/explain": "?organization_id=acme&group=all&since=5m", "/v1/tail": "?organization_id=acme", "/debug/pprof/profile": "?seconds=1", "/debug/pprof/trace": "?seconds=0.1"}[path]
		if method != http.MethodGet {
			continue
		}
		if status, text := d.send(d.private, method, path+parameters, "", adminKeyOfDocs, nil); status != http.StatusOK && status != http.StatusFound {
			d.t.Errorf("%s: got %d %s", operation, status, text)
		}
		if strings.HasPrefix(path, "/v1/") || path == "/metrics/organizations" {
			d.send(d.private, method, path+"?none=1", "", adminKeyOfDocs, nil)
			d.send(d.private, method, path, "", "wrong", nil)
		}
	}
	for _, question := range []string{"/v1/explain?organization_id=acme", "/v1/explain?organization_id=a%20b", "/v1/usage?from=x", "/v1/tail?organization_id=acme&payloads=x", "/v1/tasks?kind=a%20b", "/v1/tasks?kind=chat", "/v1/connections?limit=0", "/v1/groups?sort=x", "/v1/organizations?cursor=%25", "/v1/history?organization_id=acme&user_id=ada&limit=1", "/v1/history?organization_id=acme&group=all&before=x", "/v1/history?organization_id=acme", "/v1/presence?organization_id=acme&user_id=ada", "/v1/presence?organization_id=acme", "/v1/webhooks?organization_id=acme", "/v1/webhooks?organization_id=a%20b", "/v1/webhooks?cursor=%25"} {
		d.send(d.private, "GET", question, "", adminKeyOfDocs, nil)
	}
}

// organization asks what administrators of an organization ask.
func (d *described) organization() {
	d.t.Helper()
	who := console.Administrator{Organization: testkit.Org(d.t, "acme"), UserID: "ada"}
	header := http.Header{"Orgcast-Organization": {"acme"}, "Orgcast-User": {"ada"}}
	token := console.Token([]byte(consoleKey), who, time.Now().Add(10*time.Minute))
	for _, path := range []string{"/console", "/console/", "/console/v1/devices", "/console/v1/health", "/console/v1/usage", "/healthz"} {
		d.send(d.public, "GET", path, "", token, header)
		if strings.Contains(path, "/v1/") {
			d.send(d.public, "GET", path+"?none=1", "", token, header)
			d.send(d.public, "GET", path, "", "wrong", header)
		}
	}
	for _, body := range []string{"{}", `{"connection_id":"NONE"}`} {
		d.send(d.public, "POST", "/console/v1/revoke", body, token, header)
	}
}

// handshakes asks for sockets and streams, with a session and without.
func (d *described) handshakes() {
	d.t.Helper()
	session := d.mint("ada", "acme").Header
	for path := range d.public.Object(d.t, "paths") {
		if !strings.HasPrefix(path, "/ws/") && !strings.HasPrefix(path, "/sse/") {
			continue
		}
		asked := strings.ReplaceAll(path, "{id}", "7")
		if strings.Contains(path, "/chat/") {
			asked += "?session=0b5cd2c5-3f0e-4a7e-9d53-8f1f6a3b1f00"
		}
		stranger := http.Header{"Origin": {testOrigin}}
		foreign := http.Header{"Origin": {"https://evil.example"}, "Cookie": session["Cookie"]}
		if strings.HasPrefix(path, "/ws/") {
			d.send(d.public, "GET", asked, "", "", session) // no handshake
			_, answer := testkit.Try(d.t, testkit.DialTCP(d.serving.public), testkit.Handshake{Path: asked, Header: session})
			d.check(d.public, "GET", path, answer.Status, "", "")
			continue
		}
		for _, header := range []http.Header{session, stranger, foreign} {
			d.send(d.public, "GET", asked, "", "", header)
			header = header.Clone()
			header.Set("Content-Type", "application/json")
			d.send(d.public, "POST", asked, `{"type":"subscribe"}`, "", header)
			d.send(d.public, "POST", asked, `{"type":"ping"}`, "", header)
		}
		d.send(d.public, "POST", asked, "x", "", session) // not application/json
		d.send(d.public, "OPTIONS", asked, "", "", session)
		preflight := session.Clone()
		preflight.Set("Access-Control-Request-Method", "POST")
		d.send(d.public, "OPTIONS", asked, "", "", preflight)
	}
}

// TestFramesAreDescribed: every frame that a running gateway sends at /ws/events is as docs/api says,
// and what the page sends, too.
func TestFramesAreDescribed(t *testing.T) {
	s := startServe(t, redistest.Start(t), environment{"ORGCAST_GROUPS_PER_CONNECTION": "3"})
	s.expectReady()
	d := apidocs.Read(t, apidocs.Frames)
	h := s.mint("ada", "acme")
	h.Header.Set("Sec-Websocket-Protocol", "orgcast.v1")
	c := testkit.Connect(t, testkit.DialTCP(s.public), h)
	read := func(want ...string) {
		t.Helper()
		for _, name := range want {
			frame := next(t, c)
			if err := d.Schema(t, name, []byte(frame)); err != nil {
				t.Errorf("got %s, want the frame %s: %v", frame, name, err)
			}
		}
	}
	send := func(name, frame string, want ...string) {
		t.Helper()
		if name != "" {
			if err := d.Schema(t, name, []byte(frame)); err != nil {
				t.Errorf("%s: %v", frame, err)
			}
		}
		if err := c.SendText(frame); err != nil {
			t.Fatal(err)
		}
		read(want...)
	}
	read("Welcome")
	send("Ping", `{"type":"ping"}`, "Pong")
	send("KeepAlive", `{"type":"keep_alive"}`, "Pong")
	send("Subscribe", `{"type":"subscribe","group":"all"}`, "Subscribed")
	send("Subscribe", `{"type":"subscribe","groups":{"room.1":{"after":"1-0"},"invoice_7":{"token":"1.x"}}}`, "Error", "Gap", "Subscribed")
	send("Subscribe", `{"type":"subscribe","groups":{"room.2":{},"room.3":{},"room.4":{},"room.5":{}}}`, "Error", "Subscribed", "Error", "Error")
	send("Unsubscribe", `{"type":"unsubscribe","groups":["room.2","room.3"]}`, "Unsubscribed", "Unsubscribed")
	send("", `{"type":"none","request_id":"r1"}`, "Error")
	send("", `[]`, "Error")
	for _, more := range []string{"", `,"record":true`} {
		if status, text := s.ask("POST", "/v1/publish", `{"organization_id":"acme","group":"all","event":{"type":"error","id":7}`+more+`}`); status != http.StatusOK {
			t.Fatalf("publish: %d %s", status, text)
		}
		read("Envelope")
	}
	send("AskHistory", `{"type":"history","group":"all"}`, "History")
	send("AskHistory", `{"type":"history","group":"all","before":"1-0","limit":1,"request_id":"h1"}`, "History")
	send("AskHistory", `{"type":"history","group":"elsewhere"}`, "Error")
	if _, text := s.ask("POST", "/v1/revoke", `{"type":"user.disabled","user_id":"ada"}`); !strings.Contains(text, "revoked") {
		t.Fatal(text)
	}
	c.ExpectClose(t, 4403)
}
