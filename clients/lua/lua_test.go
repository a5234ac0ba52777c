package lua_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"orgcast/clients/lua"
)

var update = flag.Bool("update", false, "write what parts say into the scripts")

// shared matches what a script has of a part, between two lines that name the part.
var shared = regexp.MustCompile(`(?s)-- begin of (parts/[a-z]+\.lua)\n(.*?)-- end of (parts/[a-z]+\.lua)\n`)

// TestScriptsSayTheSame: each script has to work alone, so what several have in common stands in each of
// them, as the part says it. `go test ./clients/lua -update` writes it there.
func TestScriptsSayTheSame(t *testing.T) {
	files, err := filepath.Glob("*.lua")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, %v, want scripts", files, err)
	}
	uses := make(map[string]int)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := shared.ReplaceAllStringFunc(string(text), func(found string) string {
			names := shared.FindStringSubmatch(found)
			if names[1] != names[3] {
				t.Errorf("%s: %s ends as %s", file, names[1], names[3])
			}
			uses[names[1]]++
			part, err := os.ReadFile(names[1])
			if err != nil {
				t.Fatal(err)
			}
			return "-- begin of " + names[1] + "\n" + string(part) + "-- end of " + names[1] + "\n"
		})
		if strings.Count(want, "-- begin of parts/") != strings.Count(want, "-- end of parts/") {
			t.Errorf("%s: a part begins and does not end", file)
		}
		if want == string(text) {
			continue
		}
		if !*update {
			t.Errorf("%s does not say what its parts say: run go test ./clients/lua -update", file)
		} else if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	parts, err := filepath.Glob("parts/*.lua")
	if err != nil || len(parts) == 0 {
		t.Fatalf("got %v, %v, want parts", parts, err)
	}
	for _, part := range parts {
		if uses[part] < 2 {
			t.Errorf("%s: got %d scripts that have it, want two or more", part, uses[part])
		}
	}
}

// TestText: every file is part of the program under its own name.
func TestText(t *testing.T) {
	files, err := filepath.Glob("*.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := lua.Text(strings.TrimSuffix(file, ".lua")); got != string(text) {
			t.Errorf("%s: got %q, want the file", file, got)
		}
	}
}
