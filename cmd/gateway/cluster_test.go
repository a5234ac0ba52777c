package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"orgcast/internal/app"
	"orgcast/internal/directory"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisclient"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestServeOnCluster is the whole way in a Redis Cluster: sessions, members and the count of
// connections in Redis, events of each kind in each way there is, and an announcement; before and
// after the organization's master was deposed. What was recorded meanwhile arrives, too, once.
func TestServeOnCluster(t *testing.T) {
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{Replicas: true})
	env := environment{
		"ORGCAST_REDIS": "redis://127.0.0.1:1/0", "ORGCAST_REDIS_CLUSTER": cluster.Addrs()[0] + ",127.0.0.1:1",
		"ORGCAST_SESSION_STORE": "redis", "ORGCAST_DIRECTORY": "redis",
	}
	client, err := (&app.Options{Redis: redisclient.Options{Name: "redis", URL: env["ORGCAST_REDIS"], Cluster: cluster.Addrs()}}).ConnectEvents()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	keys := testkit.Keys(t)
	members, err := directory.NewRedis(client, keys)
	if err != nil {
		t.Fatal(err)
	}
	orgs := map[string]orgctx.ID{}
	for _, name := range []string{"acme", "globex"} {
		org := testkit.Org(t, name)
		orgs[name] = org
		err = errors.Join(members.PutOrganization(t.Context(), org, directory.Active), members.PutMember(t.Context(), org, "ada", directory.Active, directory.Member{}))
		if err != nil {
			t.Fatal(err)
		}
	}
	s := startServe(t, "", env)
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	pages := map[string]*testkit.Client{"acme": s.subscribe(dial, "ada", "acme"), "globex": s.subscribe(dial, "ada", "globex")}

	n := 0
	expectEvents := func() {
		t.Helper()
		for org, page := range pages {
			for way, publish := range map[string]func(event string) error{
				"command": func(event string) error {
					_, _, err := execute(t, s.env, "", "publish", org, "all", event)
					return err
				},
				"command, recorded": func(event string) error {
					_, _, err := execute(t, s.env, "", "publish", "--record", org, "all", event)
					return err
				},
				"HTTP": func(event string) error {
					if status, body := s.ask("POST", "/v1/publish", `{"organization_id":"`+org+`","group":"all","event":`+event+`}`); status != 200 {
						return fmt.Errorf("got %d %s", status, body)
					}
					return nil
				},
				"another program": func(event string) error {
					return client.SPublish(t.Context(), "orgcast:{"+org+"}:group:all", event).Err()
				},
			} {
				n++
				event := fmt.Sprintf(`{"organization_id":%q,"type":"note","way":%q,"n":%d}`, org, way, n)
				if err := publish(event); err != nil {
					t.Errorf("%s: %v", way, err)
				}
				page.Expect(t, event)
			}
		}
	}
	expectEvents()
	cluster.Failover(keys.Organization(orgs["acme"]))
	const meanwhile = `{"organization_id":"acme","type":"note","way":"meanwhile"}`
	testkit.Eventually(t, "recorded", func() bool {
		_, _, err := execute(t, s.env, "", "publish", "--record", "--idempotency-key", "once", "acme", "all", meanwhile)
		return err == nil
	})
	if gap, err := pages["acme"].Next(); err != nil || gap != meanwhile && !strings.Contains(gap, `"type":"gap"`) {
		t.Errorf("got %s, %v, want the event, or a gap, as the group had transient events", gap, err)
	} else if gap != meanwhile {
		pages["acme"].Expect(t, meanwhile)
	}
	s.expectReady()
	expectEvents()

	if _, errOut, err := execute(t, s.env, "", "revoke", "member", "acme", "ada"); err != nil {
		t.Fatalf("revoke: %v\n%s", err, errOut)
	}
	pages["acme"].ExpectClose(t, 4403)
	event := `{"organization_id":"globex","type":"note"}`
	if _, _, err := execute(t, s.env, "", "publish", "globex", "all", event); err != nil {
		t.Fatal(err)
	}
	pages["globex"].Expect(t, event)
}
