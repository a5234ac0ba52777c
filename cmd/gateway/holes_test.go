package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestHoles shows that each hole of the original application is closed here: with two organizations
// that use the same ids, and people, for everything. The other holes are closed by the packages
// that docs/security.md names.
func TestHoles(t *testing.T) {
	w := newWorld(t)
	t.Run("01 crew board shared by all tenants", func(t *testing.T) { w.expectApart(t, views()["board"]) })
	t.Run("02 no login check and no tenant in group names", w.guessedIDs)
	t.Run("03 research falls back to unfiltered rows", w.unscopedReads)
	t.Run("04 human input into any execution", w.foreignInput)
	t.Run("05 context shared by all connections", w.contextLeftBehind)
	t.Run("07 no membership check at connect", w.membership)
	t.Run("08 no check after connect", w.membershipEnds)
	t.Run("09 a missing organization opens everything", w.noOrganization)
	t.Run("10 rows without an owner", w.ownerless)
	t.Run("11 events carry no organization", w.withoutOrganization)
	t.Run("12 conversations belong to a user only", w.foreignConversation)
	t.Run("13 task ids are bearer secrets", w.guessedTasks)
	t.Run("14 superusers see all tenants", w.superuser)
	t.Run("15 browsers publish server events", w.forgedEvents)
	t.Run("16 one frame drops every viewer", w.badEvent)
	t.Run("17 no origin check", w.origin)
	t.Run("18 no limits", w.limits)
	t.Run("19 exception text is sent to clients", w.exceptionText)
	t.Run("20 HTML in frames", w.html)
	t.Run("21 membership of a group dies", w.subscriptionDies)
	t.Run("22 side effects in delivery", w.sideEffects)
	t.Run("23 accept before subscribe, no snapshot", w.firstState)
	t.Run("24 missing terminal events", w.terminalEvent)
	t.Run("25 ping contracts differ", w.keepalives)
	t.Run("26 reconnect is broken or excessive", w.closeCodes)
	t.Run("27 a slow handler blocks its connection", w.slowHandler)
	t.Run("28 leaks on exceptions", w.hooksAfterException)
	t.Run("30 crash on odd input", w.oddInput)
	t.Run("32 newest-first first frame", w.oldestFirst)
}

// TestHolesTable: docs/security.md leads from each hole to one test, which is there, in the file
// that it names.
func TestHolesTable(t *testing.T) {
	const all = 32
	here := make(map[string]bool)
	for _, m := range regexp.MustCompile(`t\.Run\("(\d\d [^"]+)"`).FindAllStringSubmatch(readDoc(t, "cmd/gateway/holes_test.go"), -1) {
		here[m[1]] = true
	}
	table := section(t, readDoc(t, "docs/security.md"), "Holes of the original application")
	rows := regexp.MustCompile("(?m)^\\| (\\d+) \\| .+ \\| `([^`]+)` \\| `([^`]+)` \\|$").FindAllStringSubmatch(table, -1)
	if len(rows) != all {
		t.Errorf("got %d rows, want %d", len(rows), all)
	}
	leads := make(map[string]bool)
	for i, row := range rows {
		number, test, file := row[1], row[2], row[3]
		if number != strconv.Itoa(i+1) {
			t.Errorf("row %d has the number %s", i+1, number)
		}
		if leads[test] {
			t.Errorf("hole %s: %s is the test of another one", number, test)
		}
		leads[test] = true
		text, err := os.ReadFile(filepath.Join(repository, file))
		if err != nil {
			t.Errorf("hole %s: %v", number, err)
			continue
		}
		name, own := strings.CutPrefix(test, "TestHoles/")
		switch {
		case own && (!here[name] || !strings.HasPrefix(name, strings.Repeat("0", 2-len(number))+number+" ")):
			t.Errorf("hole %s: there is no test %s", number, test)
		case own && !strings.Contains(string(text), `"`+name+`"`), !own && !strings.Contains(string(text), "\nfunc "+test+"(t *testing.T) {"):
			t.Errorf("hole %s: %s has no test %s", number, file, test)
		}
		delete(here, name)
	}
	for name := range here {
		t.Errorf("docs/security.md does not name %s", name)
	}
}
