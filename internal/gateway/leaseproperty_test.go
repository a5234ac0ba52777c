package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"orgcast/internal/directory"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

// TestPropertyNothingAfterRevocation: random people of random organizations join, events are
// published, and sessions are ended, switched, removed and suspended. From the moment that the
// node knows, the connection gets no event any more; everybody else gets theirs; no
// isolation violation is prevented, because none was tried.
func TestPropertyNothingAfterRevocation(t *testing.T) {
	overEach(t, propertyNothingAfterRevocationOver)
}

func propertyNothingAfterRevocationOver(t *testing.T, over via) {
	t.Helper()
	var nodes []*leasing // one of each kind of store; each round takes one
	for _, kind := range storeKinds() {
		nodes = append(nodes, leaseNode(t, never, 2*never, way{over, kind}.setup()))
	}
	ctx := context.Background()
	var rounds, events atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.IntRange(0, len(nodes)-1).Draw(t, "store")
		t.Log("store", storeKinds()[kind].name)
		l := nodes[kind]
		round := "r" + strconv.FormatInt(rounds.Add(1), 10)
		orgs := []string{round + "a", round + "b"}
		users := []string{round + "u", round + "v"}
		for _, o := range orgs {
			_ = l.members.PutOrganization(ctx, orgOf(o), directory.Active)
			for _, u := range users {
				_ = l.members.PutMember(ctx, orgOf(o), u, directory.Active, directory.Member{})
			}
		}
		type person struct {
			listener
			seat
			user  string
			ended bool
		}
		var people []*person
		var readers sync.WaitGroup
		defer func() {
			for _, p := range people {
				_ = p.seat.Close()
			}
			readers.Wait()
		}()
		publish := func(org string) {
			channel := mustKeyspace(l.tb).GroupChannel(mustGroup(l.tb, org, "all"))
			payload := fmt.Sprintf(`{"type":"note","n":%d,"organization_id":"%s"}`, events.Add(1), org)
			heard := false
			for _, p := range people {
				if p.org == org && !p.ended {
					p.want = append(p.want, payload)
					heard = true
				}
			}
			if !heard {
				expectSilence(l.tb, l.client, channel)
			}
			if err := l.client.Publish(ctx, channel, payload).Err(); err != nil {
				t.Fatal(err)
			}
		}
		// What is under way may still reach those who come, and those who go or not. So both wait for it.
		settle := func() {
			for _, p := range people {
				testkit.Eventually(l.tb, "events arrive", func() bool { return len(p.frames()) >= len(p.want) })
			}
		}
		revoke := func(m lease.Message, is func(p *person) bool) {
			settle()
			l.keeper.Apply(m)
			for _, p := range people {
				p.ended = p.ended || is(p)
			}
		}
		for range rapid.IntRange(10, 40).Draw(t, "steps") {
			org, user := rapid.SampledFrom(orgs).Draw(t, "org"), rapid.SampledFrom(users).Draw(t, "user")
			switch rapid.IntRange(0, 9).Draw(t, "action") {
			case 0, 1, 2:
				settle()
				p := &person{seat: l.sit(user, org), user: user}
				p.listener.Client, p.listener.org = p.seat.Client, org
				people = append(people, p)
				readers.Go(p.read)
			case 3, 4, 5, 6:
				publish(org)
			case 7:
				if len(people) == 0 {
					continue
				}
				chosen := rapid.SampledFrom(people).Draw(t, "whose session")
				other := orgs[0]
				if chosen.org == other {
					other = orgs[1]
				}
				m := lease.Message{Type: lease.SessionEnded, SessionID: chosen.id}
				if rapid.Bool().Draw(t, "switch") {
					m = lease.Message{Type: lease.OrganizationSwitched, SessionID: chosen.id, Organization: orgOf(other)}
				}
				revoke(m, func(p *person) bool { return p == chosen })
			case 8:
				revoke(lease.Message{Type: lease.MemberRemoved, Organization: orgOf(org), UserID: user}, func(p *person) bool { return p.org == org && p.user == user })
			case 9:
				revoke(lease.Message{Type: lease.OrganizationSuspended, Organization: orgOf(org)}, func(p *person) bool { return p.org == org })
			}
		}
		for _, o := range orgs {
			publish(o)
		}
		for _, p := range people {
			testkit.Eventually(l.tb, "events arrive", func() bool { return len(p.frames()) >= len(p.want) })
			if p.ended {
				testkit.Eventually(l.tb, "the end arrives", func() bool {
					p.mu.Lock()
					defer p.mu.Unlock()
					return p.err != nil
				})
				if _, ok := errors.AsType[*testkit.ClosedError](p.err); !ok {
					t.Fatalf("end: got %v, want a close frame", p.err)
				}
			}
			if got := p.frames(); strings.Join(got, "\n") != strings.Join(p.want, "\n") {
				t.Fatalf("%s of %s, ended %v: got\n%s\nwant\n%s", p.user, p.org, p.ended, strings.Join(got, "\n"), strings.Join(p.want, "\n"))
			}
		}
		if got := l.gateway.Violations(); got != 0 {
			t.Fatalf("violations: got %d, want 0", got)
		}
	})
}

// orgOf is mustOrg for names that are known to be right.
func orgOf(text string) orgctx.ID {
	id, err := orgctx.ParseID(text)
	if err != nil {
		panic(err)
	}
	return id
}
