package deploy_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

const rulesFile = "monitoring/rules.yaml"

// rules is a file of rules for Prometheus.
type rules struct {
	Groups []ruleGroup `yaml:"groups"`
}

// ruleGroup is a list of rules that Prometheus evaluates one after the other.
type ruleGroup struct {
	Name     string `yaml:"name"`
	Interval string `yaml:"interval,omitempty"`
	Rules    []rule `yaml:"rules"`
}

// rule is an alert or, with record, a recording rule.
type rule struct {
	Alert       string            `yaml:"alert,omitempty"`
	Record      string            `yaml:"record,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

// ruleTests is a file of promtool's tests.
type ruleTests struct {
	RuleFiles          []string   `yaml:"rule_files"`
	EvaluationInterval string     `yaml:"evaluation_interval"`
	Tests              []ruleTest `yaml:"tests"`
}

// ruleTest is a case: what is measured, and what then is true.
type ruleTest struct {
	Name     string       `yaml:"name"`
	Interval string       `yaml:"interval"`
	Input    []ruleSeries `yaml:"input_series"`
	Expect   []struct {
		Expr     string `yaml:"expr"`
		EvalTime string `yaml:"eval_time"`
		Samples  []struct {
			Labels string  `yaml:"labels"`
			Value  float64 `yaml:"value"`
		} `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

// ruleSeries is what was measured of one series.
type ruleSeries struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
}

// decode reads a YAML file and refuses fields that its type does not have.
func decode[T any](t *testing.T, path string) (v T) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(text, &v, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}

// loadRules returns the alerts and the recording rules that we ship.
func loadRules(t *testing.T) (alerts, records []rule) {
	t.Helper()
	for _, group := range decode[rules](t, rulesFile).Groups {
		for _, r := range group.Rules {
			if r.Record != "" {
				records = append(records, r)
			} else {
				alerts = append(alerts, r)
			}
		}
	}
	if len(alerts) == 0 || len(records) == 0 {
		t.Fatalf("%s: got %d alerts and %d recording rules", rulesFile, len(alerts), len(records))
	}
	return alerts, records
}

// promtool runs promtool, which must succeed.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRules: Prometheus takes the rules, and each of them does what its cases say.
func TestRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", rulesFile)
	promtool(t, "test", "rules", "monitoring/rules_test.yaml")
}

// metricName matches a metric or a recording rule in an expression.
var metricName = regexp.MustCompile(`\b(?:(?:orgcast|process|go)_[a-z0-9_]+|job:[a-z0-9_:]+|up)\b`)

// TestRulesHaveCases: each alert has a case in which it alone fires, and a case in which nothing does
// although its metrics are there. Each recording rule has a case with a result.
func TestRulesHaveCases(t *testing.T) {
	alerts, records := loadRules(t)
	cases := make(map[string]ruleTest)
	for _, c := range decode[ruleTests](t, "monitoring/rules_test.yaml").Tests {
		if _, twice := cases[c.Name]; twice {
			t.Errorf("two cases are named %q", c.Name)
		}
		cases[c.Name] = c
	}
	const firing = `ALERTS{alertstate="firing"}`
	take := func(name, expr string) (c ruleTest) {
		c, ok := cases[name]
		delete(cases, name)
		if !ok || len(c.Expect) != 1 || c.Expect[0].Expr != expr {
			t.Errorf("there is no case %q with one expectation, of %s", name, expr)
			return ruleTest{}
		}
		return c
	}
	if c := take("healthy", firing); len(c.Expect) == 1 && len(c.Expect[0].Samples) != 0 {
		t.Error("healthy: an alert fires")
	}
	for _, r := range alerts {
		if c := take(r.Alert+" fires", firing); c.Name != "" {
			name := fmt.Sprintf("ALERTS{alertname=%q, ", r.Alert)
			if s := c.Expect[0].Samples; len(s) != 1 || !strings.HasPrefix(s[0].Labels, name) || s[0].Value != 1 {
				t.Errorf("%s: want that exactly this alert fires, once", c.Name)
			}
		}
		if c := take(r.Alert+" is silent", firing); c.Name != "" {
			if len(c.Expect[0].Samples) != 0 {
				t.Errorf("%s: an alert fires", c.Name)
			}
			for _, name := range metricName.FindAllString(r.Expr, -1) {
				if !strings.Contains(name, ":") && !slices.ContainsFunc(c.Input, func(s ruleSeries) bool { return strings.HasPrefix(s.Series, name+"{") }) {
					t.Errorf("%s: there is no %s, so nothing could fire", c.Name, name)
				}
			}
		}
	}
	for _, r := range records {
		if c := take(r.Record, r.Record); c.Name != "" && len(c.Expect[0].Samples) == 0 {
			t.Errorf("%s: want a result", c.Name)
		}
	}
	for name := range cases {
		t.Errorf("the case %q is about no rule", name)
	}
}

