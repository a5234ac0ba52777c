// Package docs holds the documentation, for the demo's workers to search.
package docs

import "embed"

// Files are the documents, without those that are about decisions.
//
//go:embed *.md
var Files embed.FS
