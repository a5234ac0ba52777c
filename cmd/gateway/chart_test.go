package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var updateChart = flag.Bool("update-chart", false, "write deploy/helm/orgcast/values.schema.json again")

// ofTheChart are settings that the chart sets itself, besides the names of files.
var ofTheChart = []string{"config", "listen", "admin-listen", "allow-unknown-env", "routes-file"}

// certificateSetting is the form of the settings that name a file, without -file at their end.
var certificateSetting = regexp.MustCompile(`(^|-)tls-(ca|cert|key)$`)

// valuesOfTheChart returns what values may have below config, and below secrets.
func valuesOfTheChart(t *testing.T) (config, secrets map[string]any) {
	t.Helper()
	out, _, err := execute(t, nil, "", "config", "schema")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct{ Properties map[string]map[string]any }
	if err := json.Unmarshal([]byte(out), &schema); err != nil {
		t.Fatal(err)
	}
	table, _, err := execute(t, nil, "", "config", "docs") // the settings of serve alone
	if err != nil {
		t.Fatal(err)
	}
	config, secrets = make(map[string]any), make(map[string]any)
	for _, m := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)`").FindAllStringSubmatch(table, -1) {
		name := m[1]
		property, inFile := schema.Properties[name]
		secret, isFile := strings.CutSuffix(name, "-file")
		switch {
		case slices.Contains(ofTheChart, name), !inFile:
		case isFile || certificateSetting.MatchString(name):
			secrets[secret] = map[string]any{"$ref": "#/$defs/secretKey", "description": property["description"]}
		default:
			config[name] = property
		}
	}
	if len(config) < 50 || len(secrets) < 10 {
		t.Fatalf("found %d settings and %d secrets", len(config), len(secrets))
	}
	return config, secrets
}

// layout writes JSON with at most width characters in a line, where that is possible.
func layout(b *bytes.Buffer, value any, indent string) {
	const width = 140
	line, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	object, ok := value.(map[string]any)
	if len(object) == 0 || !ok || len(line)+len(indent) <= width {
		b.Write(line)
		return
	}
	separator := "{\n"
	for _, key := range slices.Sorted(maps.Keys(object)) {
		fmt.Fprintf(b, "%s%s  %q: ", separator, indent, key)
		layout(b, object[key], indent+"  ")
		separator = ",\n"
	}
	fmt.Fprintf(b, "\n%s}", indent)
}

// TestSettingsOfTheChart: the schema of values knows exactly the settings of the gateway.
func TestSettingsOfTheChart(t *testing.T) {
	path := filepath.Join(repository, "deploy/helm/orgcast/values.schema.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	properties := schema["properties"].(map[string]any)
	config, secrets := valuesOfTheChart(t)
	properties["config"].(map[string]any)["properties"] = config
	properties["secrets"].(map[string]any)["properties"] = secrets
	var want bytes.Buffer
	layout(&want, schema, "")
	want.WriteByte('\n')
	if *updateChart {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(text, want.Bytes()) {
		t.Errorf("%s does not have the settings of the gateway: run go test ./cmd/gateway -run TestSettingsOfTheChart -args -update-chart", path)
	}
}
