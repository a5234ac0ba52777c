package testkit

import (
	"net/http"
	"slices"
	"strings"
)

// TokenCookie is the name of a cookie that stands for a token in tests that run over all kinds of sessions. No
// request has it: see [Bearing].
const TokenCookie = "token-of-the-test" //nolint:gosec // a name

// Bearing returns the headers of a request with tokens where clients put them, instead of cookies called
// [TokenCookie]: in the list of subprotocols if page, as for a WebSocket of a page, else in the header Authorization.
func Bearing(header http.Header, page bool) http.Header {
	if !slices.ContainsFunc(header["Cookie"], func(line string) bool { return strings.Contains(line, TokenCookie+"=") }) {
		return header
	}
	header = header.Clone()
	lines := header["Cookie"]
	delete(header, "Cookie")
	for _, line := range lines {
		var rest []string
		for piece := range strings.SplitSeq(line, ";") {
			token, ok := strings.CutPrefix(strings.TrimSpace(piece), TokenCookie+"=")
			switch {
			case !ok:
				rest = append(rest, piece)
			case page:
				header["Sec-Websocket-Protocol"] = append(header["Sec-Websocket-Protocol"], "orgcast.jwt."+token)
			default:
				header["Authorization"] = append(header["Authorization"], "Bearer "+token)
			}
		}
		if len(rest) > 0 {
			header["Cookie"] = append(header["Cookie"], strings.Join(rest, ";"))
		}
	}
	return header
}
