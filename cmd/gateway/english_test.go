package main

import (
	"go/scanner"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// translated are phrases that read as a translation, with what to write instead.
var translated = map[string]string{
	`\banew\b`:                          "again",
	`\b(any|some)body\b`:                "anyone, someone",
	`\bbe it\b`:                         "whether",
	`\bbeside\b`:                        "next to, in addition to",
	`\bbut for\b`:                       "unless, except for",
	`\bfor ever\b`:                      "forever",
	`\bgoodbyes?\b`:                     "close",
	`\bin place of\b`:                   "instead of",
	`\bis (neither|none of)\b`:          "must be, must be one of",
	`\bis no (valid|whole|number|more)`: "is not a",
	`\bnot any ?more\b`:                 "no longer",
	`\bof no use\b`:                     "useless, must be set together",
	`\b(parted|separated) by commas\b`:  "comma-separated",
	`\bsave (for|that)\b`:               "except for, except that",
	`\bsees? to it\b`:                   "makes sure",
	`\bthat of (Redis|the)\b`:           "the noun",
	`\b[tw]?here(of|by|upon)\b`:         "the noun",
	`\bunasked\b`:                       "unexpected",
	`\bwhoever\b`:                       "anyone who, the noun",
	`\bas (many|much|long) as (it|they|he|she) may\b`: "the limit",

	`\bof (its|their|our|your) own([.,;:)|]|$| (and|or|for|to|on|in|with|from|that|when)\b)`: "its own, their own",
}

// TestPlainEnglishInDocs: neither our pages nor the texts in our code use phrases that read as a
// translation.
func TestPlainEnglishInDocs(t *testing.T) {
	t.Parallel()
	type phrase struct {
		pattern          *regexp.Regexp
		literal, instead string
	}
	var phrases []phrase
	for pattern, instead := range translated {
		p := phrase{regexp.MustCompile(`(?i)` + pattern), literalIn(pattern), instead}
		if strings.Trim(p.literal, " abcdefghijklmnopqrstuvwxyz") != "" || p.literal == "" {
			t.Errorf("%q: %q is not a literal part of it", pattern, p.literal)
		}
		phrases = append(phrases, p)
	}
	check := func(file string, line int, text string) {
		lower := strings.ToLower(text)
		for _, p := range phrases {
			if !strings.Contains(lower, p.literal) {
				continue // most lines, at a fraction of what the pattern costs
			}
			if found := p.pattern.FindString(text); found != "" {
				t.Errorf("%s:%d: %q: write %s", file, line, found, p.instead)
			}
		}
	}
	for _, page := range sources(t, ".md") {
		text := codeSpan.ReplaceAllString(blank(readDoc(t, page)), "")
		for i, line := range strings.Split(text, "\n") {
			check(page, i+1, line)
		}
	}
	for _, path := range sources(t, ".go") {
		if onlyForTests(path) {
			continue
		}
		for line, text := range literals(t, path) {
			check(path, line, text)
		}
	}
}

// notLiteral matches what may differ between two texts that a pattern of translated matches.
var notLiteral = regexp.MustCompile(`\\b|\[[^]]*\]\??|\((?:[^][()]|\[[^]]*\]|\([^()]*\))*\)|.\?`)

// literalIn returns the longest text that is in all that a pattern of translated matches.
func literalIn(pattern string) (longest string) {
	for _, part := range notLiteral.Split(pattern, -1) {
		if len(part) > len(longest) {
			longest = part
		}
	}
	return longest
}

// blank empties the code blocks of a page, so that its lines keep their numbers.
func blank(markdown string) string {
	return codeBlock.ReplaceAllStringFunc(markdown, func(block string) string {
		return strings.Repeat("\n", strings.Count(block, "\n"))
	})
}

// literals returns the string literals of a Go file by their lines.
func literals(tb testing.TB, path string) map[int]string {
	tb.Helper()
	source := []byte(readDoc(tb, path))
	files := token.NewFileSet()
	file := files.AddFile(path, files.Base(), len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, 0)
	found := make(map[int]string)
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			return found
		}
		if tok != token.STRING {
			continue
		}
		value, err := strconv.Unquote(text)
		if err != nil {
			tb.Fatalf("%s: %v", path, err)
		}
		found[file.Line(pos)] += value + "\n"
	}
}
