// Package web holds the pages that the binary serves. They are plain files without a build step:
// what stands in the tree is what the browser gets. That holds for orgcast.js too, which is built
// from client/ and kept in the tree, so that the Go build needs no Node.js; a test keeps it current.
package web

import (
	"embed"
	"io/fs"
)

// Each is embedded by itself, so that a program without the demo does not contain its pages.
var (
	//go:embed demo
	demo embed.FS
	//go:embed console
	console embed.FS
)

// Demo returns the files of the demo page: index.html and what it loads.
func Demo() fs.FS { return folder(demo, "demo") }

// Console returns the files of the console: index.html and what it loads.
func Console() fs.FS { return folder(console, "console") }

func folder(files embed.FS, name string) fs.FS {
	sub, err := fs.Sub(files, name)
	if err != nil {
		panic("web: " + err.Error()) // the names are constants, so this cannot happen
	}
	return sub
}
