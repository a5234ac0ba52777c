package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"orgcast/internal/cli"
)

// TestVariablesOfOthersAreKnown: serve and check accept every variable that a file in deploy, a
// client package, an example or a script uses, so that one environment serves all of them.
func TestVariablesOfOthersAreKnown(t *testing.T) {
	name := regexp.MustCompile(`\bORGCAST_[A-Z][A-Z_]*[A-Z]\b`)
	var found []string
	for _, dir := range []string{"clients", "deploy", "examples", "scripts"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				if d != nil && d.Name() == "node_modules" {
					return fs.SkipDir
				}
				return err
			}
			if info, err := d.Info(); err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 {
				return err
			}
			text, err := os.ReadFile(path)
			found = append(found, name.FindAllString(string(text), -1)...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(found)
	if found = slices.Compact(found); len(found) < 20 {
		t.Fatalf("found only %q", found)
	}
	env := environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey}
	for _, variable := range found {
		if _, ok := env[variable]; !ok {
			env[variable] = "x"
		}
	}
	_, errOut, _ := execute(t, env, "", "check") // their values are wrong, but not their names
	for line := range strings.Lines(errOut) {
		if strings.Contains(line, "unknown variable") {
			t.Errorf("%s", line)
		}
	}
}

// TestUnknownVariables: every unknown one is named, in serve and check alone, and Kubernetes' are
// not ours.
func TestUnknownVariables(t *testing.T) {
	env := environment{
		"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_ADMIN_LISTEN": "127.0.0.1:1",
		"ORGCAST_ORIGIN": "x", "ORGCAST_WORKER_ATTEMPT": "3", "ORGCAST_CONFIG_FILE": "x",
		"ORGCAST_GATEWAY_SERVICE_HOST": "10.0.0.1", "ORGCAST_GATEWAY_SERVICE_PORT_HTTP": "80", "ORGCAST_GATEWAY_PORT": "tcp://10.0.0.1:80", "ORGCAST_GATEWAY_PORT_80_TCP_PROTO": "tcp",
	}
	for _, command := range []string{"serve", "check"} {
		_, errOut, err := execute(t, env, "", command)
		if cli.ExitCode(err) != 2 || strings.Count(errOut, "unknown variable") != 3 {
			t.Errorf("%s: got %v\n%s", command, err, errOut)
		}
		for _, want := range []string{"ORGCAST_ORIGIN: unknown variable, did you mean ORGCAST_ORIGINS?", "did you mean ORGCAST_WORKER_ATTEMPTS?", "ORGCAST_CONFIG_FILE: unknown variable"} {
			if !strings.Contains(errOut, want) {
				t.Errorf("%s does not tell of %q:\n%s", command, want, errOut)
			}
		}
	}
	for _, args := range [][]string{{"healthcheck"}, {"config", "show"}, {"config", "show", "worker"}} {
		if _, errOut, _ := execute(t, env, "", args...); strings.Contains(errOut, "unknown variable") {
			t.Errorf("%s: got\n%s", args, errOut)
		}
	}
}
