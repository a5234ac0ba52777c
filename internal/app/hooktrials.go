package app

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"orgcast/internal/consumer"
	"orgcast/internal/orgctx"
	"orgcast/internal/outgoing"
	"orgcast/internal/routefile"
)

// hookCheck is the event of the question with which check --connect tries a hook. No hook is asked
// about it otherwise, and the answer has no effect.
const hookCheck = "check"

// hookTrials lists a trial for each hook of --routes-file. The question is about an organization
// that does not exist.
func (n *Node) hookTrials(org orgctx.ID) (list []trial, err error) {
	if n.Options.RoutesFile == "" {
		return nil, nil
	}
	routes, err := loadRoutes(n.Options)
	if err != nil {
		return nil, err
	}
	for i := range routes {
		if r := &routes[i]; r.Hook != nil {
			list = append(list, trial{name: "hook", try: func(ctx context.Context) error {
				if err := n.tryHook(ctx, org, r); err != nil {
					return fmt.Errorf("path %s: %w", r.Pattern, err)
				}
				return nil
			}})
		}
	}
	return list, nil
}

// tryHook asks one hook. A refusal is an answer, too: the hook has understood who asks.
func (n *Node) tryHook(ctx context.Context, org orgctx.ID, r *routefile.Route) error {
	endpoint, err := n.calls.Endpoint(outgoing.EndpointOptions{Purpose: "hook", URL: r.Hook.URL, Keys: r.Hook.Keys, Timeout: r.Hook.Timeout})
	if err != nil {
		return err
	}
	question, err := json.Marshal(consumer.HookQuestion{
		Event: hookCheck, OrganizationID: org, UserID: "nobody", ConnectionID: rand.Text(), Path: r.Pattern,
		Params: map[string]json.RawMessage{}, Query: url.Values{},
	})
	if err != nil {
		return err
	}
	answer, err := endpoint.Post(ctx, outgoing.Call{Organization: org, ID: hookCheck + "_" + rand.Text(), Body: question})
	switch {
	case err != nil:
		return fmt.Errorf("no answer: check that the program runs there and that its url is right: %w", err)
	case answer.Status == http.StatusUnauthorized:
		return fmt.Errorf("status %d: check that key-file holds the key with which the program verifies signatures, and that both clocks are right", answer.Status)
	case answer.Status >= http.StatusInternalServerError, answer.Status >= http.StatusMultipleChoices && answer.Status < http.StatusBadRequest:
		return fmt.Errorf("status %d: check the log of the program", answer.Status)
	}
	return nil
}
