// Package api holds the machine-readable descriptions of what the gateway offers: OpenAPI of its two
// listeners, and AsyncAPI of its frames. Tests compare them with the code.
package api

import "embed"

// Files are the descriptions.
//
//go:embed *.yaml
var Files embed.FS
