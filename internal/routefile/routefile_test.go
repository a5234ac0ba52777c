package routefile_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"orgcast/internal/outgoing"
	"orgcast/internal/routefile"
	"orgcast/internal/testkit"
	"orgcast/internal/yamlfile"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// specimen is one file of the corpus.
type specimen struct {
	name, want, where, text string
}

// corpus reads testdata/corpus.txt. Each file says what becomes of it: accept, refuse, or beyond,
// which is refused although the schema cannot see why.
func corpus(tb testing.TB) (list []specimen) {
	tb.Helper()
	b, err := os.ReadFile("testdata/corpus.txt")
	if err != nil {
		tb.Fatal(err)
	}
	for part := range strings.SplitSeq(string(b), "=== ") {
		title, text, _ := strings.Cut(part, "\n")
		want, name, ok := strings.Cut(title, " ")
		if !ok {
			continue
		}
		name, where, _ := strings.Cut(name, ": ")
		list = append(list, specimen{name, want, where, text})
	}
	return list
}

// compileSchema returns the JSON Schema, ready to judge files.
func compileSchema(tb testing.TB) *jsonschema.Schema {
	tb.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(routefile.Schema()))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("routes.schema.json", doc); err != nil {
		tb.Fatal(err)
	}
	s, err := c.Compile("routes.schema.json")
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// judge returns what the schema says of a file.
func judge(s *jsonschema.Schema, text string) error {
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

// TestCorpus: the gateway and the schema accept and refuse the same files. What the schema cannot
// see, such as whether a path has a parameter, the gateway refuses alone.
func TestCorpus(t *testing.T) {
	counts, schema := make(map[string]int), compileSchema(t)
	for _, s := range corpus(t) {
		counts[s.want]++
		t.Run(s.want+"/"+s.name, func(t *testing.T) {
			_, err := routefile.Parse([]byte(s.text))
			if (err == nil) != (s.want == "accept") {
				t.Errorf("the gateway: %v", err)
			}
			if s.where != "" && (err == nil || !strings.Contains(err.Error(), s.where+":")) {
				t.Errorf("got %v, want %s", err, s.where)
			}
			if s.want == "beyond" {
				return
			}
			if err := judge(schema, s.text); (err == nil) != (s.want == "accept") {
				t.Errorf("the schema: %v", err)
			}
		})
	}
	if counts["accept"] < 5 || counts["refuse"] < 50 || counts["beyond"] < 10 {
		t.Errorf("the corpus has shrunk: %v", counts)
	}
}

// TestMistakesAreAllTold: every mistake is told with its line, not only the first.
func TestMistakesAreAllTold(t *testing.T) {
	_, err := routefile.Parse([]byte("version: 1\nroutes:\n  - path: /ws/a\n    who: nobody\n    groups: [a]\n  - path: /ws/b\n    who: member\n    groups: [\"b b\"]\n"))
	if err == nil || !strings.Contains(err.Error(), "line 4: who:") || !strings.Contains(err.Error(), "line 8: groups:") {
		t.Errorf("got %v", err)
	}
}

// TestBombs: a small file cannot become a large one, nor take the parser deep.
func TestBombs(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("a: &a [x, x]\n")
	for c := 'b'; c < 'z'; c++ {
		fmt.Fprintf(&laughs, "%c: &%c [*%c, *%c, *%c]\n", c, c, c-1, c-1, c-1)
	}
	for what, text := range map[string]string{
		"aliases":        laughs.String(),
		"brackets":       strings.Repeat("[", yamlfile.MaxSize),
		"braces":         strings.Repeat("{a: ", yamlfile.MaxSize/4),
		"dashes":         strings.Repeat("- ", yamlfile.MaxSize/2),
		"question marks": strings.Repeat("? ", yamlfile.MaxSize/2),
		"indentation":    indented(700),
		"size":           strings.Repeat("#", yamlfile.MaxSize+1),
		"quotes":         strings.Repeat("\"", yamlfile.MaxSize),
		"text":           "a: " + strings.Repeat("x", yamlfile.MaxSize-3),
		"keys":           manyKeys(),
		"colons":         strings.Repeat(":", yamlfile.MaxSize),
		"block text":     "a: |\n" + strings.Repeat(" x\n", yamlfile.MaxSize/3-10),
		"documents":      strings.Repeat("---\n", yamlfile.MaxSize/4),
		"control bytes":  strings.Repeat("\x00\x01\xff", 1000),
	} {
		t.Run(what, func(t *testing.T) {
			if _, err := routefile.Parse([]byte(text)); err == nil {
				t.Error("accepted")
			} else if len(err.Error()) > 4096 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func indented(levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()[:min(b.Len(), yamlfile.MaxSize)]
}

func manyKeys() string {
	var b strings.Builder
	for i := 0; b.Len() < yamlfile.MaxSize-20; i++ {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	return b.String()
}

// TestLoadReadsKeys: keys are read from the file's own folder, and a mistake in one does not show
// it.
func TestLoadReadsKeys(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "routes.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("routes.yaml", "version: 1\nroutes:\n  - {path: /ws/a, who: member, groups: [a], hook: {url: \"http://h/\", key-file: hook.key, on: [connect]}}\n")
	if _, err := routefile.Load(path); err == nil || !strings.Contains(err.Error(), "line 3: path /ws/a: hook: key-file: file cannot be read") {
		t.Errorf("without the file: %v", err)
	}
	write("hook.key", "secret-that-is-no-key")
	if _, err := routefile.Load(path); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("with another content: %v", err)
	}
	write("hook.key", "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n")
	routes, err := routefile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if h := routes[0].Hook; h.Timeout != outgoing.DefaultTimeout || h.URL != "http://h/" {
		t.Errorf("got %+v", h)
	}
}

// TestDescribe: what a file allows is told in words.
func TestDescribe(t *testing.T) {
	for _, s := range corpus(t) {
		if s.want != "accept" || s.name != "everything" {
			continue
		}
		routes, err := routefile.Parse([]byte(s.text))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		routefile.Describe(&b, routes)
		const want = `  /ws/report/{id:int}/{part:id}
    who        the user who opened {id} first, if the hook agrees
    groups     report.{id}.{part}, {user_group}.inbox, {user_group}, those that the hook names
    first      one report_update with the last value of each field; the fields of empty if nothing was recorded
    events     done(), report_update(status, percent); no others
    receive    answer: answers the question {input_key}
    receive    cancel: task cancel, answered to this connection with cancelled
    receive    get_state: the first state again
    receive    all other types: the hook decides
    hook       https://hooks.example.com/a?b=c on connect, receive, disconnect, within 500ms
`
		if b.String() != want {
			t.Errorf("got\n%s\nwant\n%s", b.String(), want)
		}
	}
}

// FuzzParse: no text of a file crashes the reader, and what it accepts, the schema accepts.
func FuzzParse(f *testing.F) {
	for _, s := range corpus(f) {
		f.Add([]byte(s.text))
	}
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("? - ? -"))
	f.Fuzz(func(t *testing.T, text []byte) {
		routes, err := routefile.Parse(text)
		if err != nil {
			return
		}
		for _, r := range routes {
			for _, g := range r.Groups {
				if strings.HasPrefix(g.String(), "user.") || strings.HasPrefix(g.String(), "reply_") || strings.ContainsAny(g.String(), ":/ ") {
					t.Errorf("accepted the group %s", g)
				}
			}
		}
		routefile.Describe(&strings.Builder{}, routes)
	})
}
