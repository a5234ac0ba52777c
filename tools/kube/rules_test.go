package kube

import (
	"os"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

// TestRules: the chart has the rules of deploy/monitoring, all of them and unchanged, and scrapes
// pods under a job that they look for, whatever the release is called.
func TestRules(t *testing.T) {
	text, err := os.ReadFile(repository + "/deploy/monitoring/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want monitoring.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict(text, &want); err != nil {
		t.Fatal(err)
	}
	r := template(t, "--values", chart+"/examples/large.yaml")
	rules := one[monitoring.PrometheusRule](r)
	got, err := yaml.Marshal(rules.Spec)
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := yaml.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if len(want.Groups) == 0 || string(got) != string(wanted) {
		t.Errorf("got\n%s\nwant\n%s", got, wanted)
	}
	if label := one[monitoring.ServiceMonitor](r).Spec.JobLabel; label != "app.kubernetes.io/name" || !strings.Contains(string(text), `job=~"orgcast`) {
		t.Errorf("the job is the label %q", label)
	}
}
