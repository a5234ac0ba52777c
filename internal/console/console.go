// Package console serves the page on which people look after a gateway. It has two scopes.
//
// Operators open it on the private listener. The page is a client of the HTTP API there (package
// api), with the admin key, and nothing else.
//
// Administrators of one organization open it on the public listener, with a token of the web
// application ([Token]). The paths that answer it are in this package ([New]). The organization comes
// from the verified token alone, through the context (package orgctx), and every row of an answer is
// compared with it once more before it leaves.
package console

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"

	"orgcast/web"
)

// Scope says whom the page serves.
type Scope string

// The scopes.
const (
	Operators    Scope = "operators"
	Organization Scope = "organization"
)

// contentSecurityPolicy lets the page load its own files and talk to its own origin, and nothing else.
// Nothing on it can become markup or a script.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// secure sets the headers of every answer of the console.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// scopeMark is where index.html says whom it serves.
const scopeMark = `data-scope=""`

// file is a file of the page.
type file struct {
	kind string
	body []byte
}

// kinds returns the types of files by their endings. Those of package mime depend on the machine.
func kinds() map[string]string {
	return map[string]string{
		".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	}
}

// page serves the files of the page, by their names.
type page map[string]file

// Page returns the handler of the page's files. They hold no data and are the same for everyone. The
// path of a request is the name of a file, or empty.
func Page(s Scope) http.Handler {
	p := make(page)
	files := web.Console()
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		kind := kinds()[path.Ext(name)]
		if name == "index.html" {
			body = bytes.Replace(body, []byte(scopeMark), fmt.Appendf(nil, "data-scope=%q", s), 1)
			name = ""
		}
		p[name] = file{kind, body}
		return err
	})
	if err != nil {
		panic("console: " + err.Error()) // the files are in the program, so this cannot happen
	}
	return p
}

// ServeHTTP implements http.Handler.
func (p page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	f, known := p[r.URL.Path]
	switch {
	case !known:
		http.Error(w, "no such page", http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	default:
		w.Header().Set("Content-Type", f.kind)
		w.Header().Set("Content-Length", strconv.Itoa(len(f.body)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(f.body) // the browser may be gone
		}
	}
}
