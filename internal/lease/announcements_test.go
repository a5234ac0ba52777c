package lease_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/lease"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestNodeRemembersAnnouncements: the newest ones, the newest first, with what they closed.
func TestNodeRemembersAnnouncements(t *testing.T) {
	addr := redistest.Start(t)
	n := startListening(t, addr, lease.ControlOptions{})
	member := open(t, n.keeper, "ada", "acme", "s1")
	announcer := lease.NewAnnouncer(redistest.NewClient(t, addr), n.keys)
	const more = 2*lease.AnnouncementsKept + 1
	for i := range more {
		if err := announcer.Announce(t.Context(), lease.Message{Type: lease.UserDisabled, UserID: fmt.Sprint("u", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := announcer.Announce(t.Context(), lease.Message{Type: lease.UserDisabled, UserID: "ada"}); err != nil {
		t.Fatal(err)
	}
	var got []lease.Announcement
	testkit.Eventually(t, "the last announcement is heard", func() bool {
		got = n.control.Announcements()
		return len(got) > 0 && got[0].UserID == "ada"
	})
	if len(got) != lease.AnnouncementsKept || got[0].Connections != 1 || got[1].UserID != fmt.Sprint("u", more-1) || got[0].At.IsZero() {
		t.Errorf("got %d announcements, the first two %+v", len(got), got[:2])
	}
	if cause := member.cause(); !errors.Is(cause, lease.ErrNotAllowed) {
		t.Errorf("ended with %v", cause)
	}
}

// TestAnnouncementsOfAllNodes: one announcement is one row, with the connections of all nodes. One
// that was made twice is two.
func TestAnnouncementsOfAllNodes(t *testing.T) {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	of := func(after time.Duration, user string, connections int) lease.Announcement {
		return lease.Announcement{At: at.Add(after), Type: lease.UserDisabled, UserID: user, Connections: connections}
	}
	got := lease.MergeAnnouncements([][]lease.Announcement{
		{of(time.Minute, "ada", 1), of(2*time.Second, "bob", 0), of(0, "ada", 2), of(0, "bob", 5)},
		{of(time.Minute+time.Second, "ada", 3), of(time.Second, "ada", 4)},
		nil,
	})
	want := []lease.Announcement{of(time.Minute, "ada", 4), of(2*time.Second, "bob", 0), of(0, "bob", 5), of(0, "ada", 6)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
