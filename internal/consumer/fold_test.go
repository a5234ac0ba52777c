package consumer_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"orgcast/internal/consumer"
	"orgcast/internal/consumer/consumertest"
	"orgcast/internal/event"
)

// occurrence is an event of a job, as its worker publishes it.
type occurrence struct{ group, fields string }

// TestFirstFramesEqualLiveFrames: whenever a page opens, its first frames and the live frames after
// them give it the same state. If the history has lost its beginning, the first frames contain
// nothing that live frames did not.
func TestFirstFramesEqualLiveFrames(t *testing.T) {
	known := pages()
	for name := range jobConsumers(nil) {
		if name == "connection_test" { // has no group
			continue
		}
		if known[name] == nil {
			t.Errorf("there is no page of %s", name)
			continue
		}
		for _, protocol := range []string{"", consumer.ProtocolV1} {
			t.Run(strings.TrimSpace(name+" "+protocol), func(t *testing.T) {
				rapid.Check(t, func(rt *rapid.T) {
					events := (&teller{rt: rt}).tell(name)
					cut := rapid.IntRange(0, len(events)).Draw(rt, "cut")
					opened := rapid.IntRange(cut, len(events)).Draw(rt, "opened")
					late := visit(t, name, protocol, events[cut:], len(events)-cut)
					early := visit(t, name, protocol, events[cut:], opened-cut)
					if diff := cmp.Diff(early.state(), late.state(), sameIfNull()); diff != "" {
						rt.Errorf("events: %v\na page that opened after %d of them (-), after all (+):\n%s", events[cut:], opened-cut, diff)
					}
					if name == "crew_kanban" && slices.ContainsFunc(events[:cut], endsRun) {
						return // without the end of a run, its later events look like a new run
					}
					whole := visit(t, name, protocol, events, 0)
					if what := untold("", late.state(), whole.state()); what != "" {
						rt.Errorf("events: %v\nafter the loss of %d, first frames tell %s; live ones told\n%v", events, cut, what, whole.state())
					}
				})
			})
		}
	}
}

// visit opens a page after some of the events, and shows it the others live.
func visit(t *testing.T, name, protocol string, events []occurrence, before int) page {
	t.Helper()
	c := consumertest.New(t, "acme", "ada")
	c.Params, c.Request, c.Speaks = map[string]string{"id": "7"}, url.Values{"session": {conversationQuery}}, protocol
	ctx := c.Context(t.Context())
	cons, p := jobConsumers(new(consumertest.Services))[name](), pages()[name]()
	see := func(group string) {
		for _, text := range c.Sent() {
			frame := normal(t, text).(object)
			if e, ok := frame["event"].(object); ok && frame["type"] == nil { // in its envelope, with the subprotocol
				frame = e
			}
			p.see(group, frame)
		}
	}
	for i, o := range events {
		if i == before {
			if err := cons.Connect(ctx, c); err != nil {
				t.Fatal(err)
			}
			see("")
		}
		e := c.Event(t, o.group, placed(o.fields, events), uint64(i+1))
		c.History[o.group] = append(c.History[o.group], e)
		if i >= before {
			c.Deliver(ctx, cons, e)
			see(o.group)
		}
	}
	if before == len(events) {
		if err := cons.Connect(ctx, c); err != nil {
			t.Fatal(err)
		}
		see("")
	}
	return p
}

// endsRun reports whether an event removes a run from a board.
func endsRun(o occurrence) bool {
	return strings.Contains(o.fields, "task_complete") || strings.Contains(o.fields, "COMPLETED") || strings.Contains(o.fields, "FAILED")
}

// placed sets the position of a cut to that of its message, or to one before all others if the
// message is no longer there.
func placed(fields string, events []occurrence) string {
	var cut struct {
		From string `json:"from"`
	}
	if json.Unmarshal([]byte(fields), &cut) != nil || cut.From == "" {
		return fields
	}
	const began, second = 1_700_000_000_000, 1000
	number, _ := strconv.ParseUint(strings.TrimPrefix(cut.From, "m"), 10, 64)
	at := event.NewPosition(began-second+number, 0)
	for i, o := range events {
		if strings.Contains(o.fields, `"user_message","message_id":"`+cut.From+`"`) {
			at = event.NewPosition(began+uint64(i)*second, 0)
		}
	}
	return strings.Replace(fields, `"from":"`+cut.From+`"`, `"from":"`+at.String()+`"`, 1)
}

