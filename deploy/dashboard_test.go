package deploy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// dashboard is the part of a dashboard of Grafana that we look at.
type dashboard struct {
	UID           string `json:"uid"`
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []struct {
			Name       string     `json:"name"`
			Type       string     `json:"type"`
			Definition string     `json:"definition"`
			Datasource datasource `json:"datasource"`
		} `json:"list"`
	} `json:"templating"`
	Annotations struct {
		List []struct {
			Expr       string     `json:"expr"`
			Datasource datasource `json:"datasource"`
		} `json:"list"`
	} `json:"annotations"`
	Panels []dashboardPanel `json:"panels"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type dashboardPanel struct {
	ID         int        `json:"id"`
	Type       string     `json:"type"`
	Title      string     `json:"title"`
	Datasource datasource `json:"datasource"`
	GridPos    struct {
		H, W, X, Y int
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		RefID        string     `json:"refId"`
		Expr         string     `json:"expr"`
		LegendFormat string     `json:"legendFormat"`
		Datasource   datasource `json:"datasource"`
	} `json:"targets"`
}

func loadDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile("monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboard: the panels have what Grafana needs, stand in their rows and cover no other, and take their data
// from the source that the person chooses.
func TestDashboard(t *testing.T) {
	d := loadDashboard(t)
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 36 {
		t.Errorf("got uid %q, title %q, schema %d", d.UID, d.Title, d.SchemaVersion)
	}
	var rows []string
	seen := make(map[any]string) // ids and cells of the grid, to the titles of panels
	claim := func(key any, p dashboardPanel) {
		if other, taken := seen[key]; taken {
			t.Errorf("%s and %s have the same place or id: %v", other, p.Title, key)
		}
		seen[key] = p.Title
	}
	chosen := datasource{"prometheus", "${datasource}"}
	for _, p := range d.Panels {
		claim(p.ID, p)
		if g := p.GridPos; g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s: place: got %+v", p.Title, g)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				claim([2]int{p.GridPos.X + x, p.GridPos.Y + y}, p)
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if !slices.Contains([]string{"timeseries", "stat"}, p.Type) || p.Title == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource != chosen || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: got type %q, unit %q, data source %v, %d queries", p.ID, p.Title, p.Type, p.FieldConfig.Defaults.Unit, p.Datasource, len(p.Targets))
		}
		for _, q := range p.Targets {
			claim([2]any{p.ID, q.RefID}, p)
			if q.RefID == "" || q.LegendFormat == "" || q.Datasource != chosen {
				t.Errorf("%s: query %+v", p.Title, q)
			}
		}
	}
	want := []string{"Readiness", "Connections", "Deliveries and latency", "Gaps and slow browsers", "Redis", "Leases and revocations", "Tasks", "Process"}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if v := d.Templating.List; len(v) == 0 || v[0].Name != "datasource" || v[0].Type != "datasource" {
		t.Error("the first variable is not the data source")
	}
}

// TestDashboardQueries: Prometheus can parse each query, and the variables in it are defined.
func TestDashboardQueries(t *testing.T) {
	d := loadDashboard(t)
	_, records := loadRules(t)
	recorded := make(map[string]bool)
	for _, r := range records {
		recorded[r.Record] = true
	}
	values := []string{"$__rate_interval", "5m"}
	for _, v := range d.Templating.List {
		values = append(values, "$"+v.Name, ".*")
	}
	fill := strings.NewReplacer(values...)
	queries := ruleGroup{Name: "dashboard"}
	add := func(expr string) {
		filled := fill.Replace(expr)
		if strings.Contains(filled, "$") {
			t.Errorf("a variable is not defined: %s", expr)
		}
		queries.Rules = append(queries.Rules, rule{Record: fmt.Sprintf("query:%d", len(queries.Rules)), Expr: filled})
		for _, name := range metricName.FindAllString(filled, -1) {
			if strings.HasPrefix(name, "job:") && !recorded[name] {
				t.Errorf("no rule records %s", name)
			}
		}
	}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			add(q.Expr)
		}
	}
	for _, a := range d.Annotations.List {
		add(a.Expr)
	}
	text, err := yaml.Marshal(rules{Groups: []ruleGroup{queries}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}
