package jobs_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"orgcast/internal/demo/jobs"
	"orgcast/internal/testkit"
)

// The original cancelled a research that had ended, and told everyone that it was cancelled. Here a
// research ends once, and the user who cancels hears how it ended, even if both happen at the same
// moment.
func TestCancelAgreesWithTheEnd(t *testing.T) {
	f := newFixture(t, 0)
	moments := []struct {
		typ    string
		fields object
	}{
		{"status_update", object{"status": "running"}},
		{"step_update", object{"step_number": 1.0}},
		{"step_update", object{"step_number": 4.0}},
		{"report_update", nil},
		{"status_update", object{"status": "completed"}},
	}
	ends := func(events []object) (statuses []string) {
		for _, e := range events {
			if status, _ := e["status"].(string); e["type"] == "status_update" && status != "running" {
				statuses = append(statuses, status)
			}
		}
		return statuses
	}
	for i, moment := range moments {
		id := strconv.Itoa(i)
		group := "research_" + id
		f.dispatch(t, "acme", jobs.KindResearch, group, object{"research_id": id, "query": "redis"})
		f.await(t, "acme", group, moment.typ, moment.fields)
		f.dispatch(t, "acme", jobs.KindCancelResearch, group, object{"research_id": id})
		answer := newest(t, f.await(t, "acme", group, "cancel_response", nil), "cancel_response")
		end := "completed"
		if answer["success"] == true {
			end = "cancelled"
		}
		f.await(t, "acme", group, "status_update", object{"status": end})
		// Again, when it has ended.
		f.dispatch(t, "acme", jobs.KindCancelResearch, group, object{"research_id": id})
		var events []object
		testkit.Eventually(t, "the second answer", func() bool { // which is the last that a cancel says
			events = f.history(t, "acme", group)
			return strings.Count(strings.Join(types(events), " "), "cancel_response") == 2
		})
		if got := ends(events); !slices.Equal(got, []string{end}) {
			t.Errorf("cancelled at %s %v: the research ended with %v, want %s once, as the answer %v says", moment.typ, moment.fields, got, end, answer)
		}
	}
}
