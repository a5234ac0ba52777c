package app

import (
	"errors"
	"io"
	"net/http"
	"strings"
)

// public returns the handler of the public listener: sockets, the handlers of an extension, the health
// path and the console of organizations if there are any.
func (n *Node) public() (http.Handler, error) {
	next, err := n.handlers(n.Gateway)
	if err != nil {
		return nil, err
	}
	organizations := n.organizationConsole()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := n.options()
		if below, ok := strings.CutPrefix(r.URL.Path, o.ConsolePath); ok && o.ConsolePath != "" && (below == "" || below[0] == '/') {
			serveBelow(w, r, organizations, o.ConsolePath, below)
			return
		}
		path := o.PublicHealth
		if path == "" || r.URL.Path != path || r.Method != http.MethodGet && r.Method != http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		n.answerHealth(w)
	}), nil
}

// answerHealth tells a load balancer whether to send new connections here. Anyone may ask, so the
// answer is cheap and gives no reason. The private listener reports what is wrong.
func (n *Node) answerHealth(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	text := "ok\n"
	if n.stopping.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		text = "draining\n"
	}
	_, _ = io.WriteString(w, text) // the load balancer may have disconnected
}

// CheckPublicHealth checks that a setting is a path of the public listener, or empty.
func CheckPublicHealth(path string) error {
	switch {
	case path == "":
		return nil
	case !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#% "):
		return errors.New("must be a path, such as /healthz")
	case path == "/ws" || strings.HasPrefix(path, "/ws/"):
		return errors.New("must not be below /ws/, which is for WebSockets")
	case path == "/sse" || strings.HasPrefix(path, "/sse/"):
		return errors.New("must not be below /sse/, which is for server-sent events")
	}
	return nil
}
