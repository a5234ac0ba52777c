package docs_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/apidocs"
	"orgcast/internal/testkit/redistest"
)

const testKey = "0123456789abcdef0123456789abcdef"

// lab is where commands run: a gateway with its Redis, and programs that lead to them.
type lab struct {
	redis, public, private string
	path                   string // of the programs
	targets                string // the Makefile
}

// newLab builds and starts the gateway.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{redis: redistest.Start(t), path: t.TempDir()}
	binary := filepath.Join(t.TempDir(), "gateway")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "orgcast/cmd/gateway").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	l.targets = string(makefile)
	serve := exec.Command(binary, "serve")
	serve.Env = append(os.Environ(), l.env()...)
	serve.Env = append(serve.Env, "ORGCAST_LISTEN=127.0.0.1:0", "ORGCAST_ADMIN_LISTEN=127.0.0.1:0")
	stderr, err := serve.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	serving, ended := make(chan [2]string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var entry struct{ Msg, Public, Private string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
				serving <- [2]string{entry.Public, entry.Private}
			}
		}
		_ = serve.Wait()
	}()
	t.Cleanup(func() {
		_ = serve.Process.Kill()
		<-ended
	})
	select {
	case at := <-serving:
		l.public, l.private = at[0], at[1]
	case <-ended:
		t.Fatal("the gateway ended at once")
	case <-time.After(testkit.Patience):
		t.Fatal("the gateway does not serve")
	}
	heard := redistest.NewClient(t, l.redis).Subscribe(t.Context(), "orgcast:{acme}:group:room.1", "orgcast:{acme}:group:"+event.UserGroupName("auth0|123"))
	t.Cleanup(func() { _ = heard.Close() })
	if _, err := heard.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(l.redis, ":")
	for name, text := range map[string]string{
		// What would serve or stay is checked: its settings are in order.
		"gateway":   fmt.Sprintf("case \"$1\" in serve|worker) shift; set -- check \"$@\" ;; esac\nexec %s \"$@\"", binary),
		"redis-cli": fmt.Sprintf("exec /usr/bin/redis-cli --no-raw -h %s -p %s \"$@\"", host, port),
		"pidof":     fmt.Sprintf("echo %d", serve.Process.Pid),
		"producer":  "for i in $(seq 500); do echo '{\"type\":\"note\"}'; done",
	} {
		if err := os.WriteFile(filepath.Join(l.path, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// env is the environment of commands and of the gateway.
func (l *lab) env() []string {
	return []string{
		"ORGCAST_REDIS=redis://" + l.redis + "/0", "ORGCAST_SESSION_KEYS=" + testKey,
		"ORGCAST_ORIGINS=https://app.example.com", "ORGCAST_PUBLISH_KEY=publish-key-of-thirty-two-bytes!", "ORGCAST_ADMIN=http://" + l.private,
	}
}

// run runs a command in a folder with files.
func (l *lab) run(t *testing.T, b block, files map[string]string, command string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return l.runIn(t, b, dir, command)
}

func (l *lab) runIn(t *testing.T, b block, dir, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	command = strings.NewReplacer("127.0.0.1:9090", l.private, "127.0.0.1:6379", l.redis, "127.0.0.1:8080", "127.0.0.1:0", " …", "").Replace(command)
	cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", "PATH="+l.path+":$PATH\n"+command)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), l.env()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s: %v\n%s", b, command, err, out)
	}
	return string(out)
}

// call is a command of a block and what the page says that it prints.
type call struct{ command, printed string }

// calls splits a block. A command goes on until the shell says that it is whole.
func calls(t *testing.T, b block) (list []call) {
	t.Helper()
	whole := true
	for line := range strings.Lines(b.text) {
		command, begins := strings.CutPrefix(line, "$ ")
		switch {
		case whole && begins:
			list = append(list, call{command: command})
		case len(list) == 0:
			t.Fatalf("%v: begins with no command", b)
		case !whole:
			list[len(list)-1].command += line
		default:
			list[len(list)-1].printed += line
			continue
		}
		text := list[len(list)-1].command
		whole = !strings.HasSuffix(text, "\\\n") && exec.CommandContext(t.Context(), "bash", "-n", "-c", text).Run() == nil
	}
	return list
}

// console runs a block, command by command.
func console(t *testing.T, l *lab, b block) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"routes.yaml": "version: 1\nroutes:\n  - path: /ws/x/\n    who: member\n    groups: [x]\n", "session-key": testKey, "publish-key": testKey + "p", "console-key": testKey + "c",
		"key": testKey, "secret-keys": testKey + "s",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	how := whatParses
	for _, c := range calls(t, b) {
		if target := regexp.MustCompile(`^make ([a-z-]+)`).FindStringSubmatch(c.command); target != nil {
			if !strings.Contains(l.targets, "\n"+target[1]+": ") && !strings.Contains(l.targets, "\n"+target[1]+":\n") {
				t.Errorf("%v: there is no target %s", b, target[1])
			}
			continue
		}
		if program, _, _ := strings.Cut(c.command, " "); strings.HasPrefix(program, "scripts/") {
			if _, err := os.Stat(filepath.Join(root, program)); err != nil {
				t.Errorf("%v: %v", b, err)
			}
			continue
		}
		how = whatRuns
		out := l.runIn(t, b, dir, c.command)
		if api := regexp.MustCompile(`curl -s (?:-X POST )?'?http://[^/]+(/v1/\w+)`).FindStringSubmatch(c.command); api != nil {
			l.answers(t, b, api[1], c.printed)
			l.answers(t, b, api[1], out)
			continue
		}
		if want := likeness(c.printed); want != nil && !want.MatchString(strings.TrimSpace(out)) {
			t.Errorf("%v: %s prints\n%s\nthe page says\n%s", b, c.command, out, c.printed)
		}
	}
	return how
}

// answers checks an answer of the API on a page.
func (l *lab) answers(t *testing.T, b block, path, text string) {
	t.Helper()
	d := apidocs.Read(t, apidocs.Private)
	for _, method := range []string{"get", "post"} {
		if d.Object(t, "paths", path)[method] == nil {
			continue
		}
		if err := d.Validate(t, []byte(text), "paths", path, method, "responses", "200", "content", "application/json", "schema"); err != nil {
			t.Errorf("%v: %s: %s: %v", b, path, text, err)
		}
	}
}

// likeness matches what is printed but for numbers, and what … stands for. It is nil if the page says
// nothing.
func likeness(printed string) *regexp.Regexp {
	if strings.TrimSpace(printed) == "" {
		return nil
	}
	pattern := regexp.QuoteMeta(strings.TrimSpace(printed))
	pattern = regexp.MustCompile(`\d+`).ReplaceAllString(pattern, `\d+`)
	pattern = regexp.MustCompile(`nodes?`).ReplaceAllString(pattern, `nodes?`)
	return regexp.MustCompile("(?s)^" + strings.ReplaceAll(pattern, "…", ".*") + "$")
}
