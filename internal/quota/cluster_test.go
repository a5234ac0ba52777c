package quota_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/quota"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// onCluster is the Cluster that fixtures use while TestOnCluster runs, else nil.
var onCluster *redistest.Cluster

// TestOnCluster runs the tests that use Redis on a Redis Cluster too.
func TestOnCluster(t *testing.T) {
	onCluster = redistest.StartCluster(t, redistest.ClusterOptions{Args: []string{"--cluster-require-full-coverage", "no"}})
	t.Cleanup(func() { onCluster = nil })
	for name, test := range map[string]func(*testing.T){
		"MembersFillNoRedis": TestMembersFillNoRedis,
		"BytesOfTwoNodes":    TestBytesOfTwoNodes,
		"BytesOfOne":         TestBytesOfOneOrganization,
		"ChangedLimit":       TestChangedLimit,
		"DeadNode":           TestDeadNode,
		"GivenBack":          TestGivenBack,
		"LimitOverNodes":     TestLimitOverNodes,
		"PropertyNeverMore":  TestPropertyNeverMore,
		"RunGivesBack":       TestRunGivesBack,
		"ScriptsForgotten":   testScriptsForgotten,
		"ShardAway":          testShardAway,
	} {
		t.Run(name, test)
	}
}

// organizations returns one organization in a slot of the first master, and one in a slot of
// another master.
func organizations(t *testing.T, f fixture) (here, elsewhere string) {
	t.Helper()
	for _, org := range []string{"acme", "globex", "initech", "hooli", "umbrella", "stark", "wayne"} {
		switch owner := onCluster.Owner(f.keys.Connections(testkit.Org(t, org))); {
		case owner == onCluster.Masters[0] && here == "":
			here = org
		case owner != onCluster.Masters[0] && owner != nil && elsewhere == "":
			elsewhere = org
		}
	}
	if here == "" || elsewhere == "" {
		t.Fatalf("organizations: got %q and %q, want two on different masters", here, elsewhere)
	}
	return here, elsewhere
}

// testScriptsForgotten: a master that returns without the script gets it, in the middle of a
// renewal.
func testScriptsForgotten(t *testing.T) {
	t.Helper()
	f := newFixture(t)
	here, elsewhere := organizations(t, f)
	q := f.node(quota.Options{Limit: 3})
	for _, org := range []string{here, elsewhere} {
		if err := q.Take(t.Context(), testkit.Org(t, org)); err != nil {
			t.Fatal(err)
		}
	}
	forgetful := redis.NewClient(&redis.Options{Addr: onCluster.Masters[0].Addr})
	defer forgetful.Close()
	if err := forgetful.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for _, org := range []string{here, elsewhere} {
		if err := f.client.Del(t.Context(), f.keys.Connections(testkit.Org(t, org))).Err(); err != nil {
			t.Fatal(err)
		}
	}
	q.Renew(t.Context())
	for _, org := range []string{here, elsewhere} {
		if n, err := f.client.HLen(t.Context(), f.keys.Connections(testkit.Org(t, org))).Result(); n != 1 || err != nil {
			t.Errorf("%s: got %d reservations (%v), want 1", org, n, err)
		}
	}
}

// testShardAway: organizations of an unreachable master have to wait. The others do not, although
// all are renewed together, and although their master has lost the script.
func testShardAway(t *testing.T) {
	t.Helper()
	f := newFixture(t)
	here, elsewhere := organizations(t, f)
	q := f.node(quota.Options{Limit: 3})
	for _, org := range []string{here, elsewhere} {
		if err := q.Take(t.Context(), testkit.Org(t, org)); err != nil {
			t.Fatal(err)
		}
	}
	onCluster.Clear()
	onCluster.StopUntilEnd(t, onCluster.Masters[0])
	q.Renew(t.Context())
	if err := q.Take(t.Context(), testkit.Org(t, here)); !errors.Is(err, quota.ErrUnavailable) {
		t.Errorf("where the master is away: got %v, want ErrUnavailable", err)
	}
	testkit.Eventually(t, "the other one is counted", func() bool {
		n, err := f.client.HLen(t.Context(), f.keys.Connections(testkit.Org(t, elsewhere))).Result()
		return n == 1 && err == nil
	})
	if err := q.Take(t.Context(), testkit.Org(t, elsewhere)); err != nil {
		t.Errorf("where it is not: got %v, want nil", err)
	}
}
