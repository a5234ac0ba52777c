package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mostUpward is how many calls inside a room may go up, from a file to one above it.
const mostUpward = 5

// TestCallsGoDown: the files of a room stand in an order in which calls go down, but for a few. Who
// reads a file then knows what is below it, and nothing of what is above.
func TestCallsGoDown(t *testing.T) {
	for _, room := range []string{"gateway", "socket", "outbox", "pubsub"} {
		t.Run(room, func(t *testing.T) {
			calls := callsBetweenFiles(t, room)
			order := downward(calls)
			t.Logf("from top to bottom: %s", strings.Join(order, ", "))
			var upward []string
			for between, list := range calls {
				if slices.Index(order, between.from) > slices.Index(order, between.to) {
					upward = append(upward, list...)
				}
			}
			slices.Sort(upward)
			t.Logf("%d calls go up", len(upward))
			if len(upward) > mostUpward {
				t.Errorf("got %d calls that go up, want at most %d:\n%s", len(upward), mostUpward, strings.Join(upward, "\n"))
			}
		})
	}
}

// files are a file that calls and the one that is called.
type files struct{ from, to string }

// callsBetweenFiles returns which functions of a room use which in another of its files, each pair
// once.
func callsBetweenFiles(tb testing.TB, room string) map[files][]string {
	tb.Helper()
	set := token.NewFileSet()
	parsed := parseRoom(tb, set, "../../internal/"+room)
	uses := make(map[*ast.Ident]types.Object)
	config := types.Config{Importer: importer.ForCompiler(set, "gc", exports(tb, "orgcast/internal/"+room))}
	self, err := config.Check("orgcast/internal/"+room, set, parsed, &types.Info{Uses: uses})
	if err != nil {
		tb.Fatal(err)
	}
	where := func(at token.Pos) string { return strings.TrimSuffix(filepath.Base(set.Position(at).Filename), ".go") }
	calls := make(map[files]map[string]bool)
	for _, file := range parsed {
		for _, decl := range file.Decls {
			caller, _ := decl.(*ast.FuncDecl)
			if caller == nil {
				continue
			}
			ast.Inspect(caller, func(n ast.Node) bool {
				id, _ := n.(*ast.Ident)
				called, _ := uses[id].(*types.Func)
				if called == nil || called.Pkg() != self {
					return true
				}
				between := files{where(caller.Pos()), where(called.Origin().Pos())}
				if between.from == between.to {
					return true
				}
				if calls[between] == nil {
					calls[between] = make(map[string]bool)
				}
				calls[between][fmt.Sprintf("%s.%s -> %s.%s", between.from, caller.Name.Name, between.to, called.Name())] = true
				return true
			})
		}
	}
	lists := make(map[files][]string, len(calls))
	for between, set := range calls {
		lists[between] = slices.Collect(maps.Keys(set))
	}
	return lists
}

// parseRoom parses the files of a package that this system builds, without its tests.
func parseRoom(tb testing.TB, set *token.FileSet, dir string) (parsed []*ast.File) {
	tb.Helper()
	out, err := exec.Command("go", "list", "-f", `{{join .GoFiles "\n"}}`, dir).Output()
	if err != nil {
		tb.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		file, err := parser.ParseFile(set, filepath.Join(dir, name), nil, 0)
		if err != nil {
			tb.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	return parsed
}

// exports returns how to find what packages export.
func exports(tb testing.TB, path string) importer.Lookup {
	tb.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", path).Output()
	if err != nil {
		tb.Fatal(err)
	}
	found := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		name, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[name] = file
	}
	return func(path string) (io.ReadCloser, error) {
		b, err := os.ReadFile(found[path])
		return io.NopCloser(bytes.NewReader(b)), err
	}
}

// downward orders files so that few calls go up: it moves one file at a time to where it is best,
// until none moves.
func downward(calls map[files][]string) []string {
	names := make(map[string]int) // how many more calls leave a file than reach it
	for between, list := range calls {
		names[between.from] += len(list)
		names[between.to] -= len(list)
	}
	order := slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		return cmp.Or(names[b]-names[a], strings.Compare(a, b))
	})
	for moved := true; moved; {
		moved = false
		for _, name := range slices.Clone(order) {
			at := slices.Index(order, name)
			best, gain, bestGain := at, 0, 0
			for i := at - 1; i >= 0; i-- { // up: what calls the file from above it then is below
				gain += len(calls[files{name, order[i]}]) - len(calls[files{order[i], name}])
				if gain > bestGain {
					best, bestGain = i, gain
				}
			}
			gain = 0
			for i := at + 1; i < len(order); i++ {
				gain += len(calls[files{order[i], name}]) - len(calls[files{name, order[i]}])
				if gain > bestGain {
					best, bestGain = i, gain
				}
			}
			if best != at {
				order = slices.Insert(slices.Delete(order, at, at+1), best, name)
				moved = true
			}
		}
	}
	return order
}
