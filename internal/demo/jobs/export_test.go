package jobs

import "strings"

// ParsePage returns the texts of a page.
func ParsePage(text string) []string {
	p := parsePage(strings.NewReader(text))
	return append(append([]string{p.title, p.description, p.canonical, p.language, p.paragraph}, p.headings...), p.links...)
}

// Resolve makes an address of the site.
var Resolve = resolve

// BestPassage returns where the documents say most about a question.
func BestPassage(question string) (document, section string) {
	hits := newLibrary().find(wordsOf(question), "")
	if len(hits) == 0 {
		return "", ""
	}
	return hits[0].Document, hits[0].Section
}

// Decide sets the outcome of a research's run.
var Decide = decide
