// Package web holds the pages that the binary serves. They are plain files without a build step:
// what stands in the tree is what the browser gets. That holds for orgcast.js too, which is built
// from client/ and kept in the tree, so that the Go build needs no Node.js; a test keeps it current.
package web

import (
	"embed"
	"io/fs"
)

//go:embed demo
var files embed.FS

// Demo returns the files of the demo page: index.html and what it loads.
func Demo() fs.FS {
	sub, err := fs.Sub(files, "demo")
	if err != nil {
		panic("web: " + err.Error()) // the name is a constant, so this cannot happen
	}
	return sub
}
