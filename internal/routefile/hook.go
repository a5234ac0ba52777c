package routefile

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/outgoing"
)

var (
	// timeoutForm is 50 ms to 10 s; the hook of a connection's beginning also keeps to
	// --hook-timeout.
	timeoutForm = regexp.MustCompile(`^([5-9][0-9]|[1-9][0-9]{2,3}|10000)ms$|^([1-9]|10)s$`)
	urlForm     = regexp.MustCompile(`^https?://[^/?#@\s]+(/[^#@\s]*)?$`)
)

// hook reads who decides in addition.
func (r *reader) hook(n *node) *Hook {
	h := &Hook{Timeout: outgoing.DefaultTimeout}
	if !r.mapping(n, "hook", "url", "key-file", "timeout", "on") {
		return h
	}
	url, key, on := n.get("url"), n.get("key-file"), n.get("on")
	if url == nil || key == nil || on == nil {
		r.wrong(n, "hook: url, key-file and on are required")
		return h
	}
	if r.is(url, isText, "hook: url") {
		h.URL = url.text
		if err := outgoing.CheckURL(url.text); err != nil {
			r.wrong(url, "hook: url: %v", err)
		} else if !urlForm.MatchString(url.text) {
			r.wrong(url, "hook: url: must be https://HOST/PATH, without user, spaces and fragment")
		}
	}
	if r.is(key, isText, "hook: key-file") {
		if h.KeyFile = key.text; strings.TrimSpace(key.text) == "" {
			r.wrong(key, "hook: key-file: must name a file")
		}
	}
	if t := n.get("timeout"); t != nil {
		h.Timeout = r.timeout(t)
	}
	for _, o := range r.list(on, "hook: on", 3) {
		known := []string{consumer.HookConnect, consumer.HookReceive, consumer.HookDisconnect}
		switch {
		case o.kind != isText || !slices.Contains(known, o.text):
			r.wrong(o, "hook: on: must be of %s", strings.Join(known, ", "))
		case slices.Contains(h.On, o.text):
			r.wrong(o, "hook: on: lists %q twice", o.text)
		default:
			h.On = append(h.On, o.text)
		}
	}
	if on.kind == isList && len(on.list) == 0 {
		r.wrong(on, "hook: on: must not be empty")
	}
	return h
}

func (r *reader) timeout(n *node) time.Duration {
	d, err := time.ParseDuration(n.text)
	if n.kind != isText || err != nil || !timeoutForm.MatchString(n.text) {
		r.wrong(n, "hook: timeout: must be a duration from 50ms to 10s, such as 500ms or 2s")
	}
	return d
}
