package apidocs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Constants returns the values of the text constants in a Go file whose names begin with a prefix, in
// upper or lower case.
func Constants(tb testing.TB, file, prefix string) (values []string) {
	tb.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		tb.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != len(spec.Values) {
			return true
		}
		for i, name := range spec.Names {
			literal, ok := spec.Values[i].(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING || !strings.HasPrefix(strings.ToLower(name.Name), strings.ToLower(prefix)) {
				continue
			}
			if text, err := strconv.Unquote(literal.Value); err == nil {
				values = append(values, text)
			}
		}
		return true
	})
	if len(values) == 0 {
		tb.Fatalf("%s has no constants %s…", file, prefix)
	}
	slices.Sort(values)
	return values
}
