package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"orgcast/internal/event"
	"orgcast/internal/testkit"
)

// TestUserNamesInDocs: the functions of docs/protocol.md make the names that the gateway makes.
func TestUserNamesInDocs(t *testing.T) {
	users := []string{
		"ada", "42", "A-z_9", "ada.inbox", "a|b", "a%7Cb", "ü", "u\u0308", "..", "李🚀", `'"$(id)\` + "`", "!~*'()", "AZaz09_-@[^{/:", "-n",
		strings.Repeat("a", 64), strings.Repeat("a", 65), strings.Repeat("ü", 64),
	}
	keys := testkit.Keys(t)
	var want strings.Builder
	for _, user := range users {
		key := strings.TrimPrefix(keys.UserDisabled(user), "orgcast:user-disabled:")
		fmt.Fprintf(&want, "%s %s\n", event.UserGroupName(user), key)
	}
	blocks := make(map[string]string) // language → code
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(section(t, readDoc(t, "docs/protocol.md"), "Identifiers"), -1) {
		blocks[m[1]] = m[2]
	}
	for language, run := range map[string][]string{
		"sh":     {"sh", "-c", blocks["sh"] + `for user; do printf '%s %s\n' "$(user_group "$user")" "$(user_in_key "$user")"; done`, "sh"},
		"python": {"/usr/bin/python3", "-c", blocks["python"] + "\nimport sys\nfor user in sys.argv[1:]: print(user_group(user), user_in_key(user))"},
		"js": {
			"node", "--input-type=module", "--eval",
			blocks["js"] + "\nfor (const user of process.argv.slice(1)) console.log(userGroup(user), userInKey(user));", "--",
		},
	} {
		if blocks[language] == "" {
			t.Errorf("docs/protocol.md has no code in %s", language)
			continue
		}
		cmd := exec.CommandContext(t.Context(), run[0], append(run[1:], users...)...)
		var errOut strings.Builder
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v\n%s", language, err, errOut.String())
		}
		if string(out) != want.String() {
			t.Errorf("%s: got\n%swant\n%s", language, out, want.String())
		}
	}
}
