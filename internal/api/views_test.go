package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/api"
	"orgcast/internal/inventory"
	"orgcast/internal/nodes"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// twoNodes returns the API of node a, next to node b. Both have five organizations with one
// connection each.
func twoNodes(t *testing.T) http.Handler {
	t.Helper()
	addr := redistest.Start(t)
	var list []*nodes.Nodes
	for _, id := range []string{"a", "b"} {
		n := nodes.New(redistest.NewClient(t, addr), testkit.Keys(t), nodes.Options{ID: id})
		nodes.Answer(n, api.Organizations(), func(_ context.Context, q inventory.Query) (inventory.Page[inventory.Organization], error) {
			c := inventory.NewCollector[inventory.Organization](q)
			for i := range 5 {
				c.Add(inventory.Organization{ID: fmt.Sprint("org", i), Nodes: 1, Connections: 1})
			}
			return c.Page()
		})
		nodes.Answer(n, api.Connections(), func(_ context.Context, q inventory.Query) (inventory.Page[inventory.Connection], error) {
			c := inventory.NewCollector[inventory.Connection](q)
			c.Add(inventory.Connection{ID: "connection-" + id, Organization: q.Organization, User: q.User, Route: q.Group, Node: id})
			return c.Page()
		})
		nodes.Answer(n, api.Load(), func(context.Context, inventory.LoadQuery) (inventory.Load, error) {
			return inventory.Load{Connections: 5, Ready: id == "a"}, nil
		})
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = n.Run(ctx) }) // always nil
		t.Cleanup(func() { cancel(); running.Wait() })
		list = append(list, n)
	}
	h := api.New(api.Options{Local: true, Publisher: new(recorder), Revoker: new(revoker), Nodes: list[0], Log: nop})
	testkit.Eventually(t, "both nodes answer", func() bool {
		_, body := get(t, h, "/v1/nodes")
		listed, _ := body["nodes"].([]any)
		return len(listed) == 2 && body["complete"] == true
	})
	return h
}

// get asks as a program on this machine.
func get(t *testing.T, h http.Handler, url string) (status int, body map[string]any) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, url, http.NoBody)
	r.Host, r.RemoteAddr = "127.0.0.1:9090", "127.0.0.1:40000"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%s: %s: %v", url, w.Body, err)
	}
	return w.Code, body
}

// TestViewsShowAllNodes: rows are sums over the nodes, page by page.
func TestViewsShowAllNodes(t *testing.T) {
	h := twoNodes(t)
	var got []string
	for url := "/v1/organizations?limit=2"; url != ""; {
		status, body := get(t, h, url)
		if status != http.StatusOK || body["complete"] != true {
			t.Fatalf("%s: got %d %v", url, status, body)
		}
		rows, _ := body["organizations"].([]any)
		for _, row := range rows {
			fields, _ := row.(map[string]any)
			got = append(got, fmt.Sprint(fields["organization_id"], fields["nodes"], fields["connections"]))
		}
		url = ""
		if next, more := body["next"].(string); more {
			url = "/v1/organizations?limit=2&cursor=" + next
		}
	}
	if diff := cmp.Diff([]string{"org02 2", "org12 2", "org22 2", "org32 2", "org42 2"}, got); diff != "" {
		t.Error(diff)
	}
	_, body := get(t, h, "/v1/nodes")
	listed, _ := body["nodes"].([]any)
	for i, row := range listed {
		fields, _ := row.(map[string]any)
		started, err := time.Parse(time.RFC3339, fmt.Sprint(fields["started_at"]))
		if fields["node"] != string(rune('a'+i)) || fields["state"] != "answered" || fields["connections"] != 5.0 || fields["ready"] != (i == 0) || err != nil || started.IsZero() {
			t.Errorf("got %v", fields)
		}
	}
}

// TestViewsFilter: parameters reach all nodes.
func TestViewsFilter(t *testing.T) {
	_, body := get(t, twoNodes(t), "/v1/connections?organization_id=acme&user_id=auth0%7C1&group=room.1")
	rows, _ := body["connections"].([]any)
	if len(rows) != 2 {
		t.Fatalf("got %v, want a connection of each node", body)
	}
	for i, row := range rows {
		fields, _ := row.(map[string]any)
		id := string(rune('a' + i))
		if fields["connection_id"] != "connection-"+id || fields["node"] != id || fields["organization_id"] != "acme" || fields["user_id"] != "auth0|1" || fields["route"] != "room.1" {
			t.Errorf("got %v", fields)
		}
	}
}

