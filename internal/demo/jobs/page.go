package jobs

import (
	"io"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// page holds the parts of an HTML page that the work needs. All text is plain.
type page struct {
	language, title, description, canonical string
	viewport                                bool
	properties                              map[string]string // og:… and twitter:…
	headings                                []string          // of the first level
	paragraph                               string            // the first one
	links                                   []string          // as written in the page
	images, withoutText                     int
	titles                                  int
}

// maxLinks is how many links of a page are followed.
const maxLinks = 500

// parsePage parses a page. HTML always yields some tree, so there is no error.
func parsePage(r io.Reader) *page {
	p := &page{properties: make(map[string]string)}
	root, err := html.Parse(r)
	if err != nil {
		return p // only reading can fail, and r is in memory
	}
	for node := range root.Descendants() {
		if node.Type == html.ElementNode {
			p.read(node)
		}
	}
	return p
}

// read records the content of an element.
func (p *page) read(node *html.Node) {
	switch node.DataAtom {
	case atom.Html:
		p.language = attribute(node, "lang")
	case atom.Title:
		if within(node, atom.Svg) {
			return
		}
		if p.titles++; p.titles == 1 {
			p.title = text(node)
		}
	case atom.Meta:
		name := strings.ToLower(attribute(node, "name") + attribute(node, "property"))
		content := clip(attribute(node, "content"), 1000)
		switch {
		case name == "description":
			p.description = content
		case name == "viewport":
			p.viewport = true
		case strings.HasPrefix(name, "og:") || strings.HasPrefix(name, "twitter:"):
			if len(p.properties) < 20 {
				p.properties[clip(name, 50)] = clip(content, 300)
			}
		}
	case atom.Link:
		if slices.Contains(strings.Fields(strings.ToLower(attribute(node, "rel"))), "canonical") {
			p.canonical = attribute(node, "href")
		}
	case atom.H1:
		if len(p.headings) < 20 {
			p.headings = append(p.headings, text(node))
		}
	case atom.P:
		if p.paragraph == "" {
			p.paragraph = text(node)
		}
	case atom.A:
		if href := attribute(node, "href"); href != "" && len(p.links) < maxLinks {
			p.links = append(p.links, href)
		}
	case atom.Img:
		p.images++
		if !slices.ContainsFunc(node.Attr, func(a html.Attribute) bool { return a.Key == "alt" }) {
			p.withoutText++
		}
	default: // other elements are not needed
	}
}

// within reports whether an element is inside one of another kind.
func within(node *html.Node, outer atom.Atom) bool {
	for a := range node.Ancestors() {
		if a.DataAtom == outer {
			return true
		}
	}
	return false
}

// attribute returns the value of an attribute, "" if there is none.
func attribute(node *html.Node, key string) string {
	for _, a := range node.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// text returns the text inside an element, shortened.
func text(node *html.Node) string {
	var b strings.Builder
	for inner := range node.Descendants() {
		if inner.Type == html.TextNode && b.Len() < 2000 {
			b.WriteString(inner.Data)
		}
	}
	return clip(b.String(), 1000)
}