// sameIfNull treats a null field like a missing one, and an empty list like none.
func sameIfNull() cmp.Option {
	return cmp.Options{
		cmp.FilterPath(func(p cmp.Path) bool {
			at, ok := p.Last().(cmp.MapIndex)
			if !ok {
				return false
			}
			left, right := at.Values()
			empty := func(v any) bool {
				list, isList := v.([]any)
				return v == nil || isList && len(list) == 0
			}
			value := func(valid bool, get func() any) any {
				if !valid {
					return nil
				}
				return get()
			}
			return empty(value(left.IsValid(), left.Interface)) && empty(value(right.IsValid(), right.Interface))
		}, cmp.Ignore()),
		cmp.Transformer("list", func(l []any) []any { return slices.Concat([]any{}, l) }),
	}
}

// untold returns something in one state that another state does not have, or "". Default values do
// not count.
func untold(where string, got, told any) string {
	switch got := got.(type) {
	case nil:
		return ""
	case object:
		other, _ := told.(object)
		for name, value := range got {
			if what := untold(where+"."+name, value, other[name]); what != "" {
				return what
			}
		}
		return ""
	case []any:
		others, _ := told.([]any)
		for _, item := range got {
			if !slices.ContainsFunc(others, func(other any) bool { return untold(where, item, other) == "" }) {
				return fmt.Sprintf("%s: %v", where, item)
			}
		}
		return ""
	case string:
		if slices.Contains([]string{"", "pending", "running", "PENDING", "RUNNING", "agent"}, got) {
			return ""
		}
	case json.Number:
		if got == "0" || strings.HasSuffix(where, ".optimization_id") {
			return ""
		}
	}
	if got != told {
		return fmt.Sprintf("%s: %v", where, got)
	}
	return ""
}

// teller makes up events of workers.
type teller struct{ rt *rapid.T }

func (w *teller) one(of ...string) string { return rapid.SampledFrom(of).Draw(w.rt, "one") }

// value returns any JSON value.
func (w *teller) value() string {
	return w.one(`41`, `"41"`, `null`, `"text"`, `{"id":41,"name":null}`, `[1,"1",{}]`, `true`, `12345678901234567890`, `1.50`, `"<b>"`, `[]`)
}

// some returns some of the possible fields, with values.
func (w *teller) some(may ...string) string {
	var b strings.Builder
	for _, field := range may {
		if name, value, _ := strings.Cut(field, "="); rapid.Bool().Draw(w.rt, name) {
			if value == "" {
				value = w.value()
			}
			b.WriteString(`,"` + name + `":` + value)
		}
	}
	return b.String()
}

func (w *teller) status() string {
	return w.one(``, ``, `,"status":null`, `,"status":"running"`, `,"status":"WAITING"`, `,"status":"completed"`, `,"status":"failed"`, `,"status":7`)
}

func (w *teller) tell(name string) []occurrence {
	events := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) occurrence {
		inner := &teller{rt: rt}
		return inner.occurrence(name)
	}), 0, 8).Draw(w.rt, "events")
	if name == "chat" {
		w.converse(events)
	}
	return events
}

// converse gives messages their ids, and cuts refer to earlier messages that are still there.
func (w *teller) converse(events []occurrence) {
	var said []string
	for i, o := range events {
		switch {
		case strings.HasPrefix(o.fields, `{"type":"user_message"`):
			id := "m" + strconv.Itoa(i)
			events[i].fields = strings.Replace(o.fields, `"user_message"`, `"user_message","message_id":"`+id+`"`, 1)
			said = append(said, id)
		case strings.HasPrefix(o.fields, `{"type":"conversation_cut"`) && len(said) > 0:
			at := rapid.IntRange(0, len(said)-1).Draw(w.rt, "message")
			id := said[at]
			said = said[:at]
			events[i].fields = `{"type":"conversation_cut","message_id":"` + id + `","from":"` + id + `"}`
		}
	}
}

