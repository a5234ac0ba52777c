package app_test

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"orgcast/internal/app"
	"orgcast/internal/redisclient"
	"orgcast/internal/testkit"
)

// TestEveryRightIsTried: check --connect asks about each right that deploy/ gives the gateway, with a
// publish key too, for the keys and channels that the right is for.
func TestEveryRightIsTried(t *testing.T) {
	acl, err := os.ReadFile("../../deploy/redis/users.acl")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^user gateway .*$`).FindString(string(acl))
	for _, more := range regexp.MustCompile(`(?m)^    (\(.*\))$`).FindAllString(string(readme), -1) {
		line += more
	}
	selectors := regexp.MustCompile(`\(([^)]*)\)`).FindAllStringSubmatch(line, -1)
	if len(selectors) < 20 {
		t.Fatalf("got %d selectors, want those of deploy/", len(selectors))
	}
	var tried [][]string
	for _, cluster := range [][]string{nil, {"127.0.0.1:7000"}} {
		commands, err := app.CommandsOfRights(&app.Options{
			Redis: redisclient.Options{Cluster: cluster}, Consumers: []string{app.EveryConsumer}, PresencePolicy: "room.*=users", UsageRetention: time.Hour,
			PublishKey: "key", Webhooks: app.Webhooks{URL: "https://app.example.com"}, Directory: app.DirectoryRedis,
		}, testkit.Keys(t), testkit.Org(t, "acme"))
		if err != nil {
			t.Fatal(err)
		}
		tried = append(tried, commands...)
	}
	count := 0
	for _, selector := range selectors {
		var patterns, commands []string
		for rule := range strings.FieldsSeq(selector[1]) {
			switch rule[0] {
			case '~', '&':
				patterns = append(patterns, rule[1:])
			case '+':
				commands = append(commands, strings.ReplaceAll(rule[1:], "|", " "))
			}
		}
		for _, command := range commands {
			count++
			if !slices.ContainsFunc(tried, func(c []string) bool { return covers(c, command, patterns) }) {
				t.Errorf("%s on %v: check --connect does not ask about it", command, patterns)
			}
		}
	}
	t.Logf("%d rights", count)
}

// covers reports whether a command that is asked about is the one of a right, and all that it is about
// matches the patterns of the right.
func covers(asked []string, command string, patterns []string) bool {
	words := len(strings.Fields(command))
	if strings.Join(asked[:words], " ") != command {
		return false
	}
	about := asked[words:]
	if command == "eval" || command == "evalsha" {
		about = asked[3:]
	}
	return !slices.ContainsFunc(about, func(name string) bool {
		return !slices.ContainsFunc(patterns, func(pattern string) bool {
			ok, _ := path.Match(strings.NewReplacer("{", "\\{", "}", "\\}").Replace(pattern), name)
			return ok
		})
	})
}
