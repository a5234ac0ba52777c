package config_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/config"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// values are one setting of each kind.
type values struct {
	Text, Key, Color, URL string
	URLs, List            []string
	Count                 int
	Rate                  float64
	Wait                  time.Duration
	Loud                  bool
	Share                 float64
	Once                  string
}

func declare(v *values) *config.Set {
	s := config.New("test", "Usage of the test.")
	s.String(&v.Text, "text", "fallback", "a text", nil)
	s.Secret(&v.Key, "secret-key", "a key", func(text string) error {
		if len(text) < 8 {
			return errors.New("is too short")
		}
		return nil
	})
	s.Choice(&v.Color, "color", "red", []string{"red", "blue"}, "a color")
	s.URL(&v.URL, "url", "", "a URL", func(text string) error {
		if text != "" && !strings.Contains(text, "://") {
			return errors.New("is no URL")
		}
		return nil
	})
	s.URLs(&v.URLs, "urls", "", "URLs", func(text string) error {
		if !strings.Contains(text, "://") {
			return errors.New("is no URL")
		}
		return nil
	})
	s.List(&v.List, "list", "a,b", "a list", nil)
	s.Int(&v.Count, "count", 3, 1, "a number")
	s.Float(&v.Rate, "rate", 1.5, "a rate")
	s.Duration(&v.Wait, "wait", time.Second, 0, "a time")
	s.Bool(&v.Loud, "loud", false, "a switch")
	s.FloatFrom(&v.Share, "share", 0.5, 0, "a number from zero on")
	s.FlagsOnly()
	s.String(&v.Once, "once", "", "a text without a variable", nil)
	return s
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestParse(t *testing.T) {
	defaults := values{Text: "fallback", Color: "red", List: []string{"a", "b"}, Count: 3, Rate: 1.5, Wait: time.Second, Share: 0.5}
	secretFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(secretFile, []byte(" from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args []string
		env  []string
		want func(*values)
		rest []string
	}{
		"defaults":                      {},
		"environment":                   {env: []string{"ORGCAST_TEXT", "env", "ORGCAST_COUNT", "7", "ORGCAST_LOUD", "true"}, want: func(v *values) { v.Text, v.Count, v.Loud = "env", 7, true }},
		"flag before it":                {args: []string{"--text", "flag"}, env: []string{"ORGCAST_TEXT", "env"}, want: func(v *values) { v.Text = "flag" }},
		"a flag mends":                  {args: []string{"--count=5"}, env: []string{"ORGCAST_COUNT", "many"}, want: func(v *values) { v.Count = 5 }},
		"last flag counts":              {args: []string{"--count=x", "--count=6"}, want: func(v *values) { v.Count = 6 }},
		"switch without a value":        {args: []string{"--loud", "rest"}, want: func(v *values) { v.Loud = true }, rest: []string{"rest"}},
		"between and behind arguments":  {args: []string{"one", "--count", "5", "-", "--loud"}, want: func(v *values) { v.Count, v.Loud = 5, true }, rest: []string{"one", "-"}},
		"behind two dashes":             {args: []string{"one", "--", "--count", "-x"}, rest: []string{"one", "--count", "-x"}},
		"list":                          {args: []string{"--list", " x, ,y ,"}, want: func(v *values) { v.List = []string{"x", "y"} }},
		"URLs":                          {args: []string{"--urls", " redis://a:1,x@a , redis://b"}, want: func(v *values) { v.URLs = []string{"redis://a:1,x@a", "redis://b"} }},
		"secret":                        {env: []string{"ORGCAST_SECRET_KEY", "long enough"}, want: func(v *values) { v.Key = "long enough" }},
		"secret from a file":            {args: []string{"--secret-key-file", secretFile}, want: func(v *values) { v.Key = "from-a-file" }},
		"zero":                          {args: []string{"--share", "0"}, want: func(v *values) { v.Share = 0 }},
		"flag without a variable":       {args: []string{"--once", "x"}, env: []string{"ORGCAST_ONCE", "y"}, want: func(v *values) { v.Once = "x" }},
		"variable that is none":         {env: []string{"ORGCAST_ONCE", "y", "", "z"}},
		"file named by the environment": {env: []string{"ORGCAST_SECRET_KEY_FILE", secretFile}, want: func(v *values) { v.Key = "from-a-file" }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got values
			rest, err := declare(&got).Parse(test.args, env(test.env...))
			if err != nil {
				t.Fatal(err)
			}
			want := defaults
			if test.want != nil {
				test.want(&want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want (-), got (+):\n%s", diff)
			}
			if !slices.Equal(rest, test.rest) {
				t.Errorf("rest: got %q, want %q", rest, test.rest)
			}
		})
	}
}

// TestEmptySecretFileIsAMistake: an empty file does not switch off what the secret protects, and
// does not take the place of a secret that was given before.
func TestEmptySecretFileIsAMistake(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var v values
	_, err := declare(&v).Parse([]string{"--secret-key-file", file}, env())
	if err == nil || !strings.Contains(err.Error(), "--secret-key-file (from flag): the file is empty") {
		t.Errorf("got %v, want an error that names the file's setting", err)
	}
}

// TestAllMistakes: a user who starts the process once sees everything that is wrong.
func TestAllMistakes(t *testing.T) {
	var v values
	_, err := declare(&v).Parse(
		[]string{"--count", "0", "--rate=-1", "--nonsense", "--wait", "soon", "--loud=perhaps", "--secret-key-file", "/does/not/exist", "--share=-1"},
		env("ORGCAST_COLOR", "green", "ORGCAST_URL", "nothing"),
		func() error { return errors.New("text and list do not go together") })
	if err == nil {
		t.Fatal("got nil, want an error")
	}
	for _, want := range []string{"--count", "must be at least 1", "--rate", "--nonsense: unknown flag", "--wait", "--loud", "--secret-key-file", "--share (from flag): must be at least 0", "--color (from environment)", "--url (from environment)", "do not go together"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not tell of %q:\n%v", want, err)
		}
	}
}

// TestMistakesSayWhatToDo: each mistake is told once, with the name that the user wrote and the reason.
func TestMistakesSayWhatToDo(t *testing.T) {
	missing := func() error { return errors.New("--secret-key: required\n--text: required with --loud") }
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"misspelled":      {[]string{"--colr", "red"}, "--colr: unknown flag, did you mean --color?"},
		"like no other":   {[]string{"--zzzzzz"}, "--zzzzzz: unknown flag"},
		"without a value": {[]string{"--text"}, "--text: needs a value"},
		"no such file":    {[]string{"--secret-key-file", "/does/not/exist"}, "--secret-key-file (from flag): cannot read the file: no such file or directory"},
		"a folder":        {[]string{"--secret-key-file", t.TempDir()}, "--secret-key-file (from flag): cannot read the file: is a directory"},
		"too short":       {[]string{"--secret-key", "hush"}, "--secret-key (from flag): is too short"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := declare(new(values)).Parse(test.args, env(), missing)
			want := []string{test.want, "--secret-key: required", "--text: required with --loud"}
			if strings.Contains(test.want, "secret-key") { // it is not missing as well
				want = slices.Delete(want, 1, 2)
			}
			if got := strings.Split(err.Error(), "\n"); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestSecretsStaySecret: neither errors nor the effective settings nor the help show one.
func TestSecretsStaySecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("hush3"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ args, env []string }{
		"flag":               {args: []string{"--secret-key", "hush1"}},
		"environment":        {env: []string{"ORGCAST_SECRET_KEY", "hush2"}},
		"file":               {args: []string{"--secret-key-file", file}},
		"good":               {args: []string{"--secret-key", "hush4-long-enough"}},
		"password in a URL":  {args: []string{"--url", "redis://user:hush5@host:1/0"}},
		"password in a list": {args: []string{"--urls", "redis://a/1,redis://user:hush8@host:1/0"}},
		"no URLs":            {args: []string{"--urls", "user:hush9@host,b"}},
		"broken URL":         {args: []string{"--url", "redis://user:hush6@host:x y/%zz"}},
		"no URL":             {args: []string{"--url", "user:hush7@host"}},
	} {
		t.Run(name, func(t *testing.T) {
			var v values
			s := declare(&v)
			_, err := s.Parse(test.args, env(test.env...))
			var out bytes.Buffer
			s.Effective(&out)
			s.Help(&out)
			s.Markdown(&out)
			if err != nil {
				out.WriteString(err.Error())
			}
			if strings.Contains(out.String(), "hush") {
				t.Errorf("a secret is shown:\n%s", out.String())
			}
		})
	}
}

func TestHelp(t *testing.T) {
	var v values
	s := declare(&v)
	if _, err := s.Parse([]string{"--help"}, env()); !errors.Is(err, config.ErrHelp) {
		t.Errorf("--help: got %v, want ErrHelp", err)
	}
	var out bytes.Buffer
	s.Help(&out)
	for _, want := range []string{"Usage of the test.", "--secret-key-file", "ORGCAST_SECRET_KEY", "[1.5]", "(red, blue)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help does not tell of %q:\n%s", want, out.String())
		}
	}
	s.Markdown(&out)
	if !strings.Contains(out.String(), "| `--once` | – | – |") || strings.Contains(out.String(), "ORGCAST_ONCE") || slices.Contains(s.Variables(), "ORGCAST_ONCE") {
		t.Errorf("a flag without a variable: got %q and\n%s", s.Variables(), out.String())
	}
}
