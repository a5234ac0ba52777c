package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"orgcast/internal/app"
	"orgcast/internal/cli"
	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// intruder is a consumer of an extension that tries to reach another organization by every name that it may choose.
type intruder struct {
	consumer.Quiet

	parts app.Parts
}

// foreignNames are names that would lead to the group or the key of another organization if they were put together
// from text.
func foreignNames() []string {
	return []string{
		"globex:report_7", "globex/report_7", "{globex}:group:report_7", "acme}:group:report_7", "report_7}:group:{globex", "orgcast:{globex}:group:report_7",
		"../globex/report_7", "report_7\x00globex", "report_7\nglobex", "", strings.Repeat("a", 101),
	}
}

func (i intruder) ReceiveMessage(ctx context.Context, c consumer.Conn, _ event.Message) error {
	p := i.parts
	var reached []string
	try := func(what, name string, err error) {
		if err == nil {
			reached = append(reached, what+" "+name)
		}
	}
	for _, name := range foreignNames() {
		try("join", name, c.Join(ctx, name))
		try("join with history", name, c.JoinWithHistory(ctx, name, 1, func([]*event.Event) error { return nil }))
		try("record", name, p.Recorder.Record(ctx, name, "", map[string]string{"type": "stolen"}))
		_, _, err := p.Recorder.Recorded(ctx, name, "key")
		try("recorded", name, err)
		_, err = p.Dispatcher.Dispatch(ctx, consumer.Work{Kind: "steal", Group: name, User: "ada"})
		try("dispatch to", name, err)
		if name == "" {
			continue // leaves out what follows
		}
		_, err = p.Dispatcher.Dispatch(ctx, consumer.Work{Kind: "steal", ID: name, Group: "report_7", User: "ada"})
		try("dispatch as", name, err)
		_, err = p.Dispatcher.Dispatch(ctx, consumer.Work{Kind: "steal", Idempotency: name, Group: "report_7", User: "ada"})
		try("dispatch under", name, err)
		_, err = p.Dispatcher.Dispatch(ctx, consumer.Work{Kind: name, Group: "report_7", User: "ada"})
		try("dispatch a kind", name, err)
		try("answer", name, p.Inputs.Answer(ctx, consumer.Answer{Execution: name, Input: "yes"}))
		_, err = p.Requests.Begin(ctx, name, nil)
		try("request", name, err)
		owner, err := p.Owners.Claim(ctx, "chat", name, "ada")
		try("own", name, errors.Join(err, refusedUnless(owner)))
	}
	// An event that names another organization is refused, too.
	for _, v := range []any{
		map[string]string{"type": "stolen", "organization_id": "globex"},
		struct {
			Type  string `json:"type"`
			Other string `json:"organization\u005fid"`
		}{"stolen", "globex"},
	} {
		try("record", fmt.Sprint(v), p.Recorder.Record(ctx, "report_7", "", v))
	}
	// Without the context of a connection nothing is reached at all.
	_, err := p.Dispatcher.Dispatch(context.Background(), consumer.Work{Kind: "steal", Group: "report_7"})
	try("dispatch", "without an organization", err)
	try("record", "without an organization", p.Recorder.Record(context.Background(), "report_7", "", map[string]string{"type": "stolen"}))
	if len(reached) > 0 {
		return c.Send(map[string]any{"type": "reached", "what": reached})
	}
	return c.Send(map[string]string{"type": "nothing"})
}

// refusedUnless makes an error of a no.
func refusedUnless(ok bool) error {
	if !ok {
		return errors.New("no")
	}
	return nil
}

// TestExtensionNamesNoOtherOrganization: by no name of a group, task, question, request or object does a consumer of an
// extension reach beyond the organization of its connection.
func TestExtensionNamesNoOtherOrganization(t *testing.T) {
	s := startExtended(t, redistest.Start(t), nil, app.Extension{Routes: func(p app.Parts) []consumer.Route {
		return []consumer.Route{{Pattern: "/ws/intruder/", New: func() consumer.OrganizationAwareConsumer { return consumer.JSON(intruder{parts: p}) }}}
	}})
	s.expectReady()
	victim := s.subscribe(testkit.DialTCP(s.public), "ada", "globex")
	if got := say(t, s.visitAt(t, "/ws/intruder/", "ada", "acme"), `{"type":"go"}`); got != `{"type":"nothing"}` {
		t.Errorf("the intruder: %s", got)
	}
	s.record(t, "globex", "all", `{"type":"own"}`)
	victim.Expect(t, `{"organization_id":"globex","type":"own"}`) // the first that it gets
	if _, metrics := s.ask(http.MethodGet, "/metrics", ""); !strings.Contains(metrics, "orgcast_isolation_violations_total 0") {
		t.Error("an isolation violation was counted")
	}
}

