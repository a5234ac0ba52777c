package routefile

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Bounds of a file, so that a mistake in a program that writes it does not become one of the
// gateway.
const (
	maxRoutes  = 1000
	maxGroups  = 16
	maxTypes   = 100
	maxNewest  = 1000
	maxPathLen = 200
)

// The forms of a path and a group. In a path a segment begins with none of the dots that proxies
// take for something else; in a group a name stands behind text, so that no value of it opens the
// groups of others.
var (
	pathForm  = regexp.MustCompile(`^(/([A-Za-z0-9_~-][A-Za-z0-9._~-]*|\{[a-z][a-z0-9_]{0,63}(:(int|id))?\}))+/?$`)
	groupForm = regexp.MustCompile(`^([A-Za-z0-9_.-]|\{user_group\}(\.|$))([A-Za-z0-9_.-]|\{[a-z][a-z0-9_]{0,63}\})*$`)
	whoForm   = regexp.MustCompile(`^(member|role:[A-Za-z0-9_.:-]{1,64}|(self|owner):\{[a-z][a-z0-9_]{0,63}\})$`)
)

// userGroup is the variable that has the name of the user's own group.
const userGroup = "user_group"

// file reads the root.
func (r *reader) file(n *node) []Route {
	if !r.mapping(n, "file", "version", "routes") {
		return nil
	}
	if v := n.get("version"); v == nil || string(v.raw) != "1" {
		r.wrong(n, "version: must be 1")
	}
	list := n.get("routes")
	if list == nil {
		r.wrong(n, "routes: is missing")
		return nil
	}
	var routes []Route
	for _, value := range r.list(list, "routes", maxRoutes) {
		routes = append(routes, r.route(value))
	}
	return routes
}

// route reads one route.
func (r *reader) route(n *node) Route {
	out := Route{Line: n.line}
	if !r.mapping(n, "route", "path", "who", "groups", "first", "events", "receive", "hook") {
		return out
	}
	path, who := n.get("path"), n.get("who")
	if path == nil || who == nil {
		r.wrong(n, "route: path and who are required")
		return out
	}
	r.path(path, &out)
	for _, g := range r.list(n.get("groups"), "groups", maxGroups) {
		r.group(g, &out)
	}
	r.who(who, &out)
	if h := n.get("hook"); h != nil {
		out.Hook = r.hook(h)
	}
	if e := n.get("events"); e != nil {
		r.events(e, &out)
	}
	grouped := len(out.Groups) > 0 || out.Hook != nil && slices.Contains(out.Hook.On, consumer.HookConnect)
	if !grouped && (out.Hook == nil || n.get("first") != nil) {
		r.wrong(n, "route: needs groups, or a hook that names some on connect")
	}
	if f := n.get("first"); f != nil {
		r.first(f, &out)
	}
	if f := n.get("receive"); f != nil {
		r.receive(f, &out)
	}
	return out
}

func (r *reader) path(n *node, out *Route) {
	if !r.is(n, isText, "path") {
		return
	}
	if len(n.text) > maxPathLen || !pathForm.MatchString(n.text) {
		r.wrong(n, "path: must be segments such as /ws/report/{id:int}/, of letters, digits and . _ ~ -, or of one parameter {name}, {name:int} or {name:id}")
		return
	}
	params, err := consumer.ParsePattern(n.text)
	if err != nil {
		r.wrong(n, "path: is not a pattern")
		return
	}
	for i, p := range params {
		if slices.ContainsFunc(params[:i], func(q consumer.Param) bool { return p.Name == q.Name }) {
			r.wrong(n, "path: two parameters are called %q", p.Name)
		}
		if reserved(p.Name) {
			r.wrong(n, "path: no parameter may be called %q", p.Name)
		}
	}
	out.Pattern, out.Params = n.text, params
}

// reserved reports whether the file may not use a name: the gateway alone says who is connected.
func reserved(name string) bool {
	return name == userGroup || slices.Contains(consumer.ReservedNames(), name)
}

func (r *Route) param(name string) (p consumer.Param, ok bool) {
	i := slices.IndexFunc(r.Params, func(p consumer.Param) bool { return p.Name == name })
	if i < 0 {
		return p, false
	}
	return r.Params[i], true
}

