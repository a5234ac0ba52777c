package docs_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"orgcast/internal/testkit/apidocs"
)

const (
	whatRuns   = "run here"
	whatParses = "parsed"
)

// checks are what this package does with blocks, by language. Each returns what it did.
var checks = map[string]func(t *testing.T, l *lab, b block) string{
	"console": console, "python": python, "go": goCode, "json": jsonLines, "yaml": yamlFile, "http": httpRequest, "nginx": nginx,
	"sh": shell, "js": javaScript, "jsx": javaScriptXML, "ts": typeScript, "haproxy": haproxy, "caddyfile": caddy, "mermaid": diagram,
}

func shell(t *testing.T, _ *lab, b block) string {
	t.Helper()
	return parses(t, b, ".sh", "sh", "-n")
}

func javaScript(t *testing.T, _ *lab, b block) string {
	t.Helper()
	return script(t, b, "js")
}

func javaScriptXML(t *testing.T, _ *lab, b block) string {
	t.Helper()
	return script(t, b, "jsx")
}

func typeScript(t *testing.T, _ *lab, b block) string {
	t.Helper()
	return script(t, b, "ts")
}

func haproxy(t *testing.T, _ *lab, b block) string {
	t.Helper()
	b.text = strings.ReplaceAll(b.text, "/etc/haproxy/site.pem", certificate(t))
	return parses(t, b, ".cfg", "/usr/sbin/haproxy", "-c", "-f")
}

func caddy(t *testing.T, _ *lab, b block) string {
	t.Helper()
	return parses(t, b, ".caddyfile", "caddy", "validate", "--adapter", "caddyfile", "--config")
}

// diagram does nothing: the test of the site draws all diagrams of the page.
func diagram(t *testing.T, _ *lab, _ block) string {
	t.Helper()
	return "drawn"
}

// file writes a text into a folder of the test.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// parses gives the block to a program that parses it.
func parses(t *testing.T, b block, suffix, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, append(args, file(t, "block"+suffix, b.text))...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", b, err, out)
	}
	return whatParses
}

// certificate returns a file with a key and a certificate.
func certificate(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "site.pem")
	args := []string{"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=app.example.com", "-keyout", path, "-out", path + ".crt"}
	if out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	key, err := os.ReadFile(path)
	crt, crtErr := os.ReadFile(path + ".crt")
	if err := errors.Join(err, crtErr, os.WriteFile(path, append(key, crt...), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// python runs the functions of a page whose result it knows, and parses other code.
func python(t *testing.T, _ *lab, b block) string {
	t.Helper()
	tests := map[string]string{
		"def sign_group":          `assert sign_group(b"0123456789abcdef0123456789abcdef", "acme", "invoice_7", 1800000000) == "1800000000.e15276c949b7dac3b375129f0655cd460a2b750c5e830e0a7266c53f94f0d03b"`,
		"def session_id":          `assert session_id("A" * 43) == "qR3Dyv39wbobkEJJEWWaShVqBwaJyrbDA_dygelh-v4"`,
		"client.register_script(": "", "response.set_cookie(": "",
	}
	for text, after := range tests {
		if !strings.Contains(b.text, text) {
			continue
		}
		if after == "" {
			return parses(t, b, ".py", "/usr/bin/python3", "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())")
		}
		code := "import base64, hashlib, json\nclass redis: Redis = None\n" + b.text + "\n" + after
		if out, err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", code).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", b, err, out)
		}
		return whatRuns
	}
	t.Errorf("%v: nothing is known of this code", b)
	return ""
}

// goCode parses a file, or a fragment of one.
func goCode(t *testing.T, _ *lab, b block) string {
	t.Helper()
	text := b.text
	if !strings.HasPrefix(text, "package ") {
		text = "package p\nfunc _() {\n" + text + "\n}"
	}
	if _, err := parser.ParseFile(token.NewFileSet(), "", text, parser.AllErrors); err != nil {
		t.Errorf("%v: %v", b, err)
	}
	return whatParses
}

