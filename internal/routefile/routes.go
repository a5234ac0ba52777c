package routefile

import (
	"regexp"
	"slices"
	"strings"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/yamlfile"
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
func (r *reader) file(n *yamlfile.Node) []Route {
	if !r.mapping(n, "file", "version", "routes") {
		return nil
	}
	if v := n.Get("version"); v == nil || string(v.Raw) != "1" {
		r.wrong(n, "version: must be 1")
	}
	list := n.Get("routes")
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
func (r *reader) route(n *yamlfile.Node) Route {
	out := Route{Line: n.Line}
	if !r.mapping(n, "route", "path", "who", "groups", "first", "events", "presence", "receive", "hook") {
		return out
	}
	path, who := n.Get("path"), n.Get("who")
	if path == nil || who == nil {
		r.wrong(n, "route: path and who are required")
		return out
	}
	r.path(path, &out)
	for _, g := range r.list(n.Get("groups"), "groups", maxGroups) {
		r.group(g, &out)
	}
	r.who(who, &out)
	if h := n.Get("hook"); h != nil {
		out.Hook = r.hook(h)
	}
	if e := n.Get("events"); e != nil {
		r.events(e, &out)
	}
	grouped := len(out.Groups) > 0 || out.Hook != nil && slices.Contains(out.Hook.On, consumer.HookConnect)
	if !grouped && (out.Hook == nil || n.Get("first") != nil) {
		r.wrong(n, "route: needs groups, or a hook that names some on connect")
	}
	if f := n.Get("first"); f != nil {
		r.first(f, &out)
	}
	if p := n.Get("presence"); p != nil {
		r.presence(p, &out)
	}
	if f := n.Get("receive"); f != nil {
		r.receive(f, &out)
	}
	return out
}

func (r *reader) path(n *yamlfile.Node, out *Route) {
	if !r.is(n, yamlfile.Text, "path") {
		return
	}
	if len(n.Text) > maxPathLen || !pathForm.MatchString(n.Text) {
		r.wrong(n, "path: must be segments such as /ws/report/{id:int}/, of letters, digits and . _ ~ -, or of one parameter {name}, {name:int} or {name:id}")
		return
	}
	params, err := consumer.ParsePattern(n.Text)
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
	out.Pattern, out.Params = n.Text, params
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

func (r *reader) group(n *yamlfile.Node, out *Route) {
	if !r.is(n, yamlfile.Text, "groups") {
		return
	}
	if len(n.Text) > maxPathLen || !groupForm.MatchString(n.Text) {
		r.wrong(n, "groups: must begin with letters, digits or . _ -, or with {user_group} and a dot, and may go on with parameters, as in report_{id}")
		return
	}
	if strings.HasPrefix(n.Text, "reply_") || strings.HasPrefix(n.Text, "user.") {
		r.wrong(n, "groups: names that begin with reply_ belong to the gateway, those that begin with user. to a user: write {user_group}")
		return
	}
	t, err := consumer.ParseTemplate(n.Text)
	if err != nil {
		r.wrong(n, "groups: %v", err)
		return
	}
	for i, name := range t.Variables() {
		p, ok := out.param(name)
		switch {
		case name == userGroup && i == 0 && strings.HasPrefix(n.Text, "{"):
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

func (r *reader) who(n *yamlfile.Node, out *Route) {
	if n.Kind != yamlfile.Text || !whoForm.MatchString(n.Text) {
		r.wrong(n, "who: must be member, role:NAME, self:{param} or owner:{param}")
		return
	}
	word, rest, _ := strings.Cut(n.Text, ":")
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
func (r *reader) eventType(n *yamlfile.Node, text, what string) bool {
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

func (r *reader) events(n *yamlfile.Node, out *Route) {
	if !r.is(n, yamlfile.Mapping, "events") {
		return
	}
	if len(n.Object) == 0 || len(n.Object) > maxTypes {
		r.wrong(n, "events: must have 1 to %d types", maxTypes)
		return
	}
	out.Events = make(map[string][]string)
	for _, m := range n.Object {
		at := &yamlfile.Node{Line: m.Line}
		if !r.eventType(at, m.Name, "events") {
			continue
		}
		names := []string{}
		for _, f := range r.list(m.Value, "events: "+m.Name, maxTypes) {
			switch {
			case !r.is(f, yamlfile.Text, "events: "+m.Name):
			case f.Text == "" || f.Text == "type":
				r.wrong(f, "events: %s: must list fields other than type, which is always there", m.Name)
			case slices.Contains(names, f.Text):
				r.wrong(f, "events: %s: lists %q twice", m.Name, f.Text)
			default:
				names = append(names, f.Text)
			}
		}
		out.Events[m.Name] = names
	}
}

func (r *reader) receive(n *yamlfile.Node, out *Route) {
	if !r.is(n, yamlfile.Mapping, "receive") {
		return
	}
	if len(n.Object) == 0 || len(n.Object) > maxTypes {
		r.wrong(n, "receive: must have 1 to %d types", maxTypes)
		return
	}
	out.Receive = make(map[string]consumer.Reaction)
	for _, m := range n.Object {
		what := "receive: " + m.Name
		if !event.ValidType(m.Name) || m.Name == "ping" || m.Name == "keep_alive" {
			r.wrong(&yamlfile.Node{Line: m.Line}, "receive: a type has 1 to %d letters, digits and . _ : -, and is not ping or keep_alive, which every route answers", event.MaxTypeLength)
			continue
		}
		if m.Name == "presence_set" && out.Presence != consumer.ShowNobody {
			r.wrong(&yamlfile.Node{Line: m.Line}, "receive: presence_set is answered by every route with presence")
			continue
		}
		out.Receive[m.Name] = r.reaction(m.Value, out, what)
	}
}

func (r *reader) reaction(n *yamlfile.Node, out *Route, what string) (re consumer.Reaction) {
	switch {
	case n.Kind == yamlfile.Text && n.Text == "first":
		if out.First.Newest == 0 && out.First.Fold == "" {
			r.wrong(n, "%s: the route has no first state", what)
		}
		re.First = true
	case n.Kind == yamlfile.Mapping && n.Get("answer") != nil:
		if r.mapping(n, what, "answer") {
			re.Answer = r.template(n.Get("answer"), out, what+": answer")
		}
	case n.Kind == yamlfile.Mapping && n.Get("task") != nil:
		if r.mapping(n, what, "task", "payload", "key", "reply") {
			re.Task = r.task(n, out, what)
		}
	default:
		r.wrong(n, "%s: must be first, {task: KIND} or {answer: \"{field}\"}", what)
	}
	return re
}

func (r *reader) task(n *yamlfile.Node, out *Route, what string) *consumer.TaskReaction {
	t, task := new(consumer.TaskReaction), n.Get("task")
	if task.Kind != yamlfile.Text || !orgctx.ValidID(task.Text) || strings.HasPrefix(task.Text, "orgcast_") {
		r.wrong(task, "%s: task: must be a kind of 1 to 64 letters, digits, _ and -, which does not begin with orgcast_", what)
		return t
	}
	t.Kind = task.Text
	if p := n.Get("payload"); p != nil && r.is(p, yamlfile.Mapping, what+": payload") {
		t.Payload = r.members(p, out, what+": payload", true)
	}
	if k := n.Get("key"); k != nil {
		t.Key = r.template(k, out, what+": key")
	}
	if reply := n.Get("reply"); reply != nil && r.is(reply, yamlfile.Text, what+": reply") && r.eventType(reply, reply.Text, what+": reply") {
		t.Reply = reply.Text
	}
	if t.Reply == "" && len(out.Groups) == 0 {
		r.wrong(n, "%s: the events of the task have no group to go to; the route needs groups, or the task a reply", what)
	}
	return t
}

// members reads the members of a mapping as JSON with templates.
func (r *reader) members(n *yamlfile.Node, out *Route, what string, message bool) []consumer.Member {
	members := []consumer.Member{}
	for _, m := range n.Object {
		if slices.Contains(consumer.ReservedNames(), m.Name) || !message && m.Name == "type" {
			r.wrong(&yamlfile.Node{Line: m.Line}, "%s: %q is set by the gateway", what, m.Name)
			continue
		}
		members = append(members, consumer.Member{Name: m.Name, Value: r.value(m.Value, out, what, message)})
	}
	return members
}

// value reads JSON with templates. With message, these may name fields of a message.
func (r *reader) value(n *yamlfile.Node, out *Route, what string, message bool) consumer.Value {
	switch n.Kind {
	case yamlfile.Text:
		t := r.template(n, out, what)
		if i := slices.IndexFunc(t.Variables(), func(name string) bool { _, ok := out.param(name); return !ok && name != userGroup }); i >= 0 && !message {
			r.wrong(n, "%s: the path has no parameter %q", what, t.Variables()[i])
		}
		return consumer.TextValue(t)
	case yamlfile.List:
		var list []consumer.Value
		for _, inner := range n.List {
			list = append(list, r.value(inner, out, what, message))
		}
		return consumer.ListValue(list)
	case yamlfile.Mapping:
		var object []consumer.Member
		for _, m := range n.Object {
			object = append(object, consumer.Member{Name: m.Name, Value: r.value(m.Value, out, what, message)})
		}
		return consumer.ObjectValue(object)
	default:
		return consumer.RawValue(n.Raw)
	}
}

// template reads text with names of parameters and of fields of a message.
func (r *reader) template(n *yamlfile.Node, _ *Route, what string) consumer.Template {
	if !r.is(n, yamlfile.Text, what) {
		return consumer.Template{}
	}
	t, err := consumer.ParseTemplate(n.Text)
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