func (r *reader) group(n *node, out *Route) {
	if !r.is(n, isText, "groups") {
		return
	}
	if len(n.text) > maxPathLen || !groupForm.MatchString(n.text) {
		r.wrong(n, "groups: must begin with letters, digits or . _ -, or with {user_group} and a dot, and may go on with parameters, as in report_{id}")
		return
	}
	if strings.HasPrefix(n.text, "reply_") || strings.HasPrefix(n.text, "user.") {
		r.wrong(n, "groups: names that begin with reply_ belong to the gateway, those that begin with user. to a user: write {user_group}")
		return
	}
	t, err := consumer.ParseTemplate(n.text)
	if err != nil {
		r.wrong(n, "groups: %v", err)
		return
	}
	for i, name := range t.Variables() {
		p, ok := out.param(name)
		switch {
		case name == userGroup && i == 0 && strings.HasPrefix(n.text, "{"):
		case !ok:
			r.wrong(n, "groups: the path has no parameter %q", name)
			return
		case p.Form == "":
			r.wrong(n, "groups: the parameter {%s} may hold any text; make it {%s:id} or {%s:int} in the path", name, name, name)
			return
		}
	}
	form := func(name string) string { p, _ := out.param(name); return p.Form }
	if t.Ambiguous(form) {
		r.wrong(n, "groups: two paths could name one group; put a dot between the parameters")
		return
	}
	out.Groups = append(out.Groups, t)
}

func (r *reader) who(n *node, out *Route) {
	if n.kind != isText || !whoForm.MatchString(n.text) {
		r.wrong(n, "who: must be member, role:NAME, self:{param} or owner:{param}")
		return
	}
	word, rest, _ := strings.Cut(n.text, ":")
	name := strings.Trim(rest, "{}")
	switch word {
	case "role":
		out.Who.Role = rest
		return
	case "self":
		out.Who.Self = name
	case "owner":
		out.Who.Owner = name
	default:
		return
	}
	if _, ok := out.param(name); !ok {
		r.wrong(n, "who: the path has no parameter %q", name)
		return
	}
	if word == "owner" && (len(out.Groups) == 0 || !slices.Contains(out.Groups[0].Variables(), name)) {
		r.wrong(n, "who: the first group must have {%s} in its name, because the group is what has an owner", name)
	}
}

// eventType reads the type of events or frames that the gateway itself does not send.
func (r *reader) eventType(n *node, text, what string) bool {
	switch {
	case !event.ValidType(text):
		r.wrong(n, "%s: a type has 1 to %d letters, digits and . _ : -", what, event.MaxTypeLength)
	case consumer.IsControlType(text):
		r.wrong(n, "%s: %q is a type of the gateway's own frames", what, text)
	default:
		return true
	}
	return false
}

func (r *reader) events(n *node, out *Route) {
	if !r.is(n, isMapping, "events") {
		return
	}
	if len(n.object) == 0 || len(n.object) > maxTypes {
		r.wrong(n, "events: must have 1 to %d types", maxTypes)
		return
	}
	out.Events = make(map[string][]string)
	for _, m := range n.object {
		at := &node{line: m.line}
		if !r.eventType(at, m.name, "events") {
			continue
		}
		names := []string{}
		for _, f := range r.list(m.value, "events: "+m.name, maxTypes) {
			switch {
			case !r.is(f, isText, "events: "+m.name):
			case f.text == "" || f.text == "type":
				r.wrong(f, "events: %s: must list fields other than type, which is always there", m.name)
			case slices.Contains(names, f.text):
				r.wrong(f, "events: %s: lists %q twice", m.name, f.text)
			default:
				names = append(names, f.text)
			}
		}
		out.Events[m.name] = names
	}
}

func (r *reader) first(n *node, out *Route) {
	switch {
	case n.kind == isText && n.text == "none":
		return
	case n.kind == isText && n.text == "last":
		out.First.Newest = 1
		return
	case n.kind != isMapping:
		r.wrong(n, "first: must be none, last, {history: N} or {fold: TYPE}")
		return
	}
	if h := n.get("history"); h != nil {
		if r.mapping(n, "first", "history") {
			r.history(h, out)
		}
		return
	}
	if !r.mapping(n, "first", "history", "fold", "empty") {
		return
	}
	fold := n.get("fold")
	if fold == nil {
		r.wrong(n, "first: must be none, last, {history: N} or {fold: TYPE}")
		return
	}
	if r.is(fold, isText, "first: fold") && r.eventType(fold, fold.text, "first: fold") {
		out.First.Fold = fold.text
	}
	if empty := n.get("empty"); empty != nil && r.is(empty, isMapping, "first: empty") {
		out.First.Empty = r.members(empty, out, "first: empty", false)
	}
}

func (r *reader) history(n *node, out *Route) {
	count, err := strconv.Atoi(string(n.raw))
	if n.kind != isScalar || err != nil || count < 1 || count > maxNewest {
		r.wrong(n, "first: history: must be an integer from 1 to %d", maxNewest)
		return
	}
	out.First.Newest = count
}

