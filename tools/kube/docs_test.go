package kube

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// cluster stands in for Kubernetes where docs/kubernetes.md needs one: helm renders instead of
// installing, and a command in a pod runs here, with the files that the pod would have.
type cluster struct {
	t          *testing.T
	dir        string                       // where the commands run
	namespaces map[string]map[string]string // name → its Secrets → their keys, comma-separated
	release    release
	namespace  string // of the release
	config     string // settings file of its pods, with our Redis
	admin      string // address of the private listener of the pod that runs
}

// split splits a command as a shell does, as far as the page needs that.
func split(line string) (words []string) {
	for _, m := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(line, -1) {
		words = append(words, m[1]+m[2])
	}
	return words
}

// do carries out a command of the page and returns its output.
func (c *cluster) do(line string) string {
	c.t.Helper()
	words := split(line)
	namespace := ""
	if i := slices.Index(words, "--namespace"); i > 0 {
		if namespace = words[i+1]; c.namespaces[namespace] == nil {
			c.t.Errorf("%s: there is no namespace %s", line, namespace)
		}
		if words[0] == "kubectl" {
			words = slices.Delete(words, i, i+2)
		}
	}
	command := strings.Join(words, " ")
	switch args := words[1:]; {
	case strings.HasPrefix(command, "helm install "):
		return c.install(namespace, args[1:])
	case strings.HasPrefix(command, "helm upgrade --install "):
		return c.install(namespace, args[2:])
	case strings.HasPrefix(command, "kubectl create namespace ") && len(args) == 3:
		c.namespaces[args[2]] = make(map[string]string)
	case strings.HasPrefix(command, "kubectl create secret generic "):
		keys := ""
		for _, arg := range args[4:] {
			name, ok := strings.CutPrefix(arg, "--from-file=")
			if problems := validation.IsConfigMapKey(name); !ok || problems != nil {
				c.t.Errorf("%s: %s: %v", line, arg, problems)
			}
			keys += name + ","
		}
		c.namespaces[namespace][args[3]] = keys
	case strings.HasPrefix(command, "kubectl apply --filename "):
		text, err := os.ReadFile(filepath.Join(repository, args[2]))
		if err != nil {
			c.t.Fatal(err)
		}
		validate(c.t, parse(c.t, text))
	case strings.HasPrefix(command, "kubectl exec deployment/orgcast -- /gateway "):
		return c.gateway(args[4:])
	case slices.Contains([]string{"kubectl rollout status deployment/orgcast", "kubectl rollout restart deployment/orgcast"}, command):
		if name := one[apps.Deployment](c.release).Name; name != "orgcast" || namespace != c.namespace {
			c.t.Errorf("%s: got Deployment %s in %s", line, name, c.namespace)
		}
	case command == "kubectl port-forward service/orgcast 8080:80":
		if !slices.ContainsFunc(all[core.Service](c.release), func(s *core.Service) bool { return s.Name == "orgcast" && s.Spec.Ports[0].Port == 80 }) {
			c.t.Errorf("%s: there is no such Service", line)
		}
	default:
		c.t.Errorf("%s: no stand-in does that", line)
	}
	return ""
}

// install renders the chart and runs its pod, with our Redis.
func (c *cluster) install(namespace string, args []string) string {
	c.t.Helper()
	for i, arg := range args {
		switch {
		case arg == "deploy/helm/orgcast" || strings.HasPrefix(arg, "deploy/"):
			args[i] = filepath.Join(repository, arg)
		case arg == "values.yaml":
			args[i] = filepath.Join(c.dir, arg)
		}
	}
	out, err := run(c.t, "helm", append([]string{"template", "--kube-version", kubernetes}, args...)...)
	if err != nil {
		c.t.Fatalf("helm: %v\n%s", err, out)
	}
	c.release, c.namespace = release{c.t, parse(c.t, []byte(out))}, namespace
	spec, container := c.release.pod()
	for _, volume := range spec.Volumes {
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if s := source.Secret; !strings.Contains(c.namespaces[namespace][s.Name], s.Items[0].Key+",") {
				c.t.Errorf("no key %s of a Secret %s in %s", s.Items[0].Key, s.Name, namespace)
			}
		}
	}
	c.config = unpack(c.t, c.release)
	text, err := os.ReadFile(c.config)
	if err != nil {
		c.t.Fatal(err)
	}
	redis := regexp.MustCompile(`redis://\S+`)
	if !redis.Match(text) {
		c.t.Fatalf("no Redis in\n%s", text)
	}
	text = redis.ReplaceAll(text, []byte("unix://"+startRedis(c.t)))
	text = regexp.MustCompile(`(?m)^redis-password-file.*\n`).ReplaceAll(text, nil) // ours has none
	if err := os.WriteFile(c.config, text, 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.admin = serve(c.t, c.config, container)
	return ""
}

