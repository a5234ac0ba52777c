package task_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// askPython runs code with the package of clients/python as orgcast, and returns its output.
func askPython(t *testing.T, code, input string) string {
	t.Helper()
	const begin = "import json, sys, unicodedata\nimport orgcast\n"
	cmd := exec.CommandContext(t.Context(), python, "-B", "-c", begin+code)
	cmd.Env = append(os.Environ(), pythonPath)
	cmd.Stdin = strings.NewReader(input)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python: %v\n%s", err, errOut.String())
	}
	return string(out)
}

// TestPythonUserCharacters: both languages allow the same characters in a user id, except those
// that the older of their two Unicode versions does not know.
func TestPythonUserCharacters(t *testing.T) {
	const code = `print("".join("u" if unicodedata.category(c) == "Cn" else "ny"[orgcast.is_user_id(c)] for c in map(chr, range(0x110000))))`
	verdicts := strings.TrimSpace(askPython(t, code, ""))
	if len(verdicts) != unicode.MaxRune+1 {
		t.Fatalf("got %d verdicts", len(verdicts))
	}
	for c := rune(0); c <= unicode.MaxRune; c++ {
		known := verdicts[c] != 'u' && unicode.In(c, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.C)
		if got, want := verdicts[c] == 'y', orgctx.ValidUserID(string(c)); known && got != want {
			t.Errorf("%U: Python says %v, Go %v", c, got, want)
		}
	}
}

func TestPythonUsers(t *testing.T) {
	users := []string{
		"", "ada", "ada.inbox", "a|b", "a%7Cb", "ü", "u\u0308", "..", "a b", "a\n", "a\u202eb", "\ufffd",
		strings.Repeat("a", 64), strings.Repeat("a", 65), strings.Repeat("ü", 64), strings.Repeat("ü", 64) + "a", strings.Repeat("a", 129),
	}
	input, err := json.Marshal(users)
	if err != nil {
		t.Fatal(err)
	}
	type verdict struct {
		OK    bool
		Group string
	}
	var got []verdict
	const code = `print(json.dumps([{"ok": orgcast.is_user_id(user), "group": orgcast.user_group(user) if user else ""} for user in json.load(sys.stdin)]))`
	if err := json.Unmarshal([]byte(askPython(t, code, string(input))), &got); err != nil || len(got) != len(users) {
		t.Fatalf("got %+v, %v", got, err)
	}
	for i, user := range users {
		want := verdict{orgctx.ValidUserID(user), event.UserGroupName(user)}
		if user == "" {
			want.Group = "" // the package raises an error
		}
		if got[i] != want {
			t.Errorf("%q: got %+v, want %+v", user, got[i], want)
		}
	}
}

// TestPythonEventTypes: both languages allow the same types of events.
func TestPythonEventTypes(t *testing.T) {
	types := []string{
		"", "a", "task.done", "org:x-Y_9", "a b", "a\n", "ü", "a/b", strings.Repeat("a", event.MaxTypeLength), strings.Repeat("a", event.MaxTypeLength+1),
	}
	input, err := json.Marshal(types)
	if err != nil {
		t.Fatal(err)
	}
	const code = `
from orgcast.space import complete
def valid(text):
    try:
        complete("publish", "acme", "jobs", {"type": text})
        return True
    except orgcast.OrgcastError:
        return False
print(json.dumps([valid(text) for text in json.load(sys.stdin)]))`
	var got []bool
	if err := json.Unmarshal([]byte(askPython(t, code, string(input))), &got); err != nil || len(got) != len(types) {
		t.Fatalf("got %v, %v", got, err)
	}
	for i, text := range types {
		if want := event.ValidType(text); got[i] != want {
			t.Errorf("%q: Python says %v, Go %v", text, got[i], want)
		}
	}
}
