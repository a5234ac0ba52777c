package consumer_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"orgcast/internal/consumer"
)

// TestTaskKinds: every kind that the code of the built-in consumers names is listed.
func TestTaskKinds(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	kind, found := regexp.MustCompile(`Work\{\s*Kind: "(\w+)"`), 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range kind.FindAllStringSubmatch(string(text), -1) {
			if found++; !slices.Contains(consumer.TaskKinds(), m[1]) {
				t.Errorf("%s dispatches %s, which is not listed", file, m[1])
			}
		}
	}
	if found < 3 {
		t.Errorf("found only %d kinds", found)
	}
}
