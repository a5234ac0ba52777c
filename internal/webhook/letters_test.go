package webhook_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
	"orgcast/internal/webhook"
)

// bury writes dead letters of an organization to Redis, as the scripts do.
func bury(tb testing.TB, client redis.Cmdable, org string, ids ...string) orgctx.ID {
	tb.Helper()
	keys, id := testkit.Keys(tb), testkit.Org(tb, org)
	for _, one := range ids {
		values := []any{"line", "user:" + one, "entry", one + "\n1800000000000\n{\"type\":\"connection.gap\"}", "reason", "status_500", "tries", "3"}
		if err := client.XAdd(tb.Context(), &redis.XAddArgs{Stream: keys.WebhookDead(id), Values: values}).Err(); err != nil {
			tb.Fatal(err)
		}
	}
	if err := client.SAdd(tb.Context(), keys.WebhookDeadOrganizations(), org).Err(); err != nil {
		tb.Fatal(err)
	}
	return id
}

// TestLettersOfOneOrganization: an organization's letters are counted, listed by pages and put back
// without those of another, by id and all together.
func TestLettersOfOneOrganization(t *testing.T) {
	client := redisClient(t)
	letters := webhook.NewLetters(client, testkit.Keys(t))
	var ids []string
	for i := range 450 { // more than two pages
		ids = append(ids, fmt.Sprint("msg_", i))
	}
	acme, globex := bury(t, client, "acme", ids...), bury(t, client, "globex", "msg_of_globex")
	expect := func(org orgctx.ID, want webhook.Counts) {
		t.Helper()
		if got, err := letters.CountOf(t.Context(), org); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", org, got, err, want)
		}
	}
	expect(acme, webhook.Counts{Dead: 450})
	expect(globex, webhook.Counts{Dead: 1})
	if found, err := letters.RetryID(t.Context(), acme, "msg_of_globex"); found || err != nil {
		t.Errorf("another organization's letter: got %v, %v", found, err)
	}
	for _, id := range []string{"msg_449", "msg_201"} { // of the last page, and of the second one
		if found, err := letters.RetryID(t.Context(), acme, id); !found || err != nil {
			t.Errorf("%s: got %v, %v", id, found, err)
		}
	}
	if found, err := letters.RetryID(t.Context(), acme, "msg_449"); found || err != nil {
		t.Errorf("twice: got %v, %v", found, err)
	}
	entry := int64(len("msg_449\n1800000000000\n{\"type\":\"connection.gap\"}"))
	expect(acme, webhook.Counts{Waiting: 2, WaitingBytes: 2 * entry, Dead: 448})

	// A letter that dies again while all are put back is not put back twice.
	var got []string
	n, err := letters.RetryAll(t.Context(), acme, func(l webhook.Letter) {
		got = append(got, l.ID)
		if len(got) <= 10 {
			bury(t, client, "acme", l.ID)
		}
	})
	want := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == "msg_449" || id == "msg_201" })
	if err != nil || n != 448 || !slices.Equal(got, want) {
		t.Errorf("got %d, %v: %v", n, err, got)
	}
	if got, err := letters.CountOf(t.Context(), acme); err != nil || got.Waiting != 450 || got.Dead != 10 {
		t.Errorf("got %+v, %v", got, err)
	}
	expect(globex, webhook.Counts{Dead: 1})

	// What was delivered leaves nothing behind.
	r := newReceiver(t)
	startNode(t, setup{client: client, url: r.URL})
	testkit.Eventually(t, "all are delivered", func() bool { return len(r.accepted()) == 450 })
	testkit.Eventually(t, "nothing is counted", func() bool {
		c, err := letters.CountOf(t.Context(), acme)
		return err == nil && c == webhook.Counts{Dead: 10}
	})
	left := client.HGetAll(t.Context(), "orgcast:webhook:{orgcast:webhooks}:bytes").Val()
	if left["acme"] != "" || left["acme:entries"] != "" {
		t.Errorf("left in Redis: %v", left)
	}
}
