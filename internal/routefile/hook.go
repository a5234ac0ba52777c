package routefile

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/outgoing"
	"orgcast/internal/yamlfile"
)

var (
	// timeoutForm is 50 ms to 10 s; the hook of a connection's beginning also keeps to
	// --hook-timeout.
	timeoutForm = regexp.MustCompile(`^([5-9][0-9]|[1-9][0-9]{2,3}|10000)ms$|^([1-9]|10)s$`)
	urlForm     = regexp.MustCompile(`^https?://[^/?#@\s]+(/[^#@\s]*)?$`)
)

// hook reads who decides in addition.
func (r *reader) hook(n *yamlfile.Node) *Hook {
	h := &Hook{Timeout: outgoing.DefaultTimeout}
	if !r.mapping(n, "hook", "url", "key-file", "timeout", "on") {
		return h
	}
	url, key, on := n.Get("url"), n.Get("key-file"), n.Get("on")
	if url == nil || key == nil || on == nil {
		r.wrong(n, "hook: url, key-file and on are required")
		return h
	}
	if r.is(url, yamlfile.Text, "hook: url") {
		h.URL = url.Text
		if err := outgoing.CheckURL(url.Text); err != nil {
			r.wrong(url, "hook: url: %v", err)
		} else if !urlForm.MatchString(url.Text) {
			r.wrong(url, "hook: url: must be https://HOST/PATH, without user, spaces and fragment")
		}
	}
	if r.is(key, yamlfile.Text, "hook: key-file") {
		if h.KeyFile = key.Text; strings.TrimSpace(key.Text) == "" {
			r.wrong(key, "hook: key-file: must name a file")
		}
	}
	if t := n.Get("timeout"); t != nil {
		h.Timeout = r.timeout(t)
	}
	for _, o := range r.list(on, "hook: on", 3) {
		known := []string{consumer.HookConnect, consumer.HookReceive, consumer.HookDisconnect}
		switch {
		case o.Kind != yamlfile.Text || !slices.Contains(known, o.Text):
			r.wrong(o, "hook: on: must be of %s", strings.Join(known, ", "))
		case slices.Contains(h.On, o.Text):
			r.wrong(o, "hook: on: lists %q twice", o.Text)
		default:
			h.On = append(h.On, o.Text)
		}
	}
	if on.Kind == yamlfile.List && len(on.List) == 0 {
		r.wrong(on, "hook: on: must not be empty")
	}
	return h
}

func (r *reader) timeout(n *yamlfile.Node) time.Duration {
	d, err := time.ParseDuration(n.Text)
	if n.Kind != yamlfile.Text || err != nil || !timeoutForm.MatchString(n.Text) {
		r.wrong(n, "hook: timeout: must be a duration from 50ms to 10s, such as 500ms or 2s")
	}
	return d
}
