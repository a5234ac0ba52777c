package deploy_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"orgcast/internal/testkit"
)

// dockerStandIn runs what the page has compose run, on this machine: redis-cli against the server
// of state, and the gateway with its socket instead of the name of its container.
const dockerStandIn = `#!/usr/bin/env bash
set -euo pipefail
[[ $1 == compose ]]
case $2 in
exec)
  while [[ $1 != redis-cli ]]; do shift; done
  exec redis-cli -s "$STATE_SOCKET" "${@:2}" ;;
run)
  while [[ $1 != gateway ]]; do shift; done
  export ORGCAST_REDIS_STATE=unix://${ORGCAST_REDIS_STATE#redis://}
  export ORGCAST_REDIS_STATE=${ORGCAST_REDIS_STATE%@*}@$STATE_SOCKET
  exec "$GATEWAY" "${@:2}" ;;
*) exit 1 ;;
esac
`

// commands returns the lines with a prompt in the blocks of README.md that come before its section about
// Sentinel, without it.
func commands(t *testing.T) (list []string) {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme, _, ok := strings.Cut(string(text), "\n## With Sentinel\n")
	if !ok {
		t.Fatal("README.md has no section about Sentinel")
	}
	for _, m := range regexp.MustCompile(`(?m)^\$ (.*)$`).FindAllStringSubmatch(readme, -1) {
		list = append(list, m[1])
	}
	return list
}

// find returns the commands that hold the text.
func find(t *testing.T, text string) (found []string) {
	t.Helper()
	for _, command := range commands(t) {
		if strings.Contains(command, text) {
			found = append(found, command)
		}
	}
	if len(found) == 0 {
		t.Fatalf("README.md has no command with %q", text)
	}
	return found
}

// TestFirstConnection follows README.md from an empty .env to a welcome, with the users and rights
// that it ships.
func TestFirstConnection(t *testing.T) {
	dir := t.TempDir()
	example, err := os.ReadFile(".env.example")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(".env.example", string(example), 0o600)
	bash := func(ctx context.Context, env []string, lines ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", strings.Join(lines, "\n"))
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		return cmd
	}
	if out, err := bash(t.Context(), nil, find(t, "<.env.example")...).CombinedOutput(); err != nil {
		t.Fatalf("filling .env: %v\n%s", err, out)
	}
	filled, err := os.ReadFile(filepath.Join(dir, ".env"))
	if err != nil {
		t.Fatal(err)
	}
	passwords := regexp.MustCompile(`(?m)^ORGCAST_\w+_PASSWORD=[0-9a-f]{64}$`).FindAllString(string(filled), -1)
	if len(passwords) != 6 || !strings.Contains(string(filled), "\nORGCAST_ORIGINS="+origin+"\n") {
		t.Fatalf(".env: got\n%s\nwant six passwords and everything else as it was", filled)
	}
	events, _ := startScript(t, "redis/start.sh", passwords...)
	state, _ := startScript(t, "redis/start.sh", append(passwords, "ORGCAST_REDIS_USERS=state.acl")...)

	binary := filepath.Join(dir, "gateway")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "orgcast/cmd/gateway").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	_, password, _ := strings.Cut(passwords[0], "=")
	s := &site{t: t}
	s.run([]string{
		"ORGCAST_REDIS=unix://gateway:" + password + "@" + events, "ORGCAST_REDIS_STATE=unix://gateway:" + password + "@" + state,
		"ORGCAST_SESSION_STORE=redis", "ORGCAST_DIRECTORY=redis", "ORGCAST_ORIGINS=" + origin,
		"ORGCAST_LISTEN=127.0.0.1:0", "ORGCAST_ADMIN_LISTEN=127.0.0.1:0", "ORGCAST_DRAIN_WAIT=0s", "ORGCAST_DRAIN=0s",
	})
	testkit.Eventually(t, "ready", func() bool { status, _ := s.ask("GET", "/readyz", ""); return status == 200 })

	write("docker", dockerStandIn, 0o700)
	env := []string{"STATE_SOCKET=" + state, "GATEWAY=" + binary, "ORGCAST_REDIS=unix://gateway:" + password + "@" + events, "ORGCAST_SESSION_STORE=redis"}
	lines := append([]string{"PATH=$PWD:$PATH"}, find(t, ". ./.env")...)
	lines = append(lines, find(t, "export REDISCLI_AUTH")...)
	lines = append(append(lines, find(t, "docker compose exec")...), find(t, "docker compose run")...)
	curl := strings.Replace(find(t, "curl -i")[0], "127.0.0.1:8080", s.public, 1)
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	cmd := bash(ctx, env, append(lines, "exec "+curl)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	cmd.Stderr = &told
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const upgraded, welcome = "HTTP/1.1 101 Switching Protocols", `"type":"welcome","organization_id":"acme","user_id":"ada"`
	var got strings.Builder
	for buffer := bufio.NewReader(out); !strings.Contains(got.String(), welcome); {
		b, err := buffer.ReadByte()
		if err != nil {
			break
		}
		got.WriteByte(b)
	}
	_ = cmd.Process.Kill() // it would go on until Ctrl-C
	_ = cmd.Wait()
	if !strings.Contains(got.String(), upgraded) || !strings.Contains(got.String(), welcome) {
		t.Errorf("got %s\n%s\nwant the upgrade and a welcome", got.String(), told.String())
	}
}
