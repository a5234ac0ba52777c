package yamlfile_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/testkit"
	"orgcast/internal/yamlfile"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestParse(t *testing.T) {
	got, err := yamlfile.Parse([]byte("a: x\nb:\n  - 0x10\n  - true\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := &yamlfile.Node{Line: 1, Kind: yamlfile.Mapping, Object: []yamlfile.Member{
		{Line: 1, Name: "a", Value: &yamlfile.Node{Line: 1, Kind: yamlfile.Text, Text: "x"}},
		{Line: 2, Name: "b", Value: &yamlfile.Node{Line: 3, Kind: yamlfile.List, List: []*yamlfile.Node{
			{Line: 3, Kind: yamlfile.Scalar, Raw: json.RawMessage("16"), Spelled: "0x10"},
			{Line: 4, Kind: yamlfile.Scalar, Raw: json.RawMessage("true"), Spelled: "true"},
		}}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if n, err := yamlfile.Parse([]byte("# nothing\n")); n != nil || err != nil {
		t.Errorf("only a comment: got %v, %v, want nothing", n, err)
	}
}

// TestAllDuplicates: the parser stops at the first duplicate key. We report each, also in inner
// mappings, on its line.
func TestAllDuplicates(t *testing.T) {
	_, err := yamlfile.Parse([]byte("a: 1\nb:\n  c: 1\n  c: 2\na: 2\n"))
	if want := "line 4: duplicate key \"c\"\nline 5: duplicate key \"a\""; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestReadBounds: a file that never ends is refused without being read to its end.
func TestReadBounds(t *testing.T) {
	if _, err := yamlfile.Read("/dev/zero"); err == nil || !strings.Contains(err.Error(), "is larger than") {
		t.Errorf("/dev/zero: got %v", err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, yamlfile.MaxSize), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := yamlfile.Read(path); err != nil || len(b) != yamlfile.MaxSize {
		t.Errorf("the largest file: got %d bytes, %v", len(b), err)
	}
}

// FuzzParse: no text makes the reader panic, and mistakes are bounded in number and length.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"a: 1\n", "- [a, {b: c}]\n", "a: |\n  x\n", "a: &x 1\nb: *x\n", "? a\n: b\n", "a: 1\na: 2\n", "%YAML 1.2\n---\n", "\t", "a: !!binary x\n", "{", "'"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := yamlfile.Parse([]byte(text))
		if err != nil && len(err.Error()) > (yamlfile.MaxMistakes+1)*500 {
			t.Errorf("the error has %d bytes", len(err.Error()))
		}
	})
}
