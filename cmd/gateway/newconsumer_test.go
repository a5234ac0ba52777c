//go:build more

package main

import (
	"encoding/json"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestEleventhConsumer does what docs/consumers.md says: it adds the file and the line, to a copy
// that only the compiler sees, builds, and looks at the frames.
func TestEleventhConsumer(t *testing.T) {
	t.Parallel()
	doc, routes := readDoc(t, "docs/consumers.md"), readDoc(t, "internal/app/routes.go")
	blocks := make(map[string][]string) // language → content
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(section(t, doc, "A new built-in consumer"), -1) {
		blocks[m[1]] = append(blocks[m[1]], m[2])
	}
	const last = "{\"crawl\", "
	if len(blocks["go"]) != 2 || len(blocks["console"]) != 1 || len(blocks["json"]) != 2 || strings.Count(routes, last) != 1 {
		t.Fatalf("got other blocks than expected: %q", blocks)
	}
	if formatted, err := format.Source([]byte(blocks["go"][0])); err != nil || string(formatted) != blocks["go"][0] {
		t.Errorf("the file is not formatted: %v", err)
	}
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay := map[string]map[string]string{"Replace": {}}
	for path, text := range map[string]string{
		"internal/consumer/report.go": blocks["go"][0],
		"internal/app/routes.go":      strings.Replace(routes, last, strings.TrimSpace(blocks["go"][1])+"\n\t\t"+last, 1),
	} {
		file := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay["Replace"][filepath.Join(root, path)] = file
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "gateway")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, "./cmd/gateway")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}

	s := newServing(t, redistest.Start(t), environment{"ORGCAST_CONSUMERS": "report"})
	cmd := exec.Command(binary)
	cmd.Stderr = s.log
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s.findAddresses()
	s.expectReady()
	connect := func(org string) *testkit.Client {
		h := s.mint("ada", org)
		h.Path = "/ws/report/7/"
		return testkit.Connect(t, testkit.DialTCP(s.public), h)
	}
	first, live, _ := strings.Cut(blocks["json"][0], "\n")
	late := blocks["json"][1]
	acme, globex := connect("acme"), connect("globex")
	acme.Expect(t, first)
	globex.Expect(t, first)
	// The command as it stands there, for a shell that takes quotes away.
	_, command, _ := strings.Cut(strings.TrimSpace(blocks["console"][0]), "gateway ")
	args := strings.Fields(strings.ReplaceAll(command, "'", ""))
	if _, errOut, err := execute(t, s.env, "", args...); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, errOut)
	}
	acme.Expect(t, live)
	connect("acme").Expect(t, late)
	connect("globex").Expect(t, first)
	if err := acme.SendText(`{"type":"get_state"}`); err != nil {
		t.Fatal(err)
	}
	acme.Expect(t, late)
	if got := say(t, globex, `{"type":"report_complete"}`); code(got) != "unknown_type" { // and nothing before it
		t.Errorf("got %s, want unknown_type", got)
	}
}
