package inventory_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"orgcast/internal/inventory"
)

// TestPagesHaveEveryRowOnce: however rows are spread over nodes, and however long the pages are, all
// pages together have every row once, in order, with the sums over all nodes.
func TestPagesHaveEveryRowOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.MapOf(rapid.StringMatching(`[a-d]{1,2}`), rapid.IntRange(1, 9)), 1, 4).Draw(t, "connections of each organization at each node")
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		want := make(map[string]int)
		for _, node := range all {
			for org, n := range node {
				want[org] += n
			}
		}
		got := make(map[string]int)
		var order []string
		for after := ""; ; {
			q := inventory.Query{Limit: limit, After: after}
			merged := inventory.Merge(q, pagesOf(t, q, all))
			for _, row := range merged.Rows {
				order = append(order, row.ID)
				got[row.ID] += row.Connections
			}
			if !merged.More {
				break
			}
			if len(merged.Rows) == 0 || len(merged.Rows) > limit {
				t.Fatalf("got a page of %d rows before the end, want 1 to %d", len(merged.Rows), limit)
			}
			after = merged.Rows[len(merged.Rows)-1].Key()
		}
		if diff := cmp.Diff(want, got); diff != "" || !slices.IsSorted(order) || len(order) != len(want) {
			t.Fatalf("order %v, want (-), got (+):\n%s", order, diff)
		}
	})
}

// pagesOf returns the page of each node.
func pagesOf(t *rapid.T, q inventory.Query, all []map[string]int) (pages []inventory.Page[inventory.Organization]) {
	for _, node := range all {
		c := inventory.NewCollector[inventory.Organization](q)
		for org, n := range node {
			if row := (inventory.Organization{ID: org, Nodes: 1, Connections: n}); c.Wants(row.Key()) {
				c.Add(row)
			}
		}
		page, err := c.Page()
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, page)
	}
	return pages
}

// TestLargestFirst: with a measure, the page has the largest rows over all nodes, although none of
// them is the largest of a node.
func TestLargestFirst(t *testing.T) {
	q := inventory.Query{Limit: 2, Sort: inventory.ByConnections}
	var pages []inventory.Page[inventory.Organization]
	for node := range 3 {
		c := inventory.NewCollector[inventory.Organization](q)
		c.Add(inventory.Organization{ID: "everywhere", Connections: 5})
		c.Add(inventory.Organization{ID: fmt.Sprint("only", node), Connections: 10 - node})
		c.Add(inventory.Organization{ID: "small", Connections: 1})
		page, err := c.Page()
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, page)
	}
	var got []string
	for _, row := range inventory.Merge(q, pages).Rows {
		got = append(got, fmt.Sprint(row.ID, " ", row.Connections))
	}
	if diff := cmp.Diff([]string{"everywhere 15", "only0 10"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestPageFitsIntoAnAnswer: a page whose text is too long is cut, and says so.
func TestPageFitsIntoAnAnswer(t *testing.T) {
	c := inventory.NewCollector[inventory.Connection](inventory.Query{Limit: inventory.MaxLimit})
	for i := range inventory.MaxLimit {
		c.Add(inventory.Connection{ID: fmt.Sprintf("%04d", i), Route: strings.Repeat("<", 500)}) // 3,000 bytes of JSON
	}
	page, err := c.Page()
	if err != nil || !page.More || len(page.Rows) != inventory.MaxLimit/4 {
		t.Errorf("got %d rows, more=%t, %v, want a quarter of them", len(page.Rows), page.More, err)
	}
}

func TestQueriesAreChecked(t *testing.T) {
	for name, test := range map[string]struct {
		query inventory.Query
		want  error
	}{
		"all":                  {inventory.Query{Limit: 1000, After: ".a", Organization: "acme", User: "auth0|1", Group: "room.1"}, nil},
		"sorted":               {inventory.Query{Limit: 1, Sort: "lag_seconds"}, nil},
		"no limit":             {inventory.Query{}, inventory.ErrLimit},
		"large limit":          {inventory.Query{Limit: 1001}, inventory.ErrLimit},
		"long cursor":          {inventory.Query{Limit: 1, After: strings.Repeat("a", 257)}, inventory.ErrCursor},
		"cursor not in UTF-8":  {inventory.Query{Limit: 1, After: "\xff"}, inventory.ErrCursor},
		"sorted with a cursor": {inventory.Query{Limit: 1, After: "a", Sort: "connections"}, inventory.ErrCursor},
		"unknown sort":         {inventory.Query{Limit: 1, Sort: "name"}, inventory.ErrSort},
		"organization":         {inventory.Query{Limit: 1, Organization: "a b"}, inventory.ErrOrganization},
		"user":                 {inventory.Query{Limit: 1, User: "a b"}, inventory.ErrUser},
		"group":                {inventory.Query{Limit: 1, Group: "a b"}, inventory.ErrGroup},
	} {
		if got := test.query.Check(); !errors.Is(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}
