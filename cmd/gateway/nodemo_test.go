//go:build more

package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestNoDemoInABuildWithoutIt: with the tag nodemo the program builds, and neither the demo nor its
// embedded Redis is in it. That go list sees both without the tag shows that the test would notice
// them.
func TestNoDemoInABuildWithoutIt(t *testing.T) {
	t.Parallel()
	has := func(tags string) (found []string) {
		t.Helper()
		list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", tags, ".").Output()
		if err != nil {
			t.Fatal(err)
		}
		for path := range strings.FieldsSeq(string(list)) {
			if strings.HasPrefix(path, "orgcast/internal/demo") || strings.Contains(path, "miniredis") {
				found = append(found, path)
			}
		}
		return found
	}
	if got := has("nodemo"); len(got) > 0 {
		t.Errorf("with the tag nodemo: got %q, want neither the demo nor miniredis", got)
	}
	if got := has(""); len(got) < 2 {
		t.Errorf("without the tag: got %q, want the demo and miniredis", got)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "vet", "-tags", "nodemo", ".").CombinedOutput(); err != nil {
		t.Errorf("vet: %v\n%s", err, out)
	}
}
