// Package web holds the pages that the binary serves. They are plain files without a build step:
// what stands in the tree is what the browser gets.
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
