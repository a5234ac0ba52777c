// Package kube tests the Helm chart in deploy/helm/orgcast without a cluster, with helm,
// kubectl-validate, kube-score and the gateway itself. `make chart-test` builds them and runs it.
package kube

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

const (
	repository = "../.."
	chart      = repository + "/deploy/helm/orgcast"
	// kubernetes is the oldest version that the chart supports.
	kubernetes = "1.30"
)

var bin = flag.String("bin", repository+"/bin/kube", "folder with helm, kubectl-validate, kube-score and gateway")

// run runs a program of bin. It returns what it wrote to standard output, and of one that failed
// also what it wrote to standard error.
func run(tb testing.TB, name string, args ...string) (string, error) {
	tb.Helper()
	path, err := filepath.Abs(filepath.Join(*bin, name))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("%v: run make chart-test, which builds it", err)
	}
	cmd := exec.CommandContext(tb.Context(), path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + tb.TempDir()} // nobody's kubeconfig or settings
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return string(out) + errOut.String(), err
	}
	return string(out), nil
}

// examples returns the paths of the values files that the chart ships.
func examples(tb testing.TB) []string {
	tb.Helper()
	found, err := filepath.Glob(chart + "/examples/*.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	found = slices.DeleteFunc(found, func(path string) bool { return filepath.Base(path) == "redis-server.yaml" })
	if len(found) < 4 {
		tb.Fatalf("examples: got %q, want at least four", found)
	}
	return found
}

// object is what the tests look at of a Kubernetes object.
type object struct {
	meta.TypeMeta `json:",inline"`
	text          []byte
}

// release is the rendered chart.
type release struct {
	tb      testing.TB
	objects []object
}

// template renders the chart as release orgcast in the namespace web.
func template(tb testing.TB, args ...string) release {
	tb.Helper()
	out, err := run(tb, "helm", append([]string{"template", "orgcast", chart, "--namespace", "web", "--kube-version", kubernetes}, args...)...)
	if err != nil {
		tb.Fatalf("helm template %q: %v\n%s", args, err, out)
	}
	return release{tb, parse(tb, []byte(out))}
}

// parse splits a stream of documents.
func parse(tb testing.TB, stream []byte) (found []object) {
	tb.Helper()
	for text := range bytes.SplitSeq(stream, []byte("\n---\n")) {
		o := object{text: text}
		if err := yaml.Unmarshal(text, &o); err != nil {
			tb.Fatalf("%v in\n%s", err, text)
		}
		if o.Kind != "" {
			found = append(found, o)
		}
	}
	return found
}

// types are all kinds that the chart may render, with a Go type for each. The custom ones have no
// schema in Kubernetes, so this strict decoding is what checks them.
var types = map[string]struct {
	custom bool
	make   func() any
}{
	"apps/v1, Kind=Deployment":                      {make: func() any { return new(apps.Deployment) }},
	"autoscaling/v2, Kind=HorizontalPodAutoscaler":  {make: func() any { return new(autoscaling.HorizontalPodAutoscaler) }},
	"/v1, Kind=ConfigMap":                           {make: func() any { return new(core.ConfigMap) }},
	"/v1, Kind=Service":                             {make: func() any { return new(core.Service) }},
	"/v1, Kind=ServiceAccount":                      {make: func() any { return new(core.ServiceAccount) }},
	"networking.k8s.io/v1, Kind=Ingress":            {make: func() any { return new(networking.Ingress) }},
	"networking.k8s.io/v1, Kind=NetworkPolicy":      {make: func() any { return new(networking.NetworkPolicy) }},
	"policy/v1, Kind=PodDisruptionBudget":           {make: func() any { return new(policy.PodDisruptionBudget) }},
	"keda.sh/v1alpha1, Kind=ScaledObject":           {true, func() any { return new(keda.ScaledObject) }},
	"monitoring.coreos.com/v1, Kind=ServiceMonitor": {true, func() any { return new(monitoring.ServiceMonitor) }},
	"monitoring.coreos.com/v1, Kind=PrometheusRule": {true, func() any { return new(monitoring.PrometheusRule) }},
	"gateway.networking.k8s.io/v1, Kind=HTTPRoute":  {true, func() any { return new(gateway.HTTPRoute) }},
}

// decode decodes an object into its Go type, and refuses what the type does not have.
func decode(tb testing.TB, o object) any {
	tb.Helper()
	known, ok := types[o.GroupVersionKind().String()]
	if !ok {
		tb.Fatalf("no type for %v", o.GroupVersionKind())
	}
	value := known.make()
	if err := yaml.UnmarshalStrict(o.text, value); err != nil {
		tb.Errorf("%s: %v", o.Kind, err)
	}
	return value
}

// all returns the objects of a type.
func all[T any](r release) (found []*T) {
	for _, o := range r.objects {
		if value, ok := decode(r.tb, o).(*T); ok {
			found = append(found, value)
		}
	}
	return found
}

// one returns the only object of a type.
func one[T any](r release) *T {
	r.tb.Helper()
	found := all[T](r)
	if len(found) != 1 {
		r.tb.Fatalf("got %d objects of %T, want one", len(found), *new(T))
	}
	return found[0]
}

// pod returns the pod of the Deployment and its only container.
func (r release) pod() (*core.PodSpec, *core.Container) {
	r.tb.Helper()
	spec := &one[apps.Deployment](r).Spec.Template.Spec
	if len(spec.Containers) != 1 || len(spec.InitContainers) != 0 {
		r.tb.Fatalf("got %d and %d containers, want one", len(spec.Containers), len(spec.InitContainers))
	}
	return spec, &spec.Containers[0]
}

// validate holds built-in kinds to the schemas of Kubernetes.
func validate(tb testing.TB, objects []object) {
	tb.Helper()
	dir := tb.TempDir()
	for i, o := range objects {
		if types[o.GroupVersionKind().String()].custom {
			decode(tb, o)
			continue
		}
		path := filepath.Join(dir, strings.ToLower(o.Kind)+string(rune('a'+i))+".yaml")
		if err := os.WriteFile(path, o.text, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	if out, err := run(tb, "kubectl-validate", "--version", kubernetes, dir); err != nil {
		tb.Errorf("kubectl-validate: %v\n%s", err, out)
	}
}

// TestExamples: what the chart makes of each example passes its linters and is valid.
func TestExamples(t *testing.T) {
	for _, path := range examples(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if out, err := run(t, "helm", "lint", "--strict", chart, "--kube-version", kubernetes, "--values", path); err != nil {
				t.Errorf("helm lint: %v\n%s", err, out)
			}
			r := template(t, "--values", path)
			validate(t, r.objects)
		})
	}
	server, err := os.ReadFile(chart + "/examples/redis-server.yaml")
	if err != nil {
		t.Fatal(err)
	}
	validate(t, parse(t, server))
}

// TestInvalidIsNoticed: the checks of TestExamples find a misspelled field, in built-in and custom
// kinds, and one that this version of Kubernetes does not have.
func TestInvalidIsNoticed(t *testing.T) {
	r := template(t, "--values", chart+"/examples/large.yaml")
	for kind, change := range map[string][2]string{
		"Deployment":     {"readinessProbe:", "readynessProbe:"},
		"ServiceMonitor": {"matchLabels:", "matchLabel:"},
		"HTTPRoute":      {"timeouts:", "timeout:"},
	} {
		i := slices.IndexFunc(r.objects, func(o object) bool { return o.Kind == kind })
		if i < 0 {
			t.Fatalf("no %s", kind)
		}
		wrong := r.objects[i]
		wrong.text = bytes.ReplaceAll(wrong.text, []byte(change[0]), []byte(change[1]))
		found := noticed(t, wrong)
		if !found {
			t.Errorf("%s with %s passes", kind, change[1])
		}
	}
}

// noticed reports whether an object is refused.
func noticed(t *testing.T, o object) bool {
	t.Helper()
	known := types[o.GroupVersionKind().String()]
	if known.custom {
		return yaml.UnmarshalStrict(o.text, known.make()) != nil
	}
	path := filepath.Join(t.TempDir(), "object.yaml")
	if err := os.WriteFile(path, o.text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := run(t, "kubectl-validate", "--version", kubernetes, path)
	return err != nil
}

// TestScore: kube-score finds nothing critical.
func TestScore(t *testing.T) {
	args := []string{
		"score", "--kubernetes-version", "v" + kubernetes, "--output-format", "ci",
		"--ignore-container-cpu-limit",                 // a limit throttles, which delays events
		"--ignore-test", "container-image-pull-policy", // a registry that is down must not keep pods from starting
	}
	for _, path := range append(examples(t), chart+"/examples/redis-server.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			file := path
			if filepath.Base(path) != "redis-server.yaml" {
				out, err := run(t, "helm", "template", "orgcast", chart, "--namespace", "web", "--kube-version", kubernetes, "--values", path)
				if err != nil {
					t.Fatal(out)
				}
				file = filepath.Join(t.TempDir(), "rendered.yaml")
				if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out, err := run(t, "kube-score", append(args, file)...)
			if err != nil || !strings.Contains(out, "[OK]") || strings.Contains(out, "[CRITICAL]") {
				t.Errorf("kube-score: %v\n%s", err, out)
			}
		})
	}
}
