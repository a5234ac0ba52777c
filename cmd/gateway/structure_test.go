package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// forTests are packages that only tests import.
var forTests = []string{"internal/testkit", "internal/faults", "internal/pubsub/pubsubtest", "internal/consumer/consumertest"}

func onlyForTests(path string) bool {
	return strings.HasSuffix(path, "_test.go") || slices.ContainsFunc(forTests, func(dir string) bool { return strings.HasPrefix(path, dir) })
}

// roomRow is a line of the table of rooms.
var roomRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .* \\| ([^|]+) \\|$")

// TestImportsTable: the table of rooms in docs/architecture.md names each package, and what of ours
// it imports.
func TestImportsTable(t *testing.T) {
	documented := make(map[string]string)
	for _, row := range roomRow.FindAllStringSubmatch(section(t, readDoc(t, "docs/architecture.md"), "Rooms"), -1) {
		documented[row[1]] = row[2]
	}
	list := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, ".", "./cmd/gateway", "./internal/...", "./clients/...")
	list.Dir = repository
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	room := func(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, "orgcast/"), "internal/") }
	exists := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := room(fields[0])
		exists[name] = true
		if _, ok := documented[name]; !ok {
			if !onlyForTests("internal/"+name) && name != "clients" {
				t.Errorf("%s: is not in the table", name)
			}
			continue
		}
		var ours []string
		for _, path := range fields[1:] {
			if path == "orgcast" {
				t.Errorf("%s: imports the root package, which is for programs outside", name)
			}
			if strings.HasPrefix(path, "orgcast/") {
				ours = append(ours, room(path))
			}
		}
		slices.Sort(ours)
		want := strings.Join(ours, ", ")
		if want == "" {
			want = "–"
		}
		named := strings.Split(documented[name], ", ")
		slices.Sort(named)
		if got := strings.Join(named, ", "); got != want {
			t.Errorf("%s: the table says %s, the code imports %s", name, got, want)
		}
	}
	for name := range documented {
		if !exists[name] {
			t.Errorf("%s: is in the table and nowhere else", name)
		}
	}
}

// TestLongFilesSayWhy: a file of more than 400 lines says why it is so long.
func TestLongFilesSayWhy(t *testing.T) {
	const most = 400
	for _, suffix := range []string{".go", ".ts", ".lua"} {
		for _, path := range sources(t, suffix) {
			if onlyForTests(path) || strings.HasPrefix(path, "web/") && !strings.HasPrefix(path, "web/client/src/") {
				continue
			}
			text := readDoc(t, path)
			if n := strings.Count(text, "\n"); n > most && !strings.Contains(text, "This file is long because ") {
				t.Errorf("%s: got %d lines, want at most %d, or a comment that begins with %q", path, n, most, "This file is long because")
			}
		}
	}
}

// TestMoreIsRun: make builds-test runs exactly the tests that make test leaves out, those of files with the tag more.
func TestMoreIsRun(t *testing.T) {
	t.Parallel()
	run := regexp.MustCompile(`(?m)^\tgo test .*-tags=more .*-run='\^\(([\w|]+)\)\$\$' \./cmd/gateway$`).FindStringSubmatch(readDoc(t, "Makefile"))
	if run == nil {
		t.Fatal("the Makefile runs no tests with the tag more")
	}
	var tagged []string
	for _, path := range sources(t, "_test.go") {
		text := readDoc(t, path)
		if !strings.HasPrefix(text, "//go:build more\n") {
			continue
		}
		if filepath.Dir(path) != "cmd/gateway" {
			t.Errorf("%s: make builds-test runs tests of cmd/gateway only", path)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(text, -1) {
			tagged = append(tagged, m[1])
		}
	}
	slices.Sort(tagged)
	if got := slices.Sorted(strings.SplitSeq(run[1], "|")); !slices.Equal(got, tagged) {
		t.Errorf("make builds-test runs %v, files with the tag more have %v", got, tagged)
	}
}

// heldLock matches what a comment says about a lock that callers hold: whose it is, and its name.
var heldLock = regexp.MustCompile(`(?i)(?:(?:the (\w+)'s |(\w+)\.)?\b(mu|lock) is held|holds? (?:the (\w+)'s |(\w+)\.)?(?:the )?\b(mu|lock)\b)`)

// TestOwnLocks: a function whose caller holds a lock is a method of the type that has the lock.
func TestOwnLocks(t *testing.T) {
	found := 0
	for _, path := range sources(t, ".go") {
		if onlyForTests(path) {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join(repository, path), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Doc == nil {
				continue
			}
			said := heldLock.FindStringSubmatch(strings.ReplaceAll(f.Doc.Text(), "\n", " "))
			if said == nil {
				continue
			}
			found++
			if wrong := foreignLock(f, said[1]+said[4], said[2]+said[5]); wrong != "" {
				t.Errorf("%s: %s: %q: %s", set.Position(f.Pos()), f.Name.Name, said[0], wrong)
			}
		}
	}
	if found == 0 {
		t.Error("no comment says that a lock is held")
	}
}

// foreignLock returns what is wrong if a lock of the owner, or of the variable, is not the
// receiver's.
func foreignLock(f *ast.FuncDecl, owner, variable string) string {
	if f.Recv == nil || len(f.Recv.List[0].Names) == 0 {
		return "it is no method"
	}
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	name := fmt.Sprint(of)
	switch {
	case owner != "" && !strings.EqualFold(owner, name):
		return "it is a method of " + name
	case variable != "" && variable != f.Recv.List[0].Names[0].Name:
		return "its receiver is " + f.Recv.List[0].Names[0].Name
	}
	return ""
}
