// Package apidocs compares code with the descriptions in docs/api. Tests of the packages that define
// types, routes and codes use it, each for its own.
package apidocs

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"orgcast/docs/api"
)

// The descriptions.
const (
	Private = "private.openapi.yaml"
	Public  = "public.openapi.yaml"
	Frames  = "asyncapi.yaml"
)

// Object is a JSON object.
type Object = map[string]any

// Document is a description.
type Document struct {
	name     string
	root     Object
	compiler *jsonschema.Compiler
}

// Read reads a description.
func Read(tb testing.TB, name string) *Document {
	tb.Helper()
	text, err := api.Files.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	text, err = yaml.YAMLToJSON(text)
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	d := &Document{name: name, compiler: jsonschema.NewCompiler()}
	if name == Frames { // AsyncAPI 3 extends draft 7, OpenAPI 3.1 has 2020-12
		d.compiler.DefaultDraft(jsonschema.Draft7)
	}
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource(name, root); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	d.root, _ = root.(Object)
	return d
}

// Root returns the description as JSON has it.
func (d *Document) Root() Object { return d.root }

// At returns what stands under a path of names, with references followed. It fails if there is
// nothing.
func (d *Document) At(tb testing.TB, path ...string) any {
	tb.Helper()
	at, ok := d.find(path...)
	if !ok {
		tb.Fatalf("%s has no %s", d.name, strings.Join(path, "/"))
	}
	return at
}

// Object is At for an object.
func (d *Document) Object(tb testing.TB, path ...string) Object {
	tb.Helper()
	o, ok := d.At(tb, path...).(Object)
	if !ok {
		tb.Fatalf("%s: %s is not an object", d.name, strings.Join(path, "/"))
	}
	return o
}

func (d *Document) find(path ...string) (any, bool) {
	var at any = d.root
	for _, name := range path {
		o, _ := at.(Object)
		next, ok := o[name]
		if !ok {
			return nil, false
		}
		at = d.follow(next)
	}
	return at, true
}

// follow returns what a value refers to, or the value.
func (d *Document) follow(v any) any {
	o, _ := v.(Object)
	ref, ok := o["$ref"].(string)
	if !ok {
		return v
	}
	target, found := d.find(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	if !found {
		return nil
	}
	others := maps.Clone(o)
	delete(others, "$ref")
	t, ok := target.(Object)
	if !ok || len(others) == 0 {
		return target
	}
	t = maps.Clone(t)
	maps.Copy(t, others)
	return t
}

// Validate returns why a JSON text does not fit the schema under a path, or nil.
func (d *Document) Validate(tb testing.TB, text []byte, path ...string) error {
	tb.Helper()
	var pointer strings.Builder
	pointer.WriteString(d.name + "#")
	for _, name := range path {
		pointer.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
	}
	schema, err := d.compiler.Compile(pointer.String())
	if err != nil {
		tb.Fatalf("%s: %v", d.name, err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// Schema is Validate for a named schema.
func (d *Document) Schema(tb testing.TB, name string, text []byte) error {
	tb.Helper()
	return d.Validate(tb, text, "components", "schemas", name)
}

// Operations returns the operations of OpenAPI, as "GET /path".
func (d *Document) Operations(tb testing.TB) map[string]Object {
	tb.Helper()
	operations := make(map[string]Object)
	for path := range d.Object(tb, "paths") {
		for method, operation := range d.Object(tb, "paths", path) {
			if slices.Contains([]string{"get", "post", "options"}, method) {
				operations[strings.ToUpper(method)+" "+path], _ = operation.(Object)
			}
		}
	}
	return operations
}

// Codes returns the codes of an operation: status → codes.
func (d *Document) Codes(operation Object) map[string][]string {
	codes := make(map[string][]string)
	responses, _ := operation["responses"].(Object)
	for status, r := range responses {
		response, _ := d.follow(r).(Object)
		if list := Texts(response["x-codes"]); list != nil {
			codes[status] = list
		}
	}
	return codes
}

// Texts returns a list of texts.
func Texts(v any) []string {
	list, _ := v.([]any)
	var texts []string
	for _, one := range list {
		texts = append(texts, fmt.Sprint(one))
	}
	slices.Sort(texts)
	return texts
}

// Same fails unless a schema has the fields of a type, in their kinds, and requires those that are
// always sent.
func (d *Document) Same(tb testing.TB, of reflect.Type, name string) {
	tb.Helper()
	d.SameFields(tb, of, name)
	required := Texts(d.Object(tb, "components", "schemas", name)["required"])
	for field, f := range fieldsOf(of) {
		if always := slices.Contains(required, field); always == f.optional {
			tb.Errorf("%s: %s: required is %t for %s, and optional is %t in %v", d.name, name, always, field, f.optional, of)
		}
	}
}

// SameFields fails unless the schemas, all together, have the fields of a type, in their kinds.
func (d *Document) SameFields(tb testing.TB, of reflect.Type, names ...string) {
	tb.Helper()
	schemas := make(Object)
	for _, name := range names {
		properties, _ := d.Object(tb, "components", "schemas", name)["properties"].(Object)
		maps.Copy(schemas, properties)
	}
	inCode := fieldsOf(of)
	for name, f := range inCode {
		schema, ok := schemas[name]
		if !ok {
			tb.Errorf("%s: %v has no %s, which %v has", d.name, names, name, of)
			continue
		}
		if kinds := d.kinds(schema); kinds != nil && f.kind != "" && !slices.Contains(kinds, f.kind) {
			tb.Errorf("%s: %v: %s is %v, in %v it is %s", d.name, names, name, kinds, of, f.kind)
		}
	}
	for name := range schemas {
		if _, ok := inCode[name]; !ok {
			tb.Errorf("%s: %v has %s, which %v does not have", d.name, names, name, of)
		}
	}
}

// kinds returns the types of values that a schema allows, nil if it does not say.
func (d *Document) kinds(schema any) (kinds []string) {
	o, _ := d.follow(schema).(Object)
	switch t := o["type"].(type) {
	case string:
		kinds = []string{t}
	case []any:
		kinds = Texts(t)
	}
	if slices.Contains(kinds, "number") {
		kinds = append(kinds, "integer")
	}
	return kinds
}

// field is a field of a type.
type field struct {
	kind     string // of its JSON value, empty if the type makes its own
	optional bool
}

// fieldsOf returns the fields that encoding/json knows, with those of embedded structs.
func fieldsOf(t reflect.Type) map[string]field {
	fields := make(map[string]field)
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			maps.Copy(fields, fieldsOf(f.Type))
		case name != "" && name != "-":
			fields[name] = field{kindOf(f.Type), strings.Contains(options, "omit")}
		}
	}
	return fields
}

// kindOf returns the kind of JSON value that a type becomes.
func kindOf(t reflect.Type) string {
	if t.Implements(reflect.TypeFor[json.Marshaler]()) || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return ""
	}
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return "string"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return kindOf(t.Elem())
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "integer"
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.Map, reflect.Struct:
		return "object"
	default:
		return ""
	}
}