func (w *teller) occurrence(name string) occurrence {
	const given = `{"type":"task_failed","task_id":"7","code":"crashed"}`
	number := func() string { return `=` + strconv.Itoa(rapid.IntRange(0, 3).Draw(w.rt, "number")) }
	text := `=` + w.one(`"a"`, `"b"`, `null`)
	event := func(group, typ string, fields ...string) occurrence {
		return occurrence{group, `{"type":"` + typ + `"` + strings.Join(fields, "") + `}`}
	}
	switch name {
	case "chat":
		return w.oneOf(event("chat_"+conversationQuery, "conversation_cut"),
			event("chat_"+conversationQuery, "system_message", `,"participant_type":"crew"`),
			event("chat_"+conversationQuery, w.one("user_message", "agent_message", "crew_message", "agent_finish", "tool_start", "tool_result", "execution_update", "error"),
				w.some("message", "content", "status", "task_index", "code")))
	case "research":
		return w.oneOf(occurrence{"research_7", given},
			event("research_7", "status_update", w.status(), w.some("message"+text, "progress"+number(), "query"+text, "error", "project_id")),
			event("research_7", "step_update", w.some("step", "title", "step_number"+number())),
			event("research_7", "report_update", w.some("report", "report_id", "title")),
			event("research_7", "cancel_response", w.some("success", "message")))
	case "meta_tags":
		return w.oneOf(occurrence{"metatags_task_7", given},
			event("metatags_task_7", "progress_update", w.some("progress", "task_id")),
			event("metatags_task_7", "status_update", w.status(), w.some("message"+text, "result", "error", "task_id")))
	case "crew_execution":
		messages := `=[` + w.one(``, `{"id":41}`, `{"id":"41","text":"b"}`, `{"id":"m/1"},"plain"`, `{"id":41,"text":1},{"id":42}`) + `]`
		return w.oneOf(occurrence{"crew_execution_7", given},
			event("crew_execution_7", "crew_execution_update", w.status(), w.some("messages"+messages, "human_input_request", "message", "crew_task_id", "execution_id", "error", "code")))
	case "seo_audit":
		data := `,"data":` + w.one(`null`, strings.Replace(`{`+strings.TrimPrefix(w.status()+w.some("percent_complete"+number(), "pages_analyzed"+number(), "issues_found"+number(),
			"recent_issues", "results", "error", "message"+text, "site_id"), ",")+`}`, "{,", "{", 1))
		return w.oneOf(occurrence{"audit_7", given},
			event("audit_7", w.one("audit.update", "audit.update", "audit.complete", "audit.error"), data, w.some("error", "message"+text, "code", "audit_id")))
	case "crew_kanban":
		return w.board()
	case "optimization":
		job := w.one(`"j1"`, `41`)
		fields := w.status() + w.some("optimization_id=7", "percent", "error", "download_url")
		if w.one("flat", "data") == "data" {
			fields = `,"data":{"job_id":` + job + fields + `}` + w.some("percent", "organization_name")
		} else {
			fields = `,"job_id":` + job + fields
		}
		group := "optimization_job_" + strings.Trim(job, `"`)
		return w.oneOf(event("optimization_7", "optimization_update", fields), event(group, "job_update", fields),
			occurrence{"optimization_7", given}, occurrence{group, given})
	case "crawl":
		return w.oneOf(occurrence{"crawl_7", given}, event("crawl_7", "heartbeat", `,"count":7`),
			event("crawl_7", "crawl_update", w.some("data", `data={"update_type":"page","pages":[1]}`, "task_id")), event("crawl_7", "event", `,"event_name":"x"`))
	}
	panic("nobody tells of " + name)
}

func (w *teller) oneOf(of ...occurrence) occurrence { return rapid.SampledFrom(of).Draw(w.rt, "event") }

// board makes up an event of a board.
func (w *teller) board() occurrence {
	id := w.one(`"e1"`, `41`, `"41"`)
	typ := w.one("execution_update", "execution_update", "agent_step", "human_input_request", "task_complete")
	status := w.one(``, `,"status":null`, `,"status":"RUNNING"`, `,"status":"WAITING"`, `,"status":"COMPLETED"`, `,"status":"FAILED"`, `,"status":7`)
	if typ == "task_complete" || typ == "human_input_request" {
		status = ""
	}
	return occurrence{"crew_7_kanban", `{"type":"` + typ + `","execution_id":` + id + status +
		w.some("task_index=3", "stage", "message", "crew_task_id", "human_input_request", "prompt", "results", "step") + `}`}
}