// TestExtensionRouteOverOurs: a route of an extension that takes requests from another one keeps the gateway from
// starting, and check says so, too.
func TestExtensionRouteOverOurs(t *testing.T) {
	for name, patterns := range map[string][]string{
		"ours": {"/ws/chat/"}, "within ours": {"/ws/research/7/"}, "its own": {"/ws/a/{x}/", "/ws/a/b/"}, "no pattern": {"ws"},
	} {
		e := app.Extension{Routes: func(app.Parts) (routes []consumer.Route) {
			for _, p := range patterns {
				routes = append(routes, consumer.Route{Pattern: p, New: func() consumer.OrganizationAwareConsumer { return consumer.JSON(intruder{}) }})
			}
			return routes
		}}
		g := program()
		g.Extension = e
		s := newServing(t, "127.0.0.1:1", nil)
		for _, subcommand := range []string{"check", "serve"} {
			var errOut testkit.SyncBuffer
			err := g.Run(t.Context(), cli.Process{Getenv: s.env.get, Environ: s.env.list(), Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: &errOut}, []string{subcommand})
			if err == nil || !strings.Contains(errOut.String(), patterns[len(patterns)-1]) {
				t.Errorf("%s, %s: %v\n%s", name, subcommand, err, &errOut)
			}
		}
	}
}

// replayCalls sends calls to a hook of examples/hooks as somebody does who has seen one: what was done is not done
// again, and what is old, changed or not signed is refused.
func replayCalls(t *testing.T, port, keyFile string, said <-chan string) {
	t.Helper()
	text, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(text)), "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	body := func(user string) string {
		return `{"event":"disconnect","organization_id":"acme","user_id":"` + user + `","role":"","connection_id":"c","path":"/ws/report/7/","params":{"id":7},"query":{},"message":null}`
	}
	send := func(id, signed, sent string, at time.Time, key []byte) int {
		mac := hmac.New(sha256.New, key)
		seconds := strconv.FormatInt(at.Unix(), 10)
		_, _ = io.WriteString(mac, id+"."+seconds+"."+signed)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:"+port+"/", strings.NewReader(sent))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Webhook-Id", id)
		r.Header.Set("Webhook-Timestamp", seconds)
		r.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testkit.Patience}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	now := time.Now()
	for _, call := range []struct {
		what, id, signed, sent string
		at                     time.Time
		key                    []byte
		want                   int
	}{
		{"a call", "m1", body("zoe"), body("zoe"), now, key, 200},
		{"the same again", "m1", body("zoe"), body("zoe"), now, key, 200},
		{"an old one", "m2", body("old"), body("old"), now.Add(-time.Hour), key, 401},
		{"one of the future", "m3", body("future"), body("future"), now.Add(time.Hour), key, 401},
		{"a changed one", "m4", body("mia"), body("eve"), now, key, 401},
		{"one under another key", "m5", body("eve"), body("eve"), now, []byte("another key of thirty-two bytes!"), 401},
		{"another call", "m6", body("mia"), body("mia"), now, key, 200},
	} {
		if got := send(call.id, call.signed, call.sent, call.at, call.key); got != call.want {
			t.Errorf("%s: got %d, want %d", call.what, got, call.want)
		}
	}
	for _, want := range []string{"left acme zoe", "left acme mia"} {
		testkit.Eventually(t, want, func() bool {
			select {
			case line := <-said:
				if line != want {
					t.Fatalf("the hook has done %q, want %q", line, want)
				}
				return true
			default:
				return false
			}
		})
	}
}

// TestReloadKeepsTheHookOfOpenConnections: after SIGHUP, messages of open connections go on to the hook that they came
// with, and those of new ones to the new hook.
func TestReloadKeepsTheHookOfOpenConnections(t *testing.T) {
	hook := func(name string, calls *atomic.Int32) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			_, _ = io.WriteString(w, `{"send":[{"type":"`+name+`"}]}`)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	var first, second atomic.Int32
	dir := t.TempDir()
	routes := func(url string) {
		writeFile(t, dir, "hook.key", "whsec_"+base64.StdEncoding.EncodeToString([]byte("thirty-two bytes of a hook's key"))+"\n")
		writeFile(t, dir, "routes.yaml", "version: 1\nroutes:\n  - path: /ws/report/{id:int}/\n    who: member\n    groups: [\"report_{id}\"]\n"+
			"    hook: {url: \""+url+"\", key-file: hook.key, timeout: 10s, on: [connect, receive]}\n")
	}
	routes(hook("first", &first))
	s := &secrets{dir: dir, serving: startServe(t, redistest.Start(t), environment{"ORGCAST_ROUTES_FILE": dir + "/routes.yaml"})}
	s.expectReady()
	old := s.visitAt(t, "/ws/report/7/", "ada", "acme")
	old.Expect(t, `{"type":"first"}`)
	routes(hook("second", &second))
	s.hangup(t, `orgcast_reloads_total{result="ok"} 1`, "settings reloaded")
	fresh := s.visitAt(t, "/ws/report/7/", "ada", "acme")
	fresh.Expect(t, `{"type":"second"}`)
	if got := say(t, old, `{"type":"x"}`); got != `{"type":"first"}` {
		t.Errorf("an open connection: got %s", got)
	}
	if got := say(t, fresh, `{"type":"x"}`); got != `{"type":"second"}` {
		t.Errorf("a new connection: got %s", got)
	}
	if first.Load() != 2 || second.Load() != 2 {
		t.Errorf("got %d and %d calls, want 2 of each", first.Load(), second.Load())
	}
}
