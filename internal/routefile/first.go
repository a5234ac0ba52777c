package routefile

import (
	"strconv"

	"orgcast/internal/consumer"
	"orgcast/internal/yamlfile"
)

func (r *reader) first(n *yamlfile.Node, out *Route) {
	switch {
	case n.Kind == yamlfile.Text && n.Text == "none":
		return
	case n.Kind == yamlfile.Text && n.Text == "last":
		out.First.Newest = 1
		return
	case n.Kind != yamlfile.Mapping:
		r.wrong(n, "first: must be none, last, {history: N} or {fold: TYPE}")
		return
	}
	if h := n.Get("history"); h != nil {
		if r.mapping(n, "first", "history") {
			r.history(h, out)
		}
		return
	}
	if !r.mapping(n, "first", "history", "fold", "empty") {
		return
	}
	fold := n.Get("fold")
	if fold == nil {
		r.wrong(n, "first: must be none, last, {history: N} or {fold: TYPE}")
		return
	}
	if r.is(fold, yamlfile.Text, "first: fold") && r.eventType(fold, fold.Text, "first: fold") {
		out.First.Fold = fold.Text
	}
	if empty := n.Get("empty"); empty != nil && r.is(empty, yamlfile.Mapping, "first: empty") {
		out.First.Empty = r.members(empty, out, "first: empty", false)
	}
}

func (r *reader) presence(n *yamlfile.Node, out *Route) {
	shows, ok := consumer.ParseShowing(n.Text)
	switch {
	case n.Kind != yamlfile.Text || !ok || shows == consumer.ShowNobody:
		r.wrong(n, "presence: must be users or states")
	case len(out.Groups) == 0:
		r.wrong(n, "presence: needs groups; it is about the first one")
	default:
		out.Presence = shows
	}
}

func (r *reader) history(n *yamlfile.Node, out *Route) {
	count, err := strconv.Atoi(string(n.Raw))
	if n.Kind != yamlfile.Scalar || err != nil || count < 1 || count > maxNewest {
		r.wrong(n, "first: history: must be an integer from 1 to %d", maxNewest)
		return
	}
	out.First.Newest = count
}
