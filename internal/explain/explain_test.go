package explain_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"orgcast/internal/explain"
	"orgcast/internal/inventory"
	"orgcast/internal/testkit"
	"orgcast/internal/trail"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// noon is the time of most events.
func noon(tb testing.TB) time.Time {
	tb.Helper()
	return time.Date(2026, 11, 29, 12, 3, 7, 0, time.UTC)
}

func query(tb testing.TB, q explain.Question) trail.Query {
	tb.Helper()
	asked, err := q.Query()
	if err != nil {
		tb.Fatal(err)
	}
	return asked
}

// TestWords: the answer reads as a colleague would give it.
func TestWords(t *testing.T) {
	at := noon(t)
	position := fmt.Sprintf("%d-0", at.UnixMilli())
	who := func(id, cause string) trail.Outcome {
		return trail.Outcome{Cause: cause, Group: "room.1", ConnectionID: id, UserID: "ada", At: at}
	}
	slow := who("C4", trail.LostOldest)
	slow.ToldGap = true
	first := explain.Node{Name: "n1", State: "answered", Answer: &trail.Answer{
		Reaches: at.Add(-time.Hour),
		Passed:  []trail.Passed{{Group: "room.1", From: at, To: at, Events: 1, Members: 3, Offered: 3, Written: 2, Lost: 1, SlowestSeconds: 0.0035}},
		Outcomes: []trail.Outcome{
			slow, who("C1", trail.CauseWritten), who("C2", trail.CauseWritten),
		},
		Counts: map[string]int{trail.LostOldest: 1, trail.CauseWritten: 2},
	}}
	second := explain.Node{Name: "n2", State: "answered", Answer: &trail.Answer{
		Reaches:  at.Add(time.Minute),
		Passed:   []trail.Passed{{Group: "room.1", From: at, To: at, Events: 1, Members: 1, Offered: 1, Written: 1, SlowestSeconds: 0.001}},
		Outcomes: []trail.Outcome{who("C3", trail.CauseWritten)},
		Counts:   map[string]int{trail.CauseWritten: 1},
	}}
	silent := explain.Node{Name: "n3", State: "silent", Started: at.Add(-time.Minute)}
	off := explain.Node{Name: "n4", State: "answered", Answer: &trail.Answer{Off: true}}
	e := explain.Explain(query(t, explain.Question{OrganizationID: "acme", Group: "room.1", Position: position}), explain.Recorded, []explain.Node{silent, second, first, off})
	want := []string{
		"Event " + position + " was recorded in room.1 of acme on 2026-11-29 at 12:03:07.000 UTC.",
		"Node n1 received it at 12:03:07.000 and offered it to 3 connections: 2 written within 4 ms, 1 not written.",
		"Node n2 received it at 12:03:07.000 and offered it to 1 connection: 1 written within 1 ms.",
		"3 of 4 connections of user ada got it within 4 ms.",
		"Connection C4 of user ada was too slow at 12:03:07.000: its queue was full, so the oldest events in it were dropped, and it was told of a gap.",
		"Node n2 remembers acme only since 12:04:07.000, which is not all of the time in question.",
		"Node n3, which started at 12:02:07.000, does not answer. If it was killed, what it remembered of acme is gone, and its connections ended with it.",
		"Node n4 remembers nothing: --explain-bytes-per-organization is 0.",
	}
	if got := strings.Join(e.Sentences, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if e.Causes[trail.CauseWritten] != 3 || e.Causes[trail.LostOldest] != 1 {
		t.Errorf("causes: got %v", e.Causes)
	}
}

// TestWordsForEach: each cause and reason has words of its own.
func TestWordsForEach(t *testing.T) {
	position := fmt.Sprintf("%d-0", noon(t).UnixMilli())
	q := query(t, explain.Question{OrganizationID: "acme", Group: "room.1", Position: position})
	said := make(map[string]string)
	for _, cause := range []string{
		trail.CauseHistory, trail.CauseWaiting, trail.LostOldest, trail.LostLatest, trail.LostTooSlow, trail.LostClosing, trail.LostLeft,
		trail.LostConsumer, trail.LostWrite, trail.CauseNotReceived, trail.CauseDropped, trail.CauseJoinedLater, trail.CauseLater,
		trail.CauseLeftBefore, trail.CauseNotJoined, trail.CauseDenied, trail.CauseEnded,
	} {
		o := trail.Outcome{Cause: cause, Group: "room.1", ConnectionID: "C", UserID: "ada", At: noon(t), Reason: "silent", Code: 4408}
		e := explain.Explain(q, explain.NotAsked, []explain.Node{{Name: "n", Answer: &trail.Answer{Outcomes: []trail.Outcome{o}}}})
		text := strings.Join(e.Sentences, "\n")
		if before, ok := said[text]; ok || !strings.Contains(text, "Connection C of user ada") || strings.Contains(text, "_") || strings.Contains(text, "did not get it:") {
			t.Errorf("%s: got %q, as for %q", cause, text, before)
		}
		said[text] = cause
	}
	for _, reason := range []string{
		trail.DropRate, trail.DropIntake, trail.DropRepeated, trail.DropUnwanted, "foreign_organization", "no_organization", "not_an_object",
	} {
		d := trail.Dropped{Group: "room.1", Reason: reason, Events: 1, From: noon(t)}
		e := explain.Explain(q, explain.NotAsked, []explain.Node{{Name: "n", Answer: &trail.Answer{Dropped: []trail.Dropped{d}}}})
		text := e.Sentences[0]
		if before, ok := said[text]; ok || !strings.HasPrefix(text, "Node n dropped it") {
			t.Errorf("%s: got %q, as for %q", reason, text, before)
		}
		said[text] = reason
	}
	for _, reason := range []string{
		trail.GapUnread, trail.GapIncomplete, trail.GapNotRecorded, trail.GapUnlocated, trail.GapHistoryLost, trail.GapRepeated, trail.GapIntake, trail.GapChannelLayer,
	} {
		g := trail.Gap{Group: "room.1", Reason: reason, At: noon(t)}
		e := explain.Explain(q, explain.NotAsked, []explain.Node{{Name: "n", Answer: &trail.Answer{Gaps: []trail.Gap{g}, Counts: map[string]int{trail.CauseNotReceived: 1}}}})
		text := e.Sentences[1]
		if before, ok := said[text]; ok || strings.Contains(text, "_") {
			t.Errorf("%s: got %q, as for %q", reason, text, before)
		}
		said[text] = reason
	}
}

// TestManyOutcomes: an answer about a large organization stays readable.
func TestManyOutcomes(t *testing.T) {
	var a trail.Answer
	for i := range 5000 {
		a.Outcomes = append(a.Outcomes, trail.Outcome{Cause: trail.LostOldest, ConnectionID: fmt.Sprint("C", i), UserID: fmt.Sprint("u", i%100)})
	}
	for _, question := range []explain.Question{{OrganizationID: "acme", Position: "1-1"}, {OrganizationID: "acme", Since: noon(t)}} {
		e := explain.Explain(query(t, question), explain.NotAsked, []explain.Node{{Name: "n", Answer: &a}})
		if n := len(e.Sentences); n > 3000 || !strings.Contains(strings.Join(e.Sentences, "\n"), "more") {
			t.Errorf("%d sentences", n)
		}
	}
}

func TestQuestions(t *testing.T) {
	at := noon(t)
	for name, tt := range map[string]struct {
		q    explain.Question
		want error
	}{
		"event":             {explain.Question{OrganizationID: "acme", Position: "1-1"}, nil},
		"window":            {explain.Question{OrganizationID: "acme", Group: "room.1", UserID: "auth0|1", Since: at}, nil},
		"no organization":   {explain.Question{Position: "1-1"}, inventory.ErrOrganization},
		"bad group":         {explain.Question{OrganizationID: "acme", Group: "a b", Position: "1-1"}, inventory.ErrGroup},
		"bad user":          {explain.Question{OrganizationID: "acme", UserID: "a b", Position: "1-1"}, inventory.ErrUser},
		"bad position":      {explain.Question{OrganizationID: "acme", Position: "1"}, explain.ErrPosition},
		"the zero position": {explain.Question{OrganizationID: "acme", Position: "0-0"}, explain.ErrPosition},
		"neither":           {explain.Question{OrganizationID: "acme"}, explain.ErrTime},
		"far future":        {explain.Question{OrganizationID: "acme", Since: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, explain.ErrTime},
		"both":              {explain.Question{OrganizationID: "acme", Position: "1-1", Since: at}, explain.ErrTime},
	} {
		if err := tt.q.Check(); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
}

// FuzzAnswer: whatever a node answers, words can be found for it.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"organization_id":"acme","group":"room.1","position":"1-1"}`), []byte(`{"passed":[{"events":2,"members":3,"offered":6}],"outcomes":[{"cause":"drop_oldest","user_id":"ada","connection_id":"C"}],"counts":{"not_received":2},"gaps":[{"reason":"x"}],"outages":[{"error":"x"}],"dropped":[{"reason":"x"}]}`))
	f.Add([]byte(`{"organization_id":"acme","since":"2026-11-29T12:00:00Z"}`), []byte(`{"outcomes":[{"cause":"refused"},{"cause":""}]}`))
	f.Fuzz(func(t *testing.T, question, answer []byte) {
		var q explain.Question
		if json.Unmarshal(question, &q) != nil || q.Check() != nil {
			return
		}
		asked := query(t, q)
		if asked.Organization.String() != q.OrganizationID || !asked.Position.IsZero() && asked.Position.String() != q.Position {
			t.Errorf("the question %+v became %+v", q, asked)
		}
		var a trail.Answer
		if json.Unmarshal(answer, &a) != nil {
			return
		}
		e := explain.Explain(asked, explain.Missing, []explain.Node{{Name: "n", Answer: &a}, {Name: "m"}})
		if len(e.Sentences) == 0 {
			t.Error("no words")
		}
		if _, err := json.Marshal(e); err != nil {
			t.Errorf("%v: from question %s and answer %s", err, question, answer)
		}
	})
}
