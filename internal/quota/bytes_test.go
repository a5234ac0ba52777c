package quota_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/orgctx"
	"orgcast/internal/quota"
	"orgcast/internal/testkit"
)

func (f fixture) bytes(o quota.BytesOptions) *quota.Bytes {
	return quota.NewBytes(f.client, f.client, f.keys, o)
}

func expectCharge(tb testing.TB, b *quota.Bytes, org orgctx.ID, user string, bytes int, want error) {
	tb.Helper()
	if err := b.Charge(tb.Context(), org, user, bytes); !errors.Is(err, want) {
		tb.Errorf("%d bytes of %s in %s: got %v, want %v", bytes, user, org, err, want)
	}
}

// TestMembersFillNoRedis: a user who writes as fast as possible reaches the user's limit, and all
// members together reach the organization's. Refused bytes are not charged. Other organizations are
// not affected, and neither is the user in another organization.
func TestMembersFillNoRedis(t *testing.T) {
	f := newFixture(t)
	b := f.bytes(quota.BytesOptions{PerOrganization: 1000, PerUser: 400})
	acme, globex := testkit.Org(t, "acme"), testkit.Org(t, "globex")
	expectCharge(t, b, acme, "ada", 300, nil)
	expectCharge(t, b, acme, "ada", 101, quota.ErrSpent)
	expectCharge(t, b, acme, "ada", 100, nil)
	expectCharge(t, b, acme, "ada", 1, quota.ErrSpent)
	expectCharge(t, b, acme, "bob", 400, nil)
	expectCharge(t, b, acme, "eve", 201, quota.ErrSpent) // of the organization's limit
	expectCharge(t, b, acme, "eve", 200, nil)
	expectCharge(t, b, acme, "eve", 1, quota.ErrSpent)
	expectCharge(t, b, globex, "ada", 400, nil)
	expectCharge(t, b, globex, "bob", 401, quota.ErrSpent)
}

// TestBytesOfTwoNodes: nodes that charge at once admit exactly as many bytes as allowed.
func TestBytesOfTwoNodes(t *testing.T) {
	f := newFixture(t)
	acme := testkit.Org(t, "acme")
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		b := f.bytes(quota.BytesOptions{PerOrganization: 1000})
		for range 8 {
			wg.Go(func() {
				for range 20 {
					switch err := b.Charge(context.WithoutCancel(t.Context()), acme, "ada", 7); {
					case err == nil:
						taken.Add(7)
					case !errors.Is(err, quota.ErrSpent):
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if got := taken.Load(); got != 994 {
		t.Errorf("taken: got %d, want 994 of 1000 in sevens", got)
	}
}

// TestBytesComeBack: buckets refill steadily over the period, without rounding losses, and a full
// bucket leaves no key in Redis.
func TestBytesComeBack(t *testing.T) {
	f := newFixture(t)
	b := f.bytes(quota.BytesOptions{PerOrganization: 1000, PerUser: 1000, Period: 500 * time.Millisecond})
	acme := testkit.Org(t, "acme")
	expectCharge(t, b, acme, "ada", 1000, nil)
	for range 3 { // each time as soon as a third is available again
		testkit.Eventually(t, "a third comes back", func() bool { return b.Charge(t.Context(), acme, "ada", 333) == nil })
	}
	testkit.Eventually(t, "full buckets are gone", func() bool {
		n, err := f.client.Exists(t.Context(), f.keys.MemberBytes(acme), f.keys.MemberBytesOf(acme, "ada")).Result()
		return err == nil && n == 0
	})
}

// TestBytesWhenTheClockJumps: if the clock is set back, written bytes are neither forgiven nor kept
// for longer than a period. If it is set forward, or the key is not a bucket, at most all written
// bytes are forgiven.
func TestBytesWhenTheClockJumps(t *testing.T) {
	f := newFixture(t)
	acme := testkit.Org(t, "acme")
	for name, test := range map[string]struct {
		text string
		want error
	}{
		"set back by an hour":    {"1000 9999999999999", quota.ErrSpent},
		"long ago":               {"1000 1", nil},
		"more than the limit":    {"1e300 9999999999999", quota.ErrSpent},
		"not understood":         {"x", nil},
		"empty":                  {"", nil},
		"a fraction below limit": {"999.5 9999999999999", quota.ErrSpent},
	} {
		b := f.bytes(quota.BytesOptions{PerOrganization: 1000})
		if err := f.client.Set(t.Context(), f.keys.MemberBytes(acme), test.text, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		if err := b.Charge(t.Context(), acme, "ada", 1); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
	b := f.bytes(quota.BytesOptions{PerOrganization: 1000, Period: 200 * time.Millisecond})
	if err := f.client.Set(t.Context(), f.keys.MemberBytes(acme), "1000 9999999999999", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it comes back from now on", func() bool { return b.Charge(t.Context(), acme, "ada", 500) == nil })
}

// TestBytesOfOneOrganization: the field of the organization's hash overrides the limit, also with
// no limit. It is ignored if it is not a number.
func TestBytesOfOneOrganization(t *testing.T) {
	f := newFixture(t)
	acme := testkit.Org(t, "acme")
	for text, want := range map[string]int{"10": 10, "0": 1 << 30, "x": 1000, "-1": 1000, "": 1000, "1e3": 1000, "9999999999999999": 1000} {
		b := f.bytes(quota.BytesOptions{PerOrganization: 1000})
		if err := errors.Join(f.client.Del(t.Context(), f.keys.MemberBytes(acme)).Err(),
			f.client.HSet(t.Context(), f.keys.Organization(acme), "max_member_bytes", text).Err()); err != nil {
			t.Fatal(err)
		}
		expectCharge(t, b, acme, "ada", want, nil)
		if want < 1<<30 {
			expectCharge(t, b, acme, "ada", 1, quota.ErrSpent)
		}
	}
}

// TestBytesWithoutRedis: bytes that cannot be charged must not be written. Without limits, Redis is
// not asked.
func TestBytesWithoutRedis(t *testing.T) {
	f := newFixture(t)
	away := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true})
	defer away.Close()
	acme := testkit.Org(t, "acme")
	expectCharge(t, quota.NewBytes(away, f.client, f.keys, quota.BytesOptions{PerOrganization: 1}), acme, "ada", 1, quota.ErrUnavailable)
	expectCharge(t, quota.NewBytes(away, f.client, f.keys, quota.BytesOptions{}), acme, "ada", 1, nil)
	expectCharge(t, quota.NewBytes(f.client, away, f.keys, quota.BytesOptions{PerOrganization: 1}), acme, "ada", 1, nil)
}
