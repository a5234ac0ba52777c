package sse_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/sse"
	"orgcast/internal/testkit/apidocs"
)

// TestDescribedStreams: docs/api has the codes of refusals that only streams have, and the form of
// the last event.
func TestDescribedStreams(t *testing.T) {
	d := apidocs.Read(t, apidocs.Public)
	socket := map[string]bool{}
	for _, list := range d.Codes(d.Object(t, "components", "pathItems", "Socket", "get")) {
		for _, code := range list {
			socket[code] = true
		}
	}
	var described []string
	for _, method := range []string{"get", "post", "options"} {
		for _, list := range d.Codes(d.Object(t, "components", "pathItems", "Stream", method)) {
			for _, code := range list {
				if !socket[code] && !slices.Contains(described, code) {
					described = append(described, code)
				}
			}
		}
	}
	slices.Sort(described)
	if diff := cmp.Diff(apidocs.Constants(t, "sse.go", "code"), described); diff != "" {
		t.Errorf("codes: in the code (-), in docs/api (+):\n%s", diff)
	}
	frames := apidocs.Read(t, apidocs.Frames)
	event := string(new(sse.Carrier).CloseFrame(4401, "session ended"))
	const head = "event: close\ndata: "
	if len(event) < len(head) || event[:len(head)] != head {
		t.Fatalf("got %q", event)
	}
	if err := frames.Schema(t, "Close", []byte(event[len(head):])); err != nil {
		t.Error(err)
	}
}
