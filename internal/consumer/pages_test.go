package consumer_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// object is a JSON object.
type object = map[string]any

// page is the state of a page, and how the page learns it: from first frames and live ones alike,
// by the rules of docs/consumers.md. It does not use the code of the consumers, so that it can
// check them.
type page interface {
	// see handles a frame. group is the group of a live event, "" for a frame of the consumer.
	see(group string, frame object)
	// state returns the state of the page.
	state() any
}

// pages returns the constructor of each consumer's page, for consumers with a state.
func pages() map[string]func() page {
	return map[string]func() page{
		"chat":           func() page { return new(chatPage) },
		"research":       func() page { return &researchPage{research: object{}} },
		"meta_tags":      func() page { return &metaTagsPage{object{}} },
		"crew_execution": func() page { return &crewPage{object{}} },
		"seo_audit":      func() page { return &auditPage{object{}, object{}} },
		"crew_kanban":    func() page { return new(boardPage) },
		"optimization":   func() page { return &optimizationPage{jobs: map[string]object{}} },
		"crawl":          func() page { return &crawlPage{object{}} },
	}
}

// lay overwrites fields of a frame with those of another.
func lay(over, frame object, except ...string) {
	for name, value := range frame {
		if name != "type" && name != "organization_id" && !slices.Contains(except, name) {
			over[name] = value
		}
	}
}

// layStatus adds an update: without a status, the previous one stays, and another status removes
// the error.
func layStatus(over, frame object, except ...string) {
	if frame["status"] == nil {
		except = append(except, "status")
	} else {
		delete(over, "error")
		delete(over, "code")
	}
	lay(over, frame, except...)
}

func failed(over, frame object, status string) {
	over["status"], over["error"] = status, frame["code"]
}

// odd reports whether a frame has a status that is not text. A page ignores it.
func odd(frame object) bool {
	switch frame["status"].(type) {
	case nil, string:
		return false
	default:
		return true
	}
}

// replace replaces the item with the same id, or appends the item.
func replace(list []any, item any, same func(any) bool) []any {
	if i := slices.IndexFunc(list, same); i >= 0 {
		list = slices.Clone(list)
		list[i] = item
		return list
	}
	return append(slices.Clone(list), item)
}

// idOf returns the text of an id: 41 and "41" are equal.
func idOf(v any, name string) string {
	o, _ := v.(object)
	switch id := o[name].(type) {
	case string:
		return id
	case json.Number:
		return id.String()
	}
	return ""
}

func sameID(item any, name string) func(any) bool {
	id := idOf(item, name)
	return func(other any) bool { return id != "" && idOf(other, name) == id }
}

type chatPage struct {
	frames      []any
	participant string
}

func (p *chatPage) see(_ string, frame object) {
	switch frame["type"] {
	case "system_message":
		p.participant, _ = frame["participant_type"].(string)
	case "conversation_cut":
		i := slices.IndexFunc(p.frames, func(shown any) bool { return shown.(object)["message_id"] == frame["message_id"] })
		p.frames = p.frames[:max(i, 0)]
	default:
		p.frames = append(p.frames, frame)
	}
}

func (p *chatPage) state() any {
	return object{"frames": slices.Concat([]any{}, p.frames), "participant": p.participant}
}

type researchPage struct {
	research object
	steps    []any
	report   object
}

func (p *researchPage) see(_ string, frame object) {
	switch frame["type"] {
	case "initial_state":
		p.research, p.steps, p.report = frame["research"].(object), frame["steps"].([]any), object{}
		delete(p.research, "created_at") // when the job began, which is not in any event
		lay(p.report, frame, "research", "steps")
	case "status_update":
		if odd(frame) {
			return
		}
		layStatus(p.research, frame)
		if _, given := frame["error"]; !given && frame["status"] == "failed" && frame["message"] != nil {
			p.research["error"] = frame["message"]
		}
	case "step_update":
		step := object{}
		lay(step, frame)
		p.steps = replace(p.steps, step, sameID(step, "step_number"))
	case "report_update":
		p.report = object{}
		lay(p.report, frame)
	case "task_failed":
		failed(p.research, frame, "failed")
	}
}

func (p *researchPage) state() any {
	return object{"research": p.research, "steps": p.steps, "report": p.report}
}

type metaTagsPage struct{ task object }

func (p *metaTagsPage) see(_ string, frame object) {
	switch frame["type"] {
	case "status_update", "progress_update":
		if odd(frame) {
			return
		}
		layStatus(p.task, frame)
		if frame["type"] == "progress_update" && p.task["status"] == "pending" {
			p.task["status"] = "running"
		}
	case "task_failed":
		failed(p.task, frame, "failed")
		p.task["message"] = frame["code"]
	}
}

func (p *metaTagsPage) state() any { return p.task }

type crewPage struct{ run object }

