package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"orgcast"
)

// asked is the payload of a task.
type asked struct {
	ID json.Number `json:"id"`
}

// build builds a report: it tells how far it is, and ends with the address of the report.
func build(ctx context.Context, job *orgcast.Job) (terminal any, err error) {
	err = job.Progress(ctx, map[string]any{"type": "report_update", "status": "running", "percent": 50, "worker": "internal"})
	if err != nil {
		return nil, err
	}
	address, err := orgcast.RunTool(ctx, "report_url", job.Payload)
	if err != nil {
		return nil, err
	}
	return map[string]any{"type": "report_complete", "status": "completed", "url": address}, nil
}

// entry is what the application has stored about a report: orgcast:{ORGANIZATION}:object:report:ID.
type entry struct {
	Title string `json:"title"`
}

// titles are where the tool looks.
type titles struct{ objects *orgcast.Objects }

// url is the tool report_url. It returns the address of a report of the current organization, and notes in the store
// of that organization which report it was asked for last.
func (t titles) url(ctx context.Context, store *orgcast.Store, input json.RawMessage) (json.RawMessage, error) {
	var in asked
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, orgcast.Fail("bad_payload")
	}
	report, err := orgcast.Get[entry](ctx, t.objects, "report", in.ID.String())
	if errors.Is(err, orgcast.ErrNotFound) { // also if only other organizations have it
		return nil, orgcast.Fail("no_such_report")
	}
	if err != nil {
		return nil, err
	}
	if err := store.Set(ctx, "last_report", []byte(in.ID), 0); err != nil {
		return nil, err
	}
	return json.Marshal(fmt.Sprintf("/reports/%s?title=%s", in.ID, url.QueryEscape(report.Value.Title)))
}