// TestViewsRefuse: a mistake in a URL has a code and a sentence that says what to do.
func TestViewsRefuse(t *testing.T) {
	n := nodes.New(redistest.NewClient(t, "127.0.0.1:1"), testkit.Keys(t), nodes.Options{})
	h := api.New(api.Options{Local: true, Publisher: new(recorder), Revoker: new(revoker), Nodes: n, Log: nop})
	for url, want := range map[string]string{
		"/v1/nodes?limit=1":                                           "400 unknown_parameter",
		"/v1/organizations?user_id=ada":                               "400 unknown_parameter",
		"/v1/connections?limit=1&limit=2":                             "400 unknown_parameter",
		"/v1/connections?;":                                           "400 unknown_parameter",
		"/v1/connections?limit=x":                                     "400 invalid_limit",
		"/v1/connections?limit=0":                                     "400 invalid_limit",
		"/v1/connections?limit=1001":                                  "400 invalid_limit",
		"/v1/connections?cursor=%21":                                  "400 invalid_cursor",
		"/v1/connections?cursor=YQ&sort=connections":                  "400 invalid_cursor",
		"/v1/connections?sort=name":                                   "400 invalid_sort",
		"/v1/connections?organization_id=a%20b":                       "400 invalid_organization",
		"/v1/connections?user_id=a%20b":                               "400 invalid_user",
		"/v1/groups?group=a%20b":                                      "400 invalid_group",
		"/v1/organization":                                            "404 not_found",
		"/v1/usage":                                                   "404 not_kept",
		"/v1/usage?user_id=ada":                                       "400 unknown_parameter",
		"/v1/usage?from=yesterday":                                    "400 invalid_period",
		"/v1/usage?to=2026-11-29":                                     "400 invalid_period",
		"/v1/usage?from=2026-11-29T00:00:00Z&to=2026-11-28T00:00:00Z": "400 invalid_period",
		"/v1/usage?limit=1001":                                        "400 invalid_limit",
		"/v1/usage?cursor=YQ":                                         "400 invalid_cursor",
		"/v1/usage?organization_id=a%20b":                             "400 invalid_organization",
		"/v1/tail":                                                    "400 invalid_organization",
		"/v1/tail?organization_id=acme&group=a%20b":                   "400 invalid_group",
		"/v1/tail?organization_id=acme&payloads=yes":                  "400 invalid_payloads",
		"/v1/tail?organization_id=acme&payloads=true":                 "403 payloads_need_key",
		"/v1/tail?organization_id=acme&limit=1":                       "400 unknown_parameter",
	} {
		status, body := get(t, h, url)
		message, _ := body["message"].(string)
		if got := fmt.Sprint(status, " ", body["code"]); got != want || !strings.HasSuffix(message, ".") {
			t.Errorf("%s: got %s %q, want %s", url, got, message, want)
		}
	}
}

// TestViewsNeedTheAdminKey: no view opens with the publish key, without a key, or to a page.
func TestViewsNeedTheAdminKey(t *testing.T) {
	n := nodes.New(redistest.NewClient(t, "127.0.0.1:1"), testkit.Keys(t), nodes.Options{})
	h := api.New(api.Options{PublishKey: api.NewKey(key), AdminKey: api.NewKey(adminKey), Local: true, Publisher: new(recorder), Revoker: new(revoker), Nodes: n, Log: nop})
	open := api.New(api.Options{PublishKey: api.NewKey(key), Publisher: new(recorder), Revoker: new(revoker), Nodes: n, Log: nop})
	for _, path := range []string{"/v1/nodes", "/v1/organizations", "/v1/connections", "/v1/groups", "/v1/usage", "/v1/tail"} {
		opened := http.StatusOK
		switch path {
		case "/v1/usage":
			opened = http.StatusNotFound // nothing is kept
		case "/v1/tail":
			opened = http.StatusBadRequest // of no organization
		}
		for token, want := range map[string]int{"": 401, key: 401, adminKey: opened} {
			w := httptest.NewRecorder()
			r := asked(map[string]string{"Authorization": "Bearer " + token})
			r.URL.Path = path
			if h.ServeHTTP(w, r); w.Code != want {
				t.Errorf("%s with %q: got %d, want %d", path, token, w.Code, want)
			}
			w = httptest.NewRecorder()
			if open.ServeHTTP(w, r); w.Code != http.StatusForbidden {
				t.Errorf("%s with %q, no admin key, public listener: got %d, want 403", path, token, w.Code)
			}
		}
	}
}
