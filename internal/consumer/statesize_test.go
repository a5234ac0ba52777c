package consumer_test

import (
	"net/url"
	"strconv"
	"strings"
	"testing"

	"orgcast/internal/consumer/consumertest"
	"orgcast/internal/event"
)

// TestDeepEventClosesNoPage: an event with the deepest allowed nesting contributes nothing to a
// first frame, which would nest it too deep for JSON, and closes no page.
func TestDeepEventClosesNoPage(t *testing.T) {
	deep := func(enclosed int) string {
		const deepest = 10_000
		return strings.Repeat("[", deepest-enclosed) + strings.Repeat("]", deepest-enclosed)
	}
	for name, test := range map[string]struct{ group, fields string }{
		"crew_kanban":    {"crew_7_kanban", `{"type":"human_input_request","execution_id":"e1","prompt":` + deep(1) + `}`},
		"crew_execution": {"crew_execution_7", `{"type":"crew_execution_update","messages":[{"id":1,"text":` + deep(3) + `}]}`},
		"research":       {"research_7", `{"type":"step_update","step":` + deep(1) + `}`},
		"seo_audit":      {"audit_7", `{"type":"audit.update","audit_id":` + deep(1) + `,"data":{}}`},
		"meta_tags":      {"metatags_task_7", `{"type":"status_update","result":` + deep(1) + `}`},
		"optimization":   {"optimization_7", `{"type":"optimization_update","data":{"job_id":"j1","x":` + deep(2) + `}}`},
		"crawl":          {"crawl_7", `{"type":"crawl_update","data":{"x":` + deep(2) + `}}`},
		"chat":           {"chat_" + conversationQuery, `{"type":"agent_message","message":` + deep(1) + `}`},
	} {
		for _, protocol := range []string{"", "orgcast.v1"} {
			c := consumertest.New(t, "acme", "ada")
			c.Params, c.Request, c.Speaks = map[string]string{"id": "7"}, url.Values{"session": {conversationQuery}}, protocol
			failed := `{"type":"task_failed","task_id":"7","code":"crashed"}`
			for i, fields := range []string{test.fields, failed}[:1+len(protocol)%2] {
				c.History[test.group] = append(c.History[test.group], c.Event(t, test.group, fields, uint64(i+1)))
			}
			if err := jobConsumers(new(consumertest.Services))[name]().Connect(c.Context(t.Context()), c); err != nil {
				t.Errorf("%s %s: Connect: got %v, want a first frame", name, protocol, err)
			}
		}
	}
}

// TestMarkupTakesItsOwnLength: markup in text is not escaped, so a first frame is not longer than
// the text.
func TestMarkupTakesItsOwnLength(t *testing.T) {
	c := consumertest.New(t, "acme", "ada")
	c.Params = map[string]string{"id": "7"}
	said := 0
	for i := range 30 {
		e := c.Event(t, "research_7", `{"type":"step_update","step_number":`+strconv.Itoa(i)+`,"step":"`+strings.Repeat("<&>", 3_000)+`"}`, uint64(i+1))
		c.History["research_7"], said = append(c.History["research_7"], e), said+len(e.Payload())
	}
	if err := jobConsumers(new(consumertest.Services))["research"]().Connect(c.Context(t.Context()), c); err != nil {
		t.Fatal(err)
	}
	if got := len(strings.Join(c.Sent(), "")); got > said {
		t.Errorf("got a first frame of %d bytes of events of %d", got, said)
	}
	frame, err := event.Marshal(map[string]string{"text": "<&>"})
	if err != nil || !strings.HasSuffix(string(frame), `{"text":"<&>"}`) {
		t.Errorf("Marshal: got %q, %v, want the text as it is", frame, err)
	}
}
