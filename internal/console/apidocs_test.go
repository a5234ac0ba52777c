package console_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"orgcast/internal/console"
	"orgcast/internal/testkit/apidocs"
)

// TestDescribedConsole: docs/api has the paths, fields and codes of this package, and no others.
func TestDescribedConsole(t *testing.T) {
	const prefix = "/console/"
	d := apidocs.Read(t, apidocs.Public)
	d.Same(t, reflect.TypeFor[console.Connection](), "Device")
	d.Same(t, reflect.TypeFor[console.Hour](), "Hour")
	described := d.Operations(t)
	// A request to no path, or in the wrong way, has codes that belong to no operation.
	named := map[string]bool{}
	for _, code := range apidocs.Texts(d.At(t, "components", "schemas", "Problem", "x-codes")) {
		named[code] = true
	}
	codes := console.Codes()
	for path, method := range console.Paths() {
		operation, ok := described[method+" "+prefix+path]
		delete(described, method+" "+prefix+path)
		if !ok {
			t.Errorf("docs/api does not have %s %s", method, path)
		}
		for status, list := range d.Codes(operation) {
			for _, code := range list {
				named[code] = true
				if !slices.Contains(codes[status], code) {
					t.Errorf("%s: there is no code %s with status %s", path, code, status)
				}
			}
		}
	}
	for operation := range described {
		if strings.Contains(operation, prefix+"v1/") {
			t.Errorf("docs/api has %s, which does not exist", operation)
		}
	}
	for status, list := range codes {
		for _, code := range list {
			if !named[code] {
				t.Errorf("docs/api does not have the code %s with status %s", code, status)
			}
		}
	}
}
