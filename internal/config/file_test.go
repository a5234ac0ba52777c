package config_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"orgcast/internal/config"
	"orgcast/internal/yamlfile"
)

// others are the settings of another subcommand.
func others() []*config.Set {
	s := config.New("other", "")
	s.Int(new(int), "workers", 1, 1, "a number of another subcommand")
	s.Secret(new(string), "other-key", "a key of another subcommand", nil)
	return []*config.Set{s}
}

// declareWithFile is declare with --config.
func declareWithFile(v *values) *config.Set {
	s := declare(v)
	s.File(others)
	return s
}

// writeFile puts a settings file into a folder of its own.
func writeFile(tb testing.TB, text string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "orgcast.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func TestFile(t *testing.T) {
	defaults := values{Text: "fallback", Color: "red", List: []string{"a", "b"}, Count: 3, Rate: 1.5, Wait: time.Second, Share: 0.5}
	for name, test := range map[string]struct {
		file string
		args []string
		env  []string
		want func(*values)
	}{
		"nothing": {file: "# only a comment\n"},
		"empty":   {file: ""},
		"one of each kind": {file: "text: file\ncolor: blue\nurl: redis://a:1\nurls: [redis://b, redis://c]\nlist: [x, y]\ncount: 7\nrate: 2.5\nwait: 5m\nloud: true\nshare: 0\n", want: func(v *values) {
			*v = values{Text: "file", Color: "blue", URL: "redis://a:1", URLs: []string{"redis://b", "redis://c"}, List: []string{"x", "y"}, Count: 7, Rate: 2.5, Wait: 5 * time.Minute, Loud: true}
		}},
		"a list as text":              {file: "list: x, y\n", want: func(v *values) { v.List = []string{"x", "y"} }},
		"a list of lines":             {file: "list:\n  - x\n  - \"*\"\n  - 3\n", want: func(v *values) { v.List = []string{"x", "*", "3"} }},
		"an empty list":               {file: "list: []\n", want: func(v *values) { v.List = nil }},
		"quoted":                      {file: "count: \"7\"\nloud: 'true'\n", want: func(v *values) { v.Count, v.Loud = 7, true }},
		"text that looks like others": {file: "text: 010\n", want: func(v *values) { v.Text = "010" }},
		"environment wins":            {file: "count: 7\n", env: []string{"ORGCAST_COUNT", "8"}, want: func(v *values) { v.Count = 8 }},
		"flag wins":                   {file: "count: 7\n", env: []string{"ORGCAST_COUNT", "8"}, args: []string{"--count=9"}, want: func(v *values) { v.Count = 9 }},
		"a flag repairs":              {file: "count: many\n", args: []string{"--count=9"}, want: func(v *values) { v.Count = 9 }},
		"a secret's own file wins":    {file: "secret-key-file: key\n", want: func(v *values) { v.Key = "in-the-folder" }},
		"a flag replaces its file":    {file: "secret-key-file: nowhere\n", args: []string{"--secret-key=on-the-command-line"}, want: func(v *values) { v.Key = "on-the-command-line" }},
		"of another subcommand":       {file: "workers: whatever\ncount: 7\n", want: func(v *values) { v.Count = 7 }},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, test.file)
			if err := os.WriteFile(filepath.Join(filepath.Dir(path), "key"), []byte("in-the-folder"), 0o600); err != nil {
				t.Fatal(err)
			}
			for way, source := range map[string]struct{ args, env []string }{
				"flag":        {args: []string{"--config", path}},
				"environment": {env: []string{"ORGCAST_CONFIG", path}},
			} {
				var got values
				_, err := declareWithFile(&got).Parse(slices.Concat(source.args, test.args), env(slices.Concat(source.env, test.env)...))
				if err != nil {
					t.Fatalf("%s: %v", way, err)
				}
				want := defaults
				if test.want != nil {
					test.want(&want)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: want (-), got (+):\n%s", way, diff)
				}
			}
		})
	}
}