// TestAlertsSayWhatToDo: each alert has a severity, says what is wrong, where, and what to do, and links to
// a page. TestAlertsTable looks at the links.
func TestAlertsSayWhatToDo(t *testing.T) {
	alerts, _ := loadRules(t)
	for _, r := range alerts {
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity: got %q, want critical or warning", r.Alert, s)
		}
		if s := r.Annotations["summary"]; !strings.HasSuffix(s, ".") || strings.Contains(s, "{{") || len(s) > 100 {
			t.Errorf("%s: summary: got %q, want a sentence of up to 100 characters without variables", r.Alert, s)
		}
		if s := r.Annotations["description"]; !strings.HasSuffix(s, ".") || !strings.Contains(s, "{{ $") || strings.Count(s, ". ") == 0 {
			t.Errorf("%s: description: got %q, want sentences with where it is, and what to do", r.Alert, s)
		}
		if len(r.Annotations) != 3 || r.Annotations["runbook"] == "" {
			t.Errorf("%s: annotations: want summary, description and runbook", r.Alert)
		}
	}
}

// update has TestAlertsTable write the table.
var update = flag.Bool("update-alerts", false, "write the table of alerts in docs/observe.md")

// TestAlertsTable: docs/observe.md lists the alerts as they are, with links, which TestLinks follows.
func TestAlertsTable(t *testing.T) {
	const path = "../docs/observe.md"
	var want strings.Builder
	want.WriteString("| alert | severity | after | meaning | look at |\n| --- | --- | --- | --- | --- |\n")
	alerts, _ := loadRules(t)
	for _, r := range alerts {
		page, heading, ok := strings.Cut(strings.TrimPrefix(r.Annotations["runbook"], "docs/"), "#")
		if !ok || !strings.HasPrefix(r.Annotations["runbook"], "docs/") {
			t.Errorf("%s: runbook: got %q, want docs/PAGE#HEADING", r.Alert, r.Annotations["runbook"])
		}
		link := page + "#" + heading
		if page == "observe.md" {
			link = "#" + heading
		}
		after := r.For
		if after == "" {
			after = "at once"
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s | [%s](%s) |\n", r.Alert, r.Labels["severity"], after,
			strings.TrimSuffix(r.Annotations["summary"], "."), strings.ReplaceAll(heading, "-", " "), link)
	}
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?m)^\| alert \|.*\n(?:\|.*\n)*`)
	if *update {
		if err := os.WriteFile(path, table.ReplaceAllLiteral(doc, []byte(want.String())), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want.String(), string(table.Find(doc))); diff != "" {
		t.Errorf("table of alerts in docs/observe.md: from the rules (-), got (+); go test ./deploy -run TestAlertsTable -args -update-alerts:\n%s", diff)
	}
}

// TestPrometheusConfig: Prometheus takes the configuration that docs/observe.md shows.
func TestPrometheusConfig(t *testing.T) {
	doc, err := os.ReadFile("../docs/observe.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		if !strings.Contains(m[1], "scrape_configs:") {
			continue
		}
		found++
		path := filepath.Join(t.TempDir(), "prometheus.yml")
		if err := os.WriteFile(path, []byte(m[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		promtool(t, "check", "config", "--syntax-only", path)
	}
	if found != 2 {
		t.Errorf("got %d configurations of Prometheus in docs/observe.md, want 2", found)
	}
}