// script runs sign_group in JavaScript, and lets esbuild parse other code.
func script(t *testing.T, b block, loader string) string {
	t.Helper()
	if strings.Contains(b.text, "export function signGroup") {
		code := b.text + "\nif (signGroup('0123456789abcdef0123456789abcdef', 'acme', 'invoice_7', 1800000000) !== '1800000000.e15276c949b7dac3b375129f0655cd460a2b750c5e830e0a7266c53f94f0d03b') process.exit(1);"
		if out, err := exec.CommandContext(t.Context(), "node", "--input-type=module", "--eval", code).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", b, err, out)
		}
		return whatRuns
	}
	cmd := exec.CommandContext(t.Context(), "node", "--eval", "require('esbuild').transformSync(require('fs').readFileSync(0, 'utf8'), {loader: '"+loader+"', format: 'esm'})")
	cmd.Dir, cmd.Stdin = filepath.Join(root, "web"), strings.NewReader(b.text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v (npm ci --prefix web brings esbuild)\n%s", b, err, out)
	}
	return whatParses
}

// jsonLines parses each line. A frame of a known type must fit docs/api.
func jsonLines(t *testing.T, _ *lab, b block) string {
	t.Helper()
	d := apidocs.Read(t, apidocs.Frames)
	for line := range strings.Lines(b.text) {
		var frame map[string]any
		if err := json.Unmarshal([]byte(line), &frame); err != nil {
			t.Errorf("%v: %s: %v", b, line, err)
			continue
		}
		typ, _ := frame["type"].(string)
		var known, fits bool
		var why error
		for name := range d.Object(t, "components", "schemas") {
			schema := d.Object(t, "components", "schemas", name)
			properties, _ := schema["properties"].(apidocs.Object)
			own, _ := properties["type"].(apidocs.Object)
			if typ == "" || own["const"] != typ {
				continue
			}
			known = true
			if err := d.Schema(t, name, []byte(strings.ReplaceAll(line, "…", "X"))); err == nil {
				fits = true
			} else {
				why = err
			}
		}
		if known && !fits && frame["organization_id"] == nil {
			t.Errorf("%v: %s: %v", b, line, why)
		}
	}
	return whatParses
}

// yamlFile gives settings and routes to gateway check, and parses other files.
func yamlFile(t *testing.T, l *lab, b block) string {
	t.Helper()
	switch {
	case strings.HasPrefix(b.text, "origins:"):
		text := regexp.MustCompile(`/run/secrets/`).ReplaceAllString(b.text, "")
		l.run(t, b, map[string]string{"orgcast.yaml": text, "session-url-key": testKey, "redis-password": "p"}, "env -u ORGCAST_REDIS gateway check --config orgcast.yaml")
		return whatRuns
	case strings.Contains(b.text, "- path: /ws/"):
		text := b.text
		if !strings.HasPrefix(text, "version:") {
			text = "version: 1\nroutes:\n  " + strings.ReplaceAll(text, "\n", "\n  ")
		}
		l.run(t, b, map[string]string{"routes.yaml": text, "hook.key": "whsec_" + testKey}, "chmod 600 hook.key; gateway check --routes-file routes.yaml")
		return whatRuns
	}
	var v any
	if err := yaml.UnmarshalWithOptions([]byte(b.text), &v, yaml.Strict()); err != nil {
		t.Errorf("%v: %v", b, err)
	}
	return whatParses
}

// httpRequest parses a request.
func httpRequest(t *testing.T, _ *lab, b block) string {
	t.Helper()
	if _, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(b.text, "\n", "\r\n")))); err != nil {
		t.Errorf("%v: %v", b, err)
	}
	return whatParses
}

// nginx lets nginx test a configuration with the block in it.
func nginx(t *testing.T, _ *lab, b block) string {
	t.Helper()
	dir := t.TempDir()
	inside := b.text
	if !strings.Contains(inside, "server {") {
		inside = "server { listen 127.0.0.1:1;\n" + inside + "}\n"
	}
	if !strings.Contains(inside, "upstream orgcast") {
		inside = "upstream orgcast { server 127.0.0.1:2; }\n" + inside
	}
	b.text = "error_log stderr; pid " + dir + "/pid;\nevents {}\nhttp {\naccess_log off; client_body_temp_path " + dir + "; proxy_temp_path " + dir + ";\nfastcgi_temp_path " + dir + "; uwsgi_temp_path " + dir + "; scgi_temp_path " + dir + ";\n" + inside + "}\n"
	return parses(t, b, ".conf", "/usr/sbin/nginx", "-t", "-q", "-c")
}