// TestMistakesInAFile: each names the line and what to do, and all of them are told at once.
func TestMistakesInAFile(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		want []string // after "FILE"
	}{
		"misspelled":              {"text: x\ncolr: red\n", []string{`:2: unknown setting "colr", did you mean color?`}},
		"spelled as a variable":   {"ORGCAST_SECRET_KEY_FILE: x\n", []string{`:1: unknown setting "ORGCAST_SECRET_KEY_FILE", did you mean secret-key-file?`}},
		"misspelled elsewhere":    {"worker: 3\n", []string{`:1: unknown setting "worker", did you mean workers?`}},
		"like no other":           {"zzzzzzzz: 1\n", []string{`:1: unknown setting "zzzzzzzz"`}},
		"a flag of one call":      {"once: 1\n", []string{`:1: unknown setting "once"`}},
		"itself":                  {"config: other.yaml\n", []string{":1: config: a settings file cannot name another one"}},
		"twice":                   {"count: 1\ntext: x\ncount: 2\ntext: y\n", []string{`:3: duplicate key "count"`, `:4: duplicate key "text"`}},
		"out of range":            {"\ncount: 0\n", []string{":2): must be at least 1"}},
		"wrong types":             {"count: [1]\ntext:\n  a: b\nwait: 10\nloud: yes\n", []string{":1: count: must be an integer, and not a list", ":2: text: must be text, and not a mapping", ":4): must be a duration", ":5): must be true or false"}},
		"no value":                {"text:\ncount: null\n", []string{":1: text: has no value", ":2: count: has no value"}},
		"a secret":                {"secret-key: hush-hush-hush\n", []string{":1: secret-key: a secret does not belong here: write it to its own file, and set secret-key-file"}},
		"a secret of another":     {"other-key: hush-hush\n", []string{":1: other-key: a secret does not belong here"}},
		"a password in a list":    {"urls: redis://a,redis://user:hush@host\nlist: [a]\n", []string{":1: urls: a password does not belong here: remove it from the URL, write it to its own file, and set urls-password-file"}},
		"a password in an entry":  {"urls: [redis://a, redis://user:hush@host]\n", []string{":1: urls: a password does not belong here: remove it from the URL, write it to its own file, and set urls-password-file"}},
		"a password":              {"url: redis://user:hush@host\n", []string{":1: url: a password does not belong here: remove it from the URL, write it to its own file, and set url-password-file"}},
		"an entry with a comma":   {"list:\n  - a\n  - b,c\n", []string{":3: list: an entry must not contain a comma"}},
		"an entry that is a list": {"list:\n  - [a]\n  -\n", []string{":2: list: each entry must be text", ":3: list: each entry must be text"}},
		"a list":                  {"- a\n", []string{":1: must be settings, such as listen: 127.0.0.1:8080, and not a list"}},
		"text":                    {"hello\n", []string{":1: must be settings"}},
		"two documents":           {"count: 1\n---\ncount: 2\n", []string{":3: a file has one document"}},
		"an alias":                {"text: &a x\n", []string{":1: anchors, aliases"}},
		"not YAML":                {"text: [\n", []string{":1: "}},
		"too large":               {strings.Repeat("#", yamlfile.MaxSize+1), []string{": is larger than"}},
		"no such secret":          {"secret-key-file: nowhere\n", []string{":1): cannot read the file: no such file or directory"}},
		"many at once":            {"colr: red\ncount: 0\nloud: perhaps\nsecret-key: hush\n", []string{":1: unknown setting", ":2): must be at least 1", ":3): must be true or false", ":4: secret-key: a secret"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, test.file)
			_, err := declareWithFile(new(values)).Parse([]string{"--config", path}, env())
			if err == nil {
				t.Fatal("got nil, want an error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), path+want) {
					t.Errorf("the error does not tell of %q:\n%v", want, err)
				}
			}
			if got := len(strings.Split(err.Error(), "\n")); got != len(test.want) {
				t.Errorf("got %d lines, want %d:\n%v", got, len(test.want), err)
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
	_, err := declareWithFile(new(values)).Parse([]string{"--config", "/does/not/exist"}, env())
	if want := "--config: /does/not/exist: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("no such file: got %v, want %s", err, want)
	}
}

// TestEffectiveNamesTheLine: each value is shown with where it comes from.
func TestEffectiveNamesTheLine(t *testing.T) {
	path := writeFile(t, "text: file\ncount: 7\nsecret-key-file: key\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "key"), []byte("hush-hush"), 0o600); err != nil {
		t.Fatal(err)
	}
	var v values
	s := declareWithFile(&v)
	s.Instead("url", func() string { return "nowhere" })
	if _, err := s.Parse([]string{"--config", path, "--loud"}, env("ORGCAST_COUNT", "8")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s.Effective(&out)
	got := make(map[string]string)
	for line := range strings.Lines(out.String()) {
		name, rest, _ := strings.Cut(line, " ")
		got[name] = strings.Join(strings.Fields(rest), " ")
	}
	for name, want := range map[string]string{
		"config": path + " flag", "text": "file " + path + ":1", "count": "8 environment", "loud": "true flag", "rate": "1.5 default", "url": "nowhere default",
		"secret-key":      "(set, not shown) file " + filepath.Join(filepath.Dir(path), "key"),
		"secret-key-file": filepath.Join(filepath.Dir(path), "key") + " " + path + ":3",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
}

// TestChanges: a reload learns which values differ, whatever they look like, and which of them it
// cannot change.
func TestChanges(t *testing.T) {
	parse := func(file string) *config.Set {
		s := declareWithFile(new(values))
		s.Reloads("count", "secret-key", "list")
		if _, err := s.Parse([]string{"--config", writeFile(t, file)}, env()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := parse("text: a\ncount: 1\nwait: 60s\nlist: [x, y]\n")
	reloaded, restart := before.Changes(parse("text: b\ncount: 2\nwait: 1m\nlist: x,y\nloud: true\n"))
	if !slices.Equal(reloaded, []string{"count"}) || !slices.Equal(restart, []string{"text", "loud"}) {
		t.Errorf("got %q and %q, want count, and text and loud", reloaded, restart)
	}
	if _, err := declare(new(values)).Parse(nil, env()); err != nil {
		t.Fatal(err)
	}
	s := declare(new(values))
	s.Reloads("cont")
	if _, err := s.Parse(nil, env()); err == nil || !strings.Contains(err.Error(), "--cont: not declared") {
		t.Errorf("a name that is not declared: got %v", err)
	}
}

// fileSchema returns the JSON Schema of the settings file.
func fileSchema(tb testing.TB) *jsonschema.Schema {
	tb.Helper()
	text, err := config.Schema(append([]*config.Set{declareWithFile(new(values))}, others()...)...)
	if err != nil {
		tb.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("orgcast.schema.json", doc); err != nil {
		tb.Fatal(err)
	}
	s, err := c.Compile("orgcast.schema.json")
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestSchema: the schema accepts and refuses what the gateway does, as far as it can know.
func TestSchema(t *testing.T) {
	schema := fileSchema(t)
	for text, good := range map[string]bool{
		"text: x": true, "text: 3": true, "text: [x]": false, "colr: red": false, "color: blue": true, "color: green": false,
		"list: [a, b]": true, "list: a,b": true, "list: [[a]]": false, "list: ['a,b']": false, "list: ['']": false,
		"count: 3": true, "count: 0": false, "count: '7'": true, "count: many": false, "count: 1.5": false,
		"rate: 0.1": true, "rate: 0": false, "wait: 10s": true, "wait: 1h30m": true, "wait: 10": false, "wait: soon": false, "wait: 0": true,
		"loud: true": true, "loud: 'false'": true, "loud: perhaps": false, "share: 0": true, "share: -1": false,
		"secret-key: hush-hush": false, "secret-key-file: x": true, "config: x": false, "once: x": false, "workers: 3": true, "text:": false,
	} {
		b, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var value any
		if err := json.Unmarshal(b, &value); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); (err == nil) != good {
			t.Errorf("%s: the schema says %v, want good: %t", text, err, good)
		}
	}
}

// FuzzFile: no file makes the reader panic, a mistake has a line, and an accepted file is accepted
// by the schema, too, unless the schema cannot know.
func FuzzFile(f *testing.F) {
	for _, text := range []string{
		"text: x\ncount: 3\n", "list:\n  - a\n  - b\n", "list: [a, 'b']\n", "secret-key: x\n", "url: redis://a:b@c\n", "wait: 1m\nwait: 2m\n",
		"loud: yes\n", "# nothing\n", "text: |\n  a\n  b\n", "text: >-\n  a\n", "? text\n: x\n", "text: 0x10\ncount: 0x10\nrate: .5\nshare: .inf\n", "a: &x\n", "--- x\n--- y\n", "\xff", "text: \"\\u00e4\"\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := writeFile(t, text)
		var v values
		s := declareWithFile(&v)
		_, err := s.Parse([]string{"--config", path}, env())
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.Contains(line, path) && !strings.HasPrefix(line, "--") {
					t.Errorf("%q names neither the file nor a setting", line)
				}
			}
			return
		}
		s.Effective(new(bytes.Buffer))
		if v.Count < 1 || !(v.Rate > 0) || v.Wait < 0 || v.Share < 0 {
			t.Errorf("a value out of range was accepted: %+v", v)
		}
	})
}