// gateway runs a command of the gateway as in the pod.
func (c *cluster) gateway(args []string) string {
	c.t.Helper()
	i := slices.Index(args, "/etc/orgcast/orgcast.yaml")
	if i < 0 {
		c.t.Fatalf("%q: without the settings file of the pod", args)
	}
	args[i] = c.config
	if args[0] == "top" {
		args = append(args, "--admin", "http://"+c.admin)
	}
	out, err := run(c.t, "gateway", args...)
	if err != nil {
		c.t.Errorf("gateway %q: %v\n%s", args, err, out)
	}
	return out
}

// startRedis starts a server and returns its socket.
func startRedis(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kube") // short: it is a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "redis")
	out := start(t, exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir))
	await(t, out, "eady to accept connections")
	return socket
}

// serve starts the gateway as the pod does, except on free ports of loopback, and returns the
// address of its private listener.
func serve(t *testing.T, config string, container *core.Container) string {
	t.Helper()
	if want := []string{"serve", "--config=/etc/orgcast/orgcast.yaml", "--listen=:8080", "--admin-listen=:9090"}; !slices.Equal(container.Args, want) {
		t.Fatalf("arguments: got %q, want %q", container.Args, want)
	}
	path, err := filepath.Abs(filepath.Join(*bin, "gateway"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "serve", "--config="+config, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--drain=0s", "--drain-wait=0s")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	line := await(t, start(t, cmd), `"serving"`)
	m := regexp.MustCompile(`"private":"([^"]+)"`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("no address in %s", line)
	}
	return m[1]
}

// start starts a process, which ends with the test, and returns its outputs.
func start(t *testing.T, cmd *exec.Cmd) io.Reader {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		_ = out.Close()
	})
	return out
}

// await reads lines until one has the text, and lets the rest go.
func await(t *testing.T, out io.Reader, text string) string {
	t.Helper()
	found := make(chan string, 1)
	go func() {
		var heard strings.Builder
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			heard.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), text) {
				found <- lines.Text()
				_, _ = io.Copy(io.Discard, out)
				return
			}
		}
		found <- "ended:\n" + heard.String()
	}()
	select {
	case line := <-found:
		if !strings.Contains(line, text) || strings.HasPrefix(line, "ended:") {
			t.Fatalf("no %q: %s", text, line)
		}
		return line
	case <-time.After(patience):
		t.Fatalf("no %q", text)
		return ""
	}
}

// TestPage follows docs/kubernetes.md.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(repository + "/docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: t.TempDir(), namespaces: make(map[string]map[string]string)}
	outputs := make(map[string]string)
	for _, block := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		language, code := block[1], block[2]
		switch {
		case language == "console":
			for line := range strings.Lines(code) {
				command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
				if !ok {
					t.Errorf("%s: not a command", line)
				}
				outputs[command] = c.do(command)
			}
		case language == "yaml" && strings.HasPrefix(code, "image:"):
			if err := os.WriteFile(filepath.Join(c.dir, "values.yaml"), []byte(code), 0o600); err != nil {
				t.Fatal(err)
			}
		case language == "yaml" && strings.HasPrefix(code, "rules:"): // shown only: of another program
			if err := yaml.Unmarshal([]byte(code), new(any)); err != nil {
				t.Error(err)
			}
		default:
			t.Errorf("a block in %s is not tested:\n%s", language, code)
		}
	}
	for in, want := range map[string]string{
		"session mint":    "orgcast_session=",
		"check --connect": "No mistakes found.",
		"top --once":      "ORGANIZATION",
	} {
		i := 0
		for command, out := range outputs {
			if strings.Contains(command, in) {
				i++
				if !strings.Contains(out, want) {
					t.Errorf("%s: got\n%s\nwant %q", command, out, want)
				}
			}
		}
		if i != 1 {
			t.Errorf("%d commands have %s, want one", i, in)
		}
	}
}
