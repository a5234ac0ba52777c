package orgcast_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// update writes what is there into the file that the test compares with.
var update = flag.Bool("update", false, "accept the public API as it is, into testdata/api.txt")

const apiFile = "testdata/api.txt"

// TestPublicAPI: every name, method, field and signature that a program can reach from this package, through aliases
// and through what it is handed, is in testdata/api.txt, so that no change of them goes unseen.
func TestPublicAPI(t *testing.T) {
	got := describeAPI(loadPackage(t, "."))
	if *update {
		if err := os.WriteFile(apiFile, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(apiFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the public API has changed: %s (-), now (+):\n%s\nIf it is meant: go test -run TestPublicAPI . -args -update", apiFile, diff)
	}
}

// TestAPIOfMethods: the description shows a method that only an alias leads to, and one of what that returns.
func TestAPIOfMethods(t *testing.T) {
	got := describeAPI(loadPackage(t, "."))
	for _, want := range []string{
		"type Conn = consumer.Conn", "method (consumer.Conn) Join(context.Context, string) error",
		"method (*task.Job) Progress(context.Context, any) error", "field session.Identity.Organization orgctx.ID",
		"func Get[T any](context.Context, *orgcast.Objects, string, string) (orgcast.Object[T], error)",
	} {
		if !slices.Contains(strings.Split(got, "\n"), want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// TestNoDemoInExtensions: no program that is built on this package has the demo or its Redis in it, and no part of
// the gateway knows this package.
func TestNoDemoInExtensions(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "orgcast/internal/cli") {
		t.Fatalf("dependencies without the gateway: %q", deps)
	}
	for _, path := range deps {
		if strings.HasPrefix(path, "orgcast/internal/demo") || strings.Contains(path, "miniredis") {
			t.Errorf("an extension contains %s", path)
		}
	}
	out, err = exec.CommandContext(t.Context(), "go", "list", "-deps", "./internal/...", "./cmd/...", "./clients/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(strings.Fields(string(out)), "orgcast") {
		t.Error("a package of the gateway imports orgcast")
	}
}

// loadPackage loads the types of a package from what the compiler wrote of it and of all that it imports.
func loadPackage(t *testing.T, path string) *types.Package {
	t.Helper()
	var errOut strings.Builder
	cmd := exec.CommandContext(t.Context(), "go", "list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", path)
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, errOut.String())
	}
	files := make(map[string]string)
	last := ""
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		name, file, _ := strings.Cut(lines.Text(), "\t")
		files[name], last = file, name
	}
	read := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		if files[path] == "" {
			return nil, errors.New("no such package")
		}
		return os.Open(files[path])
	})
	pkg, err := read.Import(last) // dependencies come before
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

// describer collects the lines of a description.
type describer struct {
	lines []string
	seen  map[*types.TypeName]bool
	queue []*types.Named
}

// describeAPI lists what a program can reach from the exported names of a package, a line each.
func describeAPI(pkg *types.Package) string {
	d := &describer{seen: make(map[*types.TypeName]bool)}
	for _, name := range pkg.Scope().Names() {
		if obj := pkg.Scope().Lookup(name); obj.Exported() {
			d.object(obj)
		}
	}
	d.lines = append(d.lines, "")
	for len(d.queue) > 0 {
		n := d.queue[0]
		d.queue = d.queue[1:]
		d.named(n)
	}
	reached := d.lines[slices.Index(d.lines, ""):]
	slices.Sort(reached[1:])
	return strings.Join(d.lines, "\n") + "\n"
}

func (d *describer) add(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// object describes an exported name of the package.
func (d *describer) object(obj types.Object) {
	switch obj := obj.(type) {
	case *types.Const:
		d.add("const %s %s = %s", obj.Name(), d.text(obj.Type()), obj.Val())
	case *types.Var:
		d.add("var %s %s", obj.Name(), d.text(obj.Type()))
	case *types.Func:
		d.add("func %s%s", obj.Name(), d.signature(obj.Signature()))
	case *types.TypeName:
		if alias, ok := obj.Type().(*types.Alias); ok {
			d.add("type %s%s = %s", obj.Name(), d.parameters(alias.TypeParams()), d.text(alias.Rhs()))
			return
		}
		d.add("type %s", d.text(obj.Type()))
	}
}

// named describes what a type has, and queues the types that this leads to.
func (d *describer) named(n *types.Named) {
	name := d.text(n)
	switch u := n.Underlying().(type) {
	case *types.Struct:
		d.add("type %s struct", name)
		for f := range u.Fields() {
			if f.Exported() {
				d.add("field %s.%s %s", name, f.Name(), d.text(f.Type()))
			}
		}
	case *types.Interface:
		d.add("type %s interface", name)
		for m := range u.Methods() {
			d.add("method (%s) %s%s", name, m.Name(), d.signature(m.Signature()))
		}
		return
	default:
		d.add("type %s %s", name, d.text(u))
	}
	for m := range n.Methods() {
		if !m.Exported() {
			continue
		}
		receiver := name
		if _, pointer := m.Signature().Recv().Type().(*types.Pointer); pointer {
			receiver = "*" + name
		}
		d.add("method (%s) %s%s", receiver, m.Name(), d.signature(m.Signature()))
	}
}

// text writes a type, and queues those of the gateway that it names.
func (d *describer) text(t types.Type) string {
	d.visit(t)
	return types.TypeString(t, func(p *types.Package) string { return strings.TrimPrefix(p.Path(), "orgcast/internal/") })
}

// signature writes a signature without the names of its parameters, which are not part of an API.
func (d *describer) signature(s *types.Signature) string {
	unnamed := func(tuple *types.Tuple) *types.Tuple {
		var list []*types.Var
		for v := range tuple.Variables() {
			list = append(list, types.NewParam(token.NoPos, nil, "", v.Type()))
		}
		return types.NewTuple(list...)
	}
	plain := types.NewSignatureType(nil, nil, nil, unnamed(s.Params()), unnamed(s.Results()), s.Variadic())
	return d.parameters(s.TypeParams()) + strings.TrimPrefix(d.text(plain), "func")
}

// parameters writes type parameters.
func (d *describer) parameters(list *types.TypeParamList) string {
	var texts []string
	for p := range list.TypeParams() {
		texts = append(texts, p.Obj().Name()+" "+d.text(p.Constraint()))
	}
	if len(texts) == 0 {
		return ""
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// visit queues the types of the gateway in a type.
func (d *describer) visit(t types.Type) {
	switch t := t.(type) {
	case *types.Alias:
		d.visit(types.Unalias(t))
	case *types.Named:
		for arg := range t.TypeArgs().Types() {
			d.visit(arg)
		}
		obj := t.Obj()
		if obj.Pkg() == nil || !strings.HasPrefix(obj.Pkg().Path()+"/", "orgcast/") || d.seen[obj] {
			return
		}
		d.seen[obj] = true
		d.queue = append(d.queue, t.Origin())
	case *types.Pointer:
		d.visit(t.Elem())
	case *types.Slice:
		d.visit(t.Elem())
	case *types.Array:
		d.visit(t.Elem())
	case *types.Chan:
		d.visit(t.Elem())
	case *types.Map:
		d.visit(t.Key())
		d.visit(t.Elem())
	case *types.Signature:
		d.visit(t.Params())
		d.visit(t.Results())
	case *types.Tuple:
		for v := range t.Variables() {
			d.visit(v.Type())
		}
	case *types.Struct:
		for f := range t.Fields() {
			d.visit(f.Type())
		}
	}
}