func (r *reader) receive(n *node, out *Route) {
	if !r.is(n, isMapping, "receive") {
		return
	}
	if len(n.object) == 0 || len(n.object) > maxTypes {
		r.wrong(n, "receive: must have 1 to %d types", maxTypes)
		return
	}
	out.Receive = make(map[string]consumer.Reaction)
	for _, m := range n.object {
		what := "receive: " + m.name
		if !event.ValidType(m.name) || m.name == "ping" || m.name == "keep_alive" {
			r.wrong(&node{line: m.line}, "receive: a type has 1 to %d letters, digits and . _ : -, and is not ping or keep_alive, which every route answers", event.MaxTypeLength)
			continue
		}
		out.Receive[m.name] = r.reaction(m.value, out, what)
	}
}

func (r *reader) reaction(n *node, out *Route, what string) (re consumer.Reaction) {
	switch {
	case n.kind == isText && n.text == "first":
		if out.First.Newest == 0 && out.First.Fold == "" {
			r.wrong(n, "%s: the route has no first state", what)
		}
		re.First = true
	case n.kind == isMapping && n.get("answer") != nil:
		if r.mapping(n, what, "answer") {
			re.Answer = r.template(n.get("answer"), out, what+": answer")
		}
	case n.kind == isMapping && n.get("task") != nil:
		if r.mapping(n, what, "task", "payload", "key", "reply") {
			re.Task = r.task(n, out, what)
		}
	default:
		r.wrong(n, "%s: must be first, {task: KIND} or {answer: \"{field}\"}", what)
	}
	return re
}

func (r *reader) task(n *node, out *Route, what string) *consumer.TaskReaction {
	t, task := new(consumer.TaskReaction), n.get("task")
	if task.kind != isText || !orgctx.ValidID(task.text) || strings.HasPrefix(task.text, "orgcast_") {
		r.wrong(task, "%s: task: must be a kind of 1 to 64 letters, digits, _ and -, which does not begin with orgcast_", what)
		return t
	}
	t.Kind = task.text
	if p := n.get("payload"); p != nil && r.is(p, isMapping, what+": payload") {
		t.Payload = r.members(p, out, what+": payload", true)
	}
	if k := n.get("key"); k != nil {
		t.Key = r.template(k, out, what+": key")
	}
	if reply := n.get("reply"); reply != nil && r.is(reply, isText, what+": reply") && r.eventType(reply, reply.text, what+": reply") {
		t.Reply = reply.text
	}
	if t.Reply == "" && len(out.Groups) == 0 {
		r.wrong(n, "%s: the events of the task have no group to go to; the route needs groups, or the task a reply", what)
	}
	return t
}

// members reads the members of a mapping as JSON with templates.
func (r *reader) members(n *node, out *Route, what string, message bool) []consumer.Member {
	members := []consumer.Member{}
	for _, m := range n.object {
		if slices.Contains(consumer.ReservedNames(), m.name) || !message && m.name == "type" {
			r.wrong(&node{line: m.line}, "%s: %q is set by the gateway", what, m.name)
			continue
		}
		members = append(members, consumer.Member{Name: m.name, Value: r.value(m.value, out, what, message)})
	}
	return members
}

// value reads JSON with templates. With message, these may name fields of a message.
func (r *reader) value(n *node, out *Route, what string, message bool) consumer.Value {
	switch n.kind {
	case isText:
		t := r.template(n, out, what)
		if i := slices.IndexFunc(t.Variables(), func(name string) bool { _, ok := out.param(name); return !ok && name != userGroup }); i >= 0 && !message {
			r.wrong(n, "%s: the path has no parameter %q", what, t.Variables()[i])
		}
		return consumer.TextValue(t)
	case isList:
		var list []consumer.Value
		for _, inner := range n.list {
			list = append(list, r.value(inner, out, what, message))
		}
		return consumer.ListValue(list)
	case isMapping:
		var object []consumer.Member
		for _, m := range n.object {
			object = append(object, consumer.Member{Name: m.name, Value: r.value(m.value, out, what, message)})
		}
		return consumer.ObjectValue(object)
	default:
		return consumer.RawValue(n.raw)
	}
}

// template reads text with names of parameters and of fields of a message.
func (r *reader) template(n *node, _ *Route, what string) consumer.Template {
	if !r.is(n, isText, what) {
		return consumer.Template{}
	}
	t, err := consumer.ParseTemplate(n.text)
	if err != nil {
		r.wrong(n, "%s: a brace stands only around a name, as in {id}", what)
		return t
	}
	for _, name := range t.Variables() {
		if slices.Contains(consumer.ReservedNames(), name) {
			r.wrong(n, "%s: {%s} is not a value of the file or of a message: the gateway sets it on every task", what, name)
		}
	}
	return t
}
