package gateway

import (
	"net/http"
	"strings"
	"unicode"
	"unique"
)

// whence is from where a client connected, and with which program. Most programs occur many times,
// so their texts are shared.
type whence struct {
	address string // see [Proxies.Client]
	agent   unique.Handle[string]
}

// maxAgent bounds the text by which a program names itself, in bytes.
const maxAgent = 256

// newWhence returns it for a request. It copies what it keeps.
func newWhence(address string, r *http.Request) *whence {
	agent := r.UserAgent()
	agent = strings.ToValidUTF8(agent[:min(len(agent), maxAgent)], "")
	agent = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return -1
	}, agent)
	return &whence{strings.Clone(address), unique.Make(agent)}
}
