package api_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/api"
	"orgcast/internal/explain"
	"orgcast/internal/inventory"
	"orgcast/internal/lease"
	"orgcast/internal/nodes"
	"orgcast/internal/tail"
	"orgcast/internal/testkit/apidocs"
	"orgcast/internal/trail"
	"orgcast/internal/usage"
)

type noTasks struct{ api.Tasks }

type noHistories struct{ api.Histories }

type noPresence struct{ api.Presence }

type noWebhooks struct{ api.Webhooks }

type noReloader struct{ api.Reloader }

// everything are options with which every path exists.
func everything() *api.Options {
	return &api.Options{Nodes: new(nodes.Nodes), Histories: noHistories{}, Presence: noPresence{}, Tasks: noTasks{}, Webhooks: noWebhooks{}, Reloader: noReloader{}, OrganizationMetrics: 1}
}

// TestDescribedOperations: docs/api has the paths of this package with their parameters and codes, and
// no others.
func TestDescribedOperations(t *testing.T) {
	d := apidocs.Read(t, apidocs.Private)
	described := d.Operations(t)
	of := func(operation string) bool {
		_, path, _ := strings.Cut(operation, " ")
		return strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/metrics/")
	}
	shared, sharedDescribed := make(map[string]bool), make(map[string]bool)
	for _, p := range api.Paths(everything()) {
		operation, ok := described[p.Operation]
		delete(described, p.Operation)
		if !ok {
			t.Errorf("docs/api does not have %s", p.Operation)
			continue
		}
		if diff := cmp.Diff(sorted(p.Parameters), parametersOf(operation)); diff != "" {
			t.Errorf("%s: parameters in the code (-), in docs/api (+):\n%s", p.Operation, diff)
		}
		codes := d.Codes(operation)
		for status, own := range p.Codes {
			for _, code := range own {
				if !slices.Contains(codes[status], code) {
					t.Errorf("%s: docs/api does not have the code %s with status %s", p.Operation, code, status)
				}
			}
		}
		for status, list := range codes {
			for _, code := range list {
				sharedDescribed[code] = true
				if !slices.Contains(p.Codes[status], code) && !slices.Contains(p.Shared[status], code) {
					t.Errorf("%s: docs/api has the code %s with status %s, which the code does not have", p.Operation, code, status)
				}
			}
		}
		for _, list := range p.Shared {
			for _, code := range list {
				shared[code] = true
			}
		}
	}
	for operation := range described {
		if of(operation) {
			t.Errorf("docs/api has %s, which does not exist", operation)
		}
	}
	for code := range shared {
		if !sharedDescribed[code] {
			t.Errorf("docs/api has no path with the code %s", code)
		}
	}
}

func sorted(list []string) []string {
	list = append([]string{}, list...)
	slices.Sort(list)
	return list
}

// parametersOf returns the names of an operation's parameters.
func parametersOf(operation apidocs.Object) []string {
	names := []string{}
	list, _ := operation["parameters"].([]any)
	for _, p := range list {
		parameter, _ := p.(apidocs.Object)
		if name, ok := parameter["name"].(string); ok {
			names = append(names, name)
		} else if ref, ok := parameter["$ref"].(string); ok {
			names = append(names, ref[strings.LastIndex(ref, "/")+1:])
		}
	}
	slices.Sort(names)
	return names
}

// TestDescribedTypes: the schemas of docs/api have the fields of the types, and no others.
func TestDescribedTypes(t *testing.T) {
	d := apidocs.Read(t, apidocs.Private)
	own := api.Types()
	d.SameFields(t, own["result"], "Published", "Problem", "RevokeResult", "ReloadResult", "RetryResult")
	d.SameFields(t, own["webhooksPage"], "WebhooksOfAll", "WebhooksOfOne")
	d.SameFields(t, own["publication"], "Publication")
	d.Same(t, own["nodeState"], "NodeState")
	d.Same(t, own["nodeLoad"], "NodeLoad")
	for name, of := range map[string]reflect.Type{
		"Organization": reflect.TypeFor[inventory.Organization](), "Connection": reflect.TypeFor[inventory.Connection](),
		"Group": reflect.TypeFor[inventory.Group](), "Tasks": reflect.TypeFor[inventory.Tasks](), "TaskLine": reflect.TypeFor[inventory.TaskLine](), "DeadLetter": reflect.TypeFor[inventory.DeadLetter](),
		"Usage": reflect.TypeFor[usage.Row](), "Revocation": reflect.TypeFor[lease.Announcement](), "TailLine": reflect.TypeFor[tail.Line](),
		"Explanation": reflect.TypeFor[explain.Explanation](), "ExplainingNode": reflect.TypeFor[explain.Node](), "Trail": reflect.TypeFor[trail.Answer](),
		"Passed": reflect.TypeFor[trail.Passed](), "Dropped": reflect.TypeFor[trail.Dropped](), "Gap": reflect.TypeFor[trail.Gap](),
		"Outage": reflect.TypeFor[trail.Outage](), "Outcome": reflect.TypeFor[trail.Outcome](),
	} {
		d.Same(t, of, name)
	}
}

// TestDescribedAnnouncements: an announcement fits its schema exactly if the gateway takes it.
func TestDescribedAnnouncements(t *testing.T) {
	d := apidocs.Read(t, apidocs.Private)
	fields := map[string]string{"session_id": `"s1"`, "user_id": `"ada"`, "organization_id": `"acme"`, "role": `"admin"`}
	names := slices.Sorted(maps.Keys(fields))
	types := apidocs.Texts(d.At(t, "components", "schemas", "AnnouncementType", "enum"))
	if len(types) == 0 {
		t.Fatal("no types")
	}
	for _, typ := range append(types, "missed", "other") {
		taken := 0
		for set := range 1 << len(names) {
			text := `{"type":"` + typ + `"`
			for i, name := range names {
				if set&(1<<i) != 0 {
					text += `,"` + name + `":` + fields[name]
				}
			}
			text += "}"
			_, err := lease.Decode([]byte(text))
			if err == nil {
				taken++
			}
			if invalid := d.Schema(t, "Announcement", []byte(text)); (err == nil) != (invalid == nil) {
				t.Errorf("%s: the gateway says %v, the schema %v", text, err, invalid)
			}
		}
		if slices.Contains(types, typ) != (taken == 1) {
			t.Errorf("%s: the gateway takes %d forms", typ, taken)
		}
	}
}
