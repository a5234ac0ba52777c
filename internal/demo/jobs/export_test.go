package jobs

import "strings"

// ParsePage returns the texts of a page.
func ParsePage(text string) []string {
	p := parsePage(strings.NewReader(text))
	return append(append([]string{p.title, p.description, p.canonical, p.language, p.paragraph}, p.headings...), p.links...)
}

// Resolve makes an address of the site.
var Resolve = resolve
