package clients_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/testkit"
)

// program is how a program of our pages is run: from which file, with which command, in addition to which client.
type program struct {
	tag     string // of its block
	pages   []string
	file    string
	command []string
	client  string
}

var programs = map[string]program{
	"node": {"js", []string{"node/README.md"}, "program.mjs", []string{"node"}, "node/orgcast.mjs"},
	"php":  {"php", []string{"php/README.md"}, "program.php", []string{"php"}, "php/Orgcast.php"},
	"ruby": {"ruby", []string{"ruby/README.md"}, "program.rb", []string{"ruby", "-w"}, "ruby/orgcast.rb"},
	"go":   {"go", []string{"go/orgcast/README.md"}, "program.go", []string{"go", "run"}, ""},
	// Its package is installed, or found by PYTHONPATH.
	"python": {"python", []string{"python/README.md"}, "program.py", nil, ""},
}

// block matches a block of code: its language and its text.
var block = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// TestPrograms runs every program of docs/backends.md and of the clients' own pages, as it stands there but
// for the address.
func TestPrograms(t *testing.T) {
	binary := buildGateway(t)
	tested := strings.Split(*languages, ",")
	for language, p := range programs {
		if !slices.Contains(tested, language) {
			continue
		}
		for _, page := range append(p.pages, "../docs/backends.md") {
			t.Run(language+" in "+strings.ReplaceAll(page, "/", " "), func(t *testing.T) {
				text, err := os.ReadFile(page)
				if err != nil {
					t.Fatal(err)
				}
				found := 0
				for _, m := range block.FindAllStringSubmatch(string(text), -1) {
					if m[1] == p.tag {
						found++
						p.run(t, startGateway(t, binary), m[2])
					}
				}
				if found != 1 {
					t.Errorf("got %d programs, want one", found)
				}
			})
		}
	}
	for _, m := range block.FindAllStringSubmatch(readFile(t, "../docs/backends.md"), -1) {
		if m[1] != "console" && !slices.ContainsFunc(mapValues(programs), func(p program) bool { return p.tag == m[1] }) {
			t.Errorf("docs/backends.md has code in %s, which no test runs", m[1])
		}
	}
}

func mapValues(m map[string]program) (list []program) {
	for _, p := range m {
		list = append(list, p)
	}
	return list
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// run runs the program in a folder that has the client too, and looks at what pages get.
func (p program) run(t *testing.T, g *gateway, text string) {
	t.Helper()
	const address = "127.0.0.1:9090"
	if !strings.Contains(text, address) {
		t.Errorf("the program does not name %s", address)
	}
	dir := t.TempDir()
	files := map[string]string{p.file: text}
	if p.client != "" {
		files[filepath.Base(p.client)] = readFile(t, p.client)
	}
	// A page is shown the gateway's own answers in the order of its groups, so each group has a page.
	room := g.connect(t, listener{User: "ada", Organization: "acme", Session: strings.Repeat("A", 43), Group: "room.1"})
	own := g.connect(t, listener{User: "ada", Organization: "acme", Session: strings.Repeat("E", 43), Group: "user.ada"})
	foreign := g.connect(t, listener{User: "ada", Organization: "globex", Session: strings.Repeat("I", 43), Group: "room.1"})
	bob := g.connect(t, listener{User: "bob", Organization: "acme", Session: strings.Repeat("M", 43), Group: "all"})

	f := startFront(t, g.private)
	close(f.beforeRevoking)
	for name, content := range files {
		if name == p.file {
			content = strings.ReplaceAll(content, address, strings.TrimPrefix(f.URL, "http://")+"/direct")
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command, env := append(p.command, filepath.Join(dir, p.file)), []string(nil)
	if p.tag == "python" {
		command, env = pythonCommand(t, command...)
	}
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	if p.client != "" {
		cmd.Dir = dir // the program in Go has its client from this module
	}
	cmd.Env = append(append(os.Environ(), env...), "ORGCAST_PUBLISH_KEY="+publishKey, "ORGCAST_SIGNING_KEY="+signingKey)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errOut.String())
	}
	room.Expect(t, `{"organization_id":"acme","type":"note","text":"hello"}`)
	room.Expect(t, `{"organization_id":"acme","type":"paid","invoice":4711}`)
	own.Expect(t, `{"organization_id":"acme","type":"note","text":"hello, Ada"}`)
	bob.ExpectClose(t, 4403)
	expectGood(t, strings.TrimSpace(string(out)))
	// The other organization has its own events and nothing before them.
	if err := g.redis.Publish(t.Context(), "orgcast:{globex}:group:room.1", `{"type":"last","organization_id":"globex"}`).Err(); err != nil {
		t.Fatal(err)
	}
	foreign.Expect(t, `{"type":"last","organization_id":"globex"}`)
	if attempts, want := f.total("direct", ""), 4; attempts != want {
		t.Errorf("got %d calls, want %d", attempts, want)
	}
}

// expectGood sees that the token opens the group, for about ten minutes.
func expectGood(t *testing.T, token string) {
	t.Helper()
	group := testkit.Group(t, "acme", "invoice_4711")
	until, _, _ := strings.Cut(token, ".")
	var expires int64
	if err := json.Unmarshal([]byte(until), &expires); err != nil {
		t.Fatalf("got the token %q", token)
	}
	if want := consumer.SignGroup([]byte(signingKey), group, time.Unix(expires, 0)); token != want {
		t.Errorf("got the token %q, want %q", token, want)
	}
	if left := time.Until(time.Unix(expires, 0)); left > 10*time.Minute || left < 10*time.Minute-2*testkit.Patience {
		t.Errorf("the token is good for %v, want ten minutes", left)
	}
}
