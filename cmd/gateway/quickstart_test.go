package main

import (
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestQuickstart follows docs/quickstart.md: it starts the gateway, connects as the page does and publishes.
func TestQuickstart(t *testing.T) {
	page := readDoc(t, "docs/quickstart.md")
	only := func(pattern string) string {
		t.Helper()
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(page, -1)
		if len(found) != 1 {
			t.Fatalf("docs/quickstart.md has %d matches of %s, want 1", len(found), pattern)
		}
		return strings.TrimSpace(found[0][1])
	}
	redisAddr := redistest.Start(t)
	env := environment{"ORGCAST_SESSION_KEYS": testKey, "ORGCAST_REDIS": "redis://" + redisAddr + "/0"}

	mint := strings.Fields(only(`(?m)^\$ bin/gateway (session mint .*?) +#`))
	cookie, errOut, err := execute(t, env, "", mint...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", mint, err, errOut)
	}

	serve := only(`(?m)^\$ bin/gateway serve (.*)$`)
	more := make(environment) // what startServe has, and the page does not say
	for _, m := range regexp.MustCompile(`--([a-z-]+) (\S+)`).FindAllStringSubmatch(serve, -1) {
		more["ORGCAST_"+strings.ToUpper(strings.ReplaceAll(m[1], "-", "_"))] = m[2]
	}
	origin := more["ORGCAST_ORIGINS"]
	if more["ORGCAST_LISTEN"] == "" || more["ORGCAST_DIRECTORY"] != "session" || origin == "" {
		t.Fatalf("the page serves with %q", serve)
	}
	more["ORGCAST_LISTEN"] = "127.0.0.1:0" // the port of the page may be in use
	s := startServe(t, redisAddr, more)
	s.expectReady()

	protocol := only(`new WebSocket\('ws://localhost:8080/ws/events', '([^']+)'\)`)
	ws := testkit.Connect(t, testkit.DialTCP(s.public), testkit.Handshake{Path: "/ws/events", Header: http.Header{
		"Origin": {origin}, "Cookie": {strings.TrimSpace(cookie)}, "Sec-Websocket-Protocol": {protocol},
	}})
	if got, err := ws.Next(); err != nil || !strings.Contains(got, `"type":"welcome"`) {
		t.Fatalf("got %s, %v, want a welcome", got, err)
	}
	if err := ws.SendText(only(`ws\.send\('([^']+)'\)`)); err != nil {
		t.Fatal(err)
	}
	if got, err := ws.Next(); err != nil || !strings.Contains(got, `"type":"subscribed"`) {
		t.Fatalf("got %s, %v, want subscribed", got, err)
	}

	publish := only(`(?m)^\$ redis-cli (publish .*)$`)
	host, port, _ := strings.Cut(redisAddr, ":")
	cli := func(command string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "redis-cli -h "+host+" -p "+port+" "+command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	for _, foreign := range []string{
		strings.ReplaceAll(publish, "acme", "globex"),
		strings.Replace(publish, "{acme}", "{globex}", 1),
		strings.Replace(publish, `"acme"`, `"globex"`, 1),
	} {
		cli(foreign)
	}
	cli(publish) // the first that arrives, so none of the others did
	_, event, _ := strings.Cut(publish, "' '")
	ws.Expect(t, `{"event":`+strings.TrimSuffix(event, "'")+`,"group":"all"}`)
}
