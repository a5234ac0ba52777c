package gateway

import (
	"net/http"
	"strings"
	"unicode"
	"unique"
)

// caller is from where a client connected, and with which program. Most programs occur many times,
// so their texts are shared.
type caller struct {
	address string // see [Proxies.Client]
	agent   unique.Handle[string]
}

// maxAgent bounds the text by which a program names itself, in bytes.
const maxAgent = 256

// newCaller returns it for a request. It copies what it keeps.
func newCaller(address string, r *http.Request) *caller {
	agent := r.UserAgent()
	agent = strings.ToValidUTF8(agent[:min(len(agent), maxAgent)], "")
	agent = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return -1
	}, agent)
	return &caller{strings.Clone(address), unique.Make(agent)}
}