func (p *crewPage) see(_ string, frame object) {
	switch frame["type"] {
	case "initial_state":
		p.run = object{}
		lay(p.run, frame)
	case "crew_execution_update":
		if odd(frame) {
			return
		}
		p.run["human_input_request"] = nil
		layStatus(p.run, frame, "messages")
		said, _ := frame["messages"].([]any)
		for _, message := range said {
			list, _ := p.run["messages"].([]any)
			p.run["messages"] = replace(list, message, sameID(message, "id"))
		}
	case "task_failed":
		failed(p.run, frame, "FAILED")
		p.run["human_input_request"] = nil
	}
}

func (p *crewPage) state() any { return p.run }

type auditPage struct{ data, beside object }

func (p *auditPage) see(_ string, frame object) {
	said, _ := frame["data"].(object)
	if odd(said) {
		return
	}
	var assumed string
	switch frame["type"] {
	case "audit.status":
		p.data, p.beside = said, object{}
		lay(p.beside, frame, "data")
		return
	case "audit.update":
		assumed, _ = p.data["status"].(string)
		if slices.Contains([]string{"pending", "completed", "failed"}, assumed) {
			assumed = "running"
		}
	case "audit.complete":
		assumed = "completed"
		p.data["progress"] = json.Number("100")
	case "audit.error":
		assumed = "failed"
	case "task_failed":
		failed(p.data, frame, "failed")
		return
	default:
		return
	}
	p.data["status"], p.data["error"] = assumed, nil
	delete(p.data, "code")
	layStatus(p.data, said, "percent_complete", "error")
	if said["percent_complete"] != nil {
		p.data["progress"] = said["percent_complete"]
	}
	for _, reason := range []any{said["error"], frame["error"]} {
		if p.data["error"] == nil {
			p.data["error"] = reason
		}
	}
	if frame["type"] == "audit.error" && p.data["error"] == nil {
		text, _ := said["message"].(string)
		if text == "" {
			text, _ = frame["message"].(string)
		}
		p.data["error"] = text
	}
	delete(p.beside, "code")
	delete(p.beside, "message")
	lay(p.beside, frame, "data", "error")
}

func (p *auditPage) state() any { return object{"data": p.data, "beside": p.beside} }

// boardPage knows the open runs.
type boardPage struct{ runs []any }

func (p *boardPage) see(_ string, frame object) {
	same := sameID(frame, "execution_id")
	run := func() object { // the run in the frame
		i := slices.IndexFunc(p.runs, same)
		if i < 0 {
			p.runs = append(p.runs, object{"status": "RUNNING"})
			i = len(p.runs) - 1
		}
		p.runs[i] = maps.Clone(p.runs[i].(object))
		return p.runs[i].(object)
	}
	end := func() { p.runs = slices.DeleteFunc(slices.Clone(p.runs), same) }
	switch status, _ := frame["status"].(string); {
	case frame["type"] == "initial_state":
		p.runs = frame["executions"].([]any)
	case odd(frame) || idOf(frame, "execution_id") == "":
	case frame["type"] == "task_complete":
		end()
	case frame["type"] == "human_input_request":
		r := run()
		r["execution_id"], r["human_input_request"] = frame["execution_id"], frame
		if frame["task_index"] != nil {
			r["task_index"] = frame["task_index"]
		}
	case frame["type"] == "execution_update", frame["type"] == "agent_step":
		if slices.Contains([]string{"COMPLETED", "FAILED", "CANCELLED"}, status) {
			end()
			return
		}
		r := run()
		r["human_input_request"] = nil
		layStatus(r, frame)
	}
}

func (p *boardPage) state() any { return p.runs }

type optimizationPage struct {
	update object
	jobs   map[string]object
}

func (p *optimizationPage) see(group string, frame object) {
	update := object{}
	lay(update, frame, "data")
	if data, ok := frame["data"].(object); ok {
		lay(update, data)
	}
	job, ofJob := strings.CutPrefix(group, "optimization_job_")
	switch {
	case frame["type"] == "optimization_update":
		p.update = update
	case frame["type"] == "job_update":
		id := idOf(update, "job_id")
		delete(update, "job_id") // a job that fails before its first update does not contain it
		p.jobs[id] = update
	case frame["type"] == "task_failed" && ofJob:
		if p.jobs[job] == nil {
			p.jobs[job] = object{}
		}
		failed(p.jobs[job], frame, "failed")
	case frame["type"] == "task_failed":
		if p.update["optimization_id"] == nil {
			p.update["optimization_id"] = json.Number("7")
		}
		failed(p.update, frame, "failed")
	}
}

func (p *optimizationPage) state() any {
	jobs := object{}
	for id, job := range p.jobs {
		jobs[id] = job
	}
	return object{"update": p.update, "jobs": jobs}
}

type crawlPage struct{ update object }

func (p *crawlPage) see(_ string, frame object) {
	switch frame["type"] {
	case "crawl_update":
		p.update = object{}
		lay(p.update, frame)
	case "task_failed":
		data, ok := p.update["data"].(object)
		if !ok {
			data = object{}
		}
		p.update["data"] = data
		data["update_type"], data["error"] = "failed", frame["code"]
	}
}

func (p *crawlPage) state() any { return p.update }
