package web_test

import (
	"bytes"
	"io/fs"
	"path"
	"regexp"
	"testing"

	"orgcast/web"
)

// TestMenu: each page has the same menu, and it leads to every page there is.
func TestMenu(t *testing.T) {
	t.Parallel()
	menu, link := regexp.MustCompile(`(?s)<div class="bar">.*?</nav>`), regexp.MustCompile(`<a href="([^"]*)">`)
	var first []byte
	pages := make(map[string]bool)
	err := fs.WalkDir(web.Demo(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".html" {
			return err
		}
		pages[name] = true
		page, err := fs.ReadFile(web.Demo(), name)
		if err != nil {
			return err
		}
		got := menu.Find(page)
		if first == nil {
			first = got
		}
		if got == nil || !bytes.Equal(got, first) {
			t.Errorf("%s: got the menu\n%s\nwant that of the other pages\n%s", name, got, first)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	linked := make(map[string]bool)
	for _, match := range link.FindAllSubmatch(first, -1) {
		name := string(match[1][1:])
		if name == "" {
			name = "index.html"
		}
		linked[name] = true
		if !pages[name] {
			t.Errorf("the menu leads to %q, which is not there", match[1])
		}
	}
	for name := range pages {
		if !linked[name] && name != "404.html" && name != "practice.html" { // shown where they are wanted
			t.Errorf("the menu does not lead to %s", name)
		}
	}
}
