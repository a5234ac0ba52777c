package event_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

func TestWithOrganization(t *testing.T) {
	for name, test := range map[string]struct {
		payload, want string
		err           error
	}{
		"missing":             {`{"type":"t"}`, `{"organization_id":"7","type":"t"}`, nil},
		"empty object":        {`{}`, `{"organization_id":"7"}`, nil},
		"space":               {" \n{ \"type\" : \"t\" } ", " \n{\"organization_id\":\"7\", \"type\" : \"t\" } ", nil},
		"empty, with space":   {"{ \n}", "{\"organization_id\":\"7\" \n}", nil},
		"only a look-alike":   {`{"a":{"organization_id":8}}`, `{"organization_id":"7","a":{"organization_id":8}}`, nil},
		"there as text":       {`{"organization_id":"7"}`, `{"organization_id":"7"}`, nil},
		"there as an integer": {`{"organization_id":7}`, `{"organization_id":7}`, nil},
		"there, escaped":      {`{"organi\u007aation_id":7}`, `{"organi\u007aation_id":7}`, nil},
		"foreign":             {`{"organization_id":"8"}`, "", event.ErrForeign},
		"foreign, escaped":    {`{"organi\u007aation_id":"8"}`, "", event.ErrForeign},
		"minus":               {`{"organization_id":-7}`, "", event.ErrForeign},
		"null":                {`{"organization_id":null}`, "", event.ErrNoOrganization},
		"empty":               {`{"organization_id":""}`, "", event.ErrNoOrganization},
		"fraction":            {`{"organization_id":7.0}`, "", event.ErrNoOrganization},
		"twice":               {`{"organization_id":7,"organization_id":7}`, "", event.ErrDuplicateField},
		"array":               {`[]`, "", event.ErrNotObject},
		"nothing":             {``, "", event.ErrNotObject},
		"trailing bytes":      {`{}{}`, "", event.ErrNotObject},
		"not UTF-8":           {"{\"a\":\"\xff\"}", "", event.ErrNotUTF8},
	} {
		t.Run(name, func(t *testing.T) {
			in := []byte(test.payload)
			got, err := event.WithOrganization(mustID(t, "7"), in)
			if !errors.Is(err, test.err) || string(got) != test.want {
				t.Errorf("got %s, %v, want %s, %v", got, err, test.want, test.err)
			}
			if string(in) != test.payload {
				t.Errorf("the caller's bytes became %s", in)
			}
		})
	}
	if _, err := event.WithOrganization(orgctx.ID{}, []byte(`{}`)); !errors.Is(err, event.ErrNoOrganization) {
		t.Errorf("without an organization: got %v, want %v", err, event.ErrNoOrganization)
	}
}

// FuzzWithOrganization checks that the result is a payload of that organization with the same
// fields, ready to be published if it has a type.
func FuzzWithOrganization(f *testing.F) {
	for _, seed := range payloads {
		f.Add(seed.payload)
	}
	f.Add(`{"type":"t"}`)
	f.Add(` { } `)
	f.Fuzz(func(t *testing.T, payload string) {
		g := mustGroup(t, "7", "room")
		got, err := event.WithOrganization(g.Organization(), []byte(payload))
		if err != nil {
			return
		}
		if err := event.Check(g, got, len(got)); err != nil && !errors.Is(err, event.ErrInvalidType) {
			t.Fatalf("%s became %s: %v", payload, got, err)
		}
		var before, after map[string]json.RawMessage
		if err := json.Unmarshal([]byte(payload), &before); err != nil {
			t.Fatalf("%s was taken: %v", payload, err)
		}
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("%s became %s: %v", payload, got, err)
		}
		delete(before, "organization_id")
		delete(after, "organization_id")
		if got, want := len(after), len(before); got != want {
			t.Fatalf("other fields: got %d, want %d", got, want)
		}
	})
}

func ExampleWithOrganization() {
	org, err := orgctx.ParseID("acme")
	if err != nil {
		panic(err)
	}
	payload, err := event.WithOrganization(org, []byte(`{"type":"status_update","progress":40}`))
	fmt.Println(string(payload), err)
	_, err = event.WithOrganization(org, []byte(`{"type":"status_update","organization_id":"rival"}`))
	fmt.Println(err)
	// Output:
	// {"organization_id":"acme","type":"status_update","progress":40} <nil>
	// event: organization_id differs from the organization of its channel
}
