package clients_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"orgcast/internal/outgoing"
	"orgcast/internal/testkit"
)

// signed is a webhook and what a receiver knows.
type signed struct {
	Key     string            `json:"key"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// verifiers are how the functions of docs/webhooks.md are run: each reads calls as lines of JSON, and
// answers yes or no.
var verifiers = map[string]struct {
	tag, file      string
	command        []string
	before, behind string
}{
	"node": {"js", "verify.mjs", []string{"node"}, "", `
import { createInterface } from "node:readline";
for await (const line of createInterface({ input: process.stdin })) {
  const { key, headers, body } = JSON.parse(line);
  console.log(verified(key, headers, body) ? "yes" : "no");
}
`},
	"php": {"php", "verify.php", []string{"php"}, "<?php\n", `
while (($line = fgets(STDIN)) !== false) {
    $c = json_decode($line, true);
    echo verified($c["key"], $c["headers"], $c["body"]) ? "yes\n" : "no\n";
}
`},
	"ruby": {"ruby", "verify.rb", []string{"ruby", "-w"}, "", `
require "json"
STDIN.each_line do |line|
  c = JSON.parse(line)
  puts verified(c["key"], c["headers"], c["body"]) ? "yes" : "no"
end
`},
	"python": {"python", "verify.py", []string{"python3"}, "", `
import json, sys
for line in sys.stdin:
    c = json.loads(line)
    print("yes" if verified(c["key"], c["headers"], c["body"].encode()) else "no")
`},
}

// TestWebhooksInDocs: the functions of docs/webhooks.md accept what the gateway has signed, with either
// key while there are two, and nothing else.
func TestWebhooksInDocs(t *testing.T) {
	const first, second, foreign = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "whsec_c2Vjb25kIHNlY29uZCBzZWNvbmQgc2Vj", "whsec_Zm9yZWlnbiBmb3JlaWduIGZvcmVpZ24g"
	genuine := signedCall(t, first+" "+second, `{"type":"group.occupied","data":{"organization_id":"acme","group":"ü"}}`)
	change := func(change func(c *signed)) signed {
		c := genuine
		c.Headers = maps.Clone(genuine.Headers)
		change(&c)
		return c
	}
	calls := []signed{
		change(func(c *signed) { c.Key = first }),
		change(func(c *signed) { c.Key = second }),
		change(func(c *signed) { c.Key = foreign }),
		change(func(c *signed) { c.Key, c.Body = first, strings.Replace(c.Body, "acme", "globex", 1) }),
		change(func(c *signed) { c.Key, c.Headers["webhook-timestamp"] = first, "1700000000" }),
		change(func(c *signed) { c.Key, c.Headers["webhook-id"] = first, "msg_other" }),
		change(func(c *signed) { c.Key, c.Headers["webhook-signature"] = first, "v1,AAAA" }),
		// Signed with a right key, and too old.
		{first, map[string]string{"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330", "webhook-signature": oldSignature}, `{"test": 2432232314}`},
	}
	const want = "yes yes no no no no no no"
	var input strings.Builder
	for _, c := range calls {
		line, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		input.Write(append(line, '\n'))
	}
	for language, v := range verifiers {
		if !slices.Contains(strings.Split(*languages, ","), language) {
			continue
		}
		t.Run(language, func(t *testing.T) {
			found := 0
			for _, m := range block.FindAllStringSubmatch(readFile(t, "../docs/webhooks.md"), -1) {
				if m[1] != v.tag {
					continue
				}
				found++
				path := filepath.Join(t.TempDir(), v.file)
				if err := os.WriteFile(path, []byte(v.before+m[2]+v.behind), 0o600); err != nil {
					t.Fatal(err)
				}
				cmd := exec.CommandContext(t.Context(), v.command[0], append(v.command[1:], path)...)
				cmd.Stdin = strings.NewReader(input.String())
				out, err := cmd.CombinedOutput()
				if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != want {
					t.Errorf("got %s, %v, want %s", got, err, want)
				}
			}
			if found != 1 {
				t.Errorf("got %d functions, want one", found)
			}
		})
	}
}

// oldSignature is one of 2021 with the first key.
const oldSignature = "v1,d5PJaLhU6hQf9TLleqdn97PBQffdITHtAOuMMHkRQ4U="

// signedCall makes a call as the gateway does, and returns what the receiver got.
func signedCall(tb testing.TB, keys, body string) (c signed) {
	tb.Helper()
	signing, err := outgoing.ParseKeys(keys)
	if err != nil {
		tb.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		c.Body, c.Headers = string(text), make(map[string]string)
		for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
			c.Headers[name] = r.Header.Get(name)
		}
	}))
	defer s.Close()
	client := outgoing.New(outgoing.Options{})
	defer client.Close()
	e, err := client.Endpoint(outgoing.EndpointOptions{Purpose: "webhook", URL: s.URL, Timeout: testkit.Patience})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := e.Post(tb.Context(), outgoing.Call{Organization: testkit.Org(tb, "acme"), ID: "msg_1", Body: []byte(body), Keys: signing}); err != nil {
		tb.Fatal(err)
	}
	return c
}
