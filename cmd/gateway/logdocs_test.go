package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestLogMessagesInDocs: docs/observe.md has every message that a gateway or a worker logs, and no
// other.
func TestLogMessagesInDocs(t *testing.T) {
	outside := []string{"internal/bench/", "internal/demo/", "internal/testkit/", "internal/faults/", "internal/pubsub/pubsubtest/"}
	logged := regexp.MustCompile(`\b\w*[lL]og\.(?:Info|Warn|Error)\("([^"]+)"`)
	var code strings.Builder
	messages := make(map[string]string) // message → file
	for _, path := range sources(t, ".go") {
		if strings.HasSuffix(path, "_test.go") || slices.ContainsFunc(outside, func(dir string) bool { return strings.HasPrefix(path, dir) }) {
			continue
		}
		text := readDoc(t, path)
		code.WriteString(text)
		for _, m := range logged.FindAllStringSubmatch(text, -1) {
			messages[m[1]] = path
		}
	}
	if len(messages) < 20 {
		t.Fatalf("found only %d messages in the code", len(messages))
	}
	row := regexp.MustCompile("(?m)^\\| (`.*?) \\| ")
	span := regexp.MustCompile("`([^`]+)`")
	documented := make(map[string]bool)
	for _, m := range row.FindAllStringSubmatch(section(t, readDoc(t, "docs/observe.md"), "Log"), -1) {
		names, _, _ := strings.Cut(m[1], ", logger ")
		for _, name := range span.FindAllStringSubmatch(names, -1) {
			documented[name[1]] = true
			if start, _, _ := strings.Cut(name[1], "…"); !strings.Contains(code.String(), `"`+start) {
				t.Errorf("docs/observe.md has the message %q, which the code does not log", name[1])
			}
		}
	}
	for message, path := range messages {
		if !documented[message] {
			t.Errorf("%s logs %q, which docs/observe.md does not have", path, message)
		}
	}
}

// TestLogFieldNames: one thing has one name in all lines, and a duration says its unit.
func TestLogFieldNames(t *testing.T) {
	field := regexp.MustCompile(`zap\.(\w+)\("(\w+)"`)
	refused := []string{"organization", "org", "user", "connection", "conn", "session", "event_organization"}
	fields := 0
	for _, path := range sources(t, ".go") {
		for _, m := range field.FindAllStringSubmatch(readDoc(t, path), -1) {
			fields++
			if slices.Contains(refused, m[2]) {
				t.Errorf("%s logs the field %s: write %s_id", path, m[2], m[2])
			}
			if m[1] == "Duration" && !strings.HasSuffix(m[2], "_seconds") {
				t.Errorf("%s logs the duration %s: write %s_seconds", path, m[2], m[2])
			}
		}
	}
	if fields < 50 {
		t.Fatalf("found only %d fields in the code", fields)
	}
}
