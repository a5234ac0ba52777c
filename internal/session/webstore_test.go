package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

// site is a web application that knows some cookies.
type site struct {
	takes time.Duration // for each answer

	mu      sync.Mutex
	says    map[string]string // of cookies, in JSON
	asked   [][]string        // each question's cookies
	longest int
	status  int    // 0: 200
	body    string // instead of what says has
	err     error
}

func (s *site) Ask(ctx context.Context, question []byte) (int, []byte, error) {
	var q struct {
		Version int      `json:"v"`
		Cookies []string `json:"cookies"`
	}
	if err := json.Unmarshal(question, &q); err != nil || q.Version != 1 {
		return 0, nil, fmt.Errorf("question %s: version %d, %w", question, q.Version, err)
	}
	s.mu.Lock()
	s.asked = append(s.asked, q.Cookies)
	s.longest = max(s.longest, len(question))
	status, body, err := s.status, s.body, s.err
	if status == 0 {
		status = http.StatusOK
	}
	if body == "" {
		list := make([]string, len(q.Cookies))
		for i, c := range q.Cookies {
			if list[i] = s.says[c]; list[i] == "" {
				list[i] = `{"code":"none"}`
			}
		}
		body = `{"identities":[` + strings.Join(list, ",") + `]}`
	}
	s.mu.Unlock()
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
	return status, []byte(body), err
}

// set changes what it says of a cookie.
func (s *site) set(cookie, says string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.says == nil {
		s.says = make(map[string]string)
	}
	s.says[cookie] = says
}

func (s *site) questions() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func newWebStore(tb testing.TB, s *site, change func(*session.WebOptions)) *session.WebStore {
	tb.Helper()
	o := session.WebOptions{Cookie: "sessionid", Ask: s, Now: func() time.Time { return start }}
	if change != nil {
		change(&o)
	}
	store, err := session.NewWebStore(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(store.Close)
	return store
}

// ada is what a site says of a user who is logged in.
const ada = `{"user_id":7,"active_organization_id":"acme","role":"admin","expires_at":1767229260}`

// TestWebStoreAnswers: each form of an answer has one meaning. What has no valid form says nothing about the user,
// who may be logged in, and says nothing about the others of the same question.
func TestWebStoreAnswers(t *testing.T) {
	identity := session.Identity{
		UserID: "7", Organization: testkit.Org(t, "acme"), SessionID: session.DeriveID("c"), Role: "admin", Expires: time.Unix(1767229260, 0),
	}
	without := func(change func(*session.Identity)) session.Identity {
		id := identity
		change(&id)
		return id
	}
	for name, test := range map[string]struct {
		says string
		want session.Identity
		err  error
	}{
		"ada":                       {says: ada, want: identity},
		"as text":                   {says: `{"user_id":"7","active_organization_id":"acme","role":"admin","expires_at":1767229260}`, want: identity},
		"more fields":               {says: strings.Replace(ada, "{", `{"name":"Ada","code":null,`, 1), want: identity},
		"names the session":         {says: strings.Replace(ada, "{", `{"session_id":"0f3a",`, 1), want: without(func(i *session.Identity) { i.SessionID = "0f3a" })},
		"session null":              {says: strings.Replace(ada, "{", `{"session_id":null,`, 1), want: identity},
		"session empty":             {says: strings.Replace(ada, "{", `{"session_id":"",`, 1), err: session.ErrUnavailable},
		"session not a name":        {says: strings.Replace(ada, "{", `{"session_id":"a b",`, 1), err: session.ErrUnavailable},
		"session a number":          {says: strings.Replace(ada, "{", `{"session_id":7,`, 1), err: session.ErrUnavailable},
		"no role":                   {says: `{"user_id":7,"active_organization_id":"acme","expires_at":1767229260}`, want: without(func(i *session.Identity) { i.Role = "" })},
		"role null":                 {says: `{"user_id":7,"active_organization_id":"acme","role":null,"expires_at":1767229260}`, want: without(func(i *session.Identity) { i.Role = "" })},
		"without organization":      {says: `{"user_id":7,"active_organization_id":null,"role":"admin","expires_at":1767229260}`, want: without(func(i *session.Identity) { i.Organization = orgctx.ID{} })},
		"none":                      {says: `{"code":"none"}`, err: session.ErrNone},
		"no organization":           {says: `{"code":"no_organization"}`, err: orgctx.ErrNoOrganization},
		"forbidden":                 {says: `{"code":"forbidden"}`, err: session.ErrDisabled},
		"forbidden and named":       {says: strings.Replace(ada, "{", `{"code":"forbidden",`, 1), err: session.ErrDisabled},
		"expired":                   {says: strings.Replace(ada, "1767229260", "1767225660", 1), err: session.ErrExpired},
		"unknown code":              {says: `{"code":"maybe"}`, err: session.ErrUnavailable},
		"code is a number":          {says: `{"code":1}`, err: session.ErrUnavailable},
		"empty":                     {says: `{}`, err: session.ErrUnavailable},
		"null":                      {says: `null`, err: session.ErrUnavailable},
		"a list":                    {says: `[]`, err: session.ErrUnavailable},
		"user is true":              {says: strings.Replace(ada, "7", "true", 1), err: session.ErrUnavailable},
		"user is 7.0":               {says: strings.Replace(ada, "7", "7.0", 1), err: session.ErrUnavailable},
		"user has a line end":       {says: strings.Replace(ada, "7", `"a\nsecret"`, 1), err: session.ErrUnavailable},
		"organization is an object": {says: strings.Replace(ada, `"acme"`, "{}", 1), err: session.ErrUnavailable},
		"organization has braces":   {says: strings.Replace(ada, `acme`, "{a}", 1), err: session.ErrUnavailable},
		"role is a list":            {says: strings.Replace(ada, `"admin"`, `["admin"]`, 1), err: session.ErrUnavailable},
		"role has a space":          {says: strings.Replace(ada, `admin`, `a b`, 1), err: session.ErrUnavailable},
		"never expires":             {says: `{"user_id":7,"active_organization_id":"acme"}`, err: session.ErrUnavailable},
		"expires as text":           {says: strings.Replace(ada, "1767229260", `"1767229260"`, 1), err: session.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s := new(site)
			s.set("c", test.says)
			s.set("other", ada)
			store := newWebStore(t, s, nil)
			got, err := store.Resolve(t.Context(), request("sessionid=c"))
			if !errors.Is(err, test.err) || got != test.want {
				t.Errorf("got %+v, %v, want %+v, %v", got, err, test.want, test.err)
			}
			if test.err != nil && err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%v quotes the answer", err)
			}
			held := []session.Held{{Identity: identity, Ticket: "c"}, {Identity: without(func(i *session.Identity) { i.SessionID = session.DeriveID("other") }), Ticket: "other"}}
			if other := store.Recheck(t.Context(), held)[1]; other.Err != nil {
				t.Errorf("the other user of that question: got %v", other.Err)
			}
		})
	}
}

// TestWebStoreUnavailable: an answer that is none says nothing about anybody.
func TestWebStoreUnavailable(t *testing.T) {
	for name, test := range map[string]struct {
		site *site
		want string
	}{
		"500":       {site: &site{status: 500}, want: "answered 500"},
		"302":       {site: &site{status: 302}, want: "answered 302"},
		"401":       {site: &site{status: 401}, want: "does not accept the key"},
		"403":       {site: &site{status: 403}, want: "does not accept the key"},
		"404":       {site: &site{status: 404}, want: "nothing answers at this path"},
		"network":   {site: &site{err: errors.New("no route")}, want: "no route"},
		"HTML":      {site: &site{body: "<html>"}, want: "is not JSON"},
		"null":      {site: &site{body: "null"}, want: "0 of 1 cookies"},
		"too few":   {site: &site{body: `{"identities":[]}`}, want: "0 of 1 cookies"},
		"too many":  {site: &site{body: `{"identities":[` + ada + `,` + ada + `]}`}, want: "2 of 1 cookies"},
		"an object": {site: &site{body: `{"identities":{"0":` + ada + `}}`}, want: "is not JSON"},
		"nothing":   {site: &site{body: " "}, want: "is not JSON"},
		"trailing":  {site: &site{body: `{"identities":[` + ada + `]} x`}, want: "is not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			store := newWebStore(t, test.site, nil)
			_, err := store.Resolve(t.Context(), request("sessionid=c"))
			if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Resolve: got %v, want unavailable, %s", err, test.want)
			}
			standing := store.Recheck(t.Context(), []session.Held{{Identity: session.Identity{UserID: "7"}, Ticket: "c"}})[0]
			if !errors.Is(standing.Err, session.ErrUnavailable) {
				t.Errorf("Recheck: got %v, want unavailable", standing.Err)
			}
			if !store.Answered().IsZero() {
				t.Error("that counts as an answer")
			}
		})
	}
}

// TestWebStoreCookies: the value goes out as it stands in the header, and of equal names the one that the site
// takes. What no browser would send as a session cookie is refused without a question.
func TestWebStoreCookies(t *testing.T) {
	for name, test := range map[string]struct {
		header      string
		first, last string // asked about; "" for no question
		err         error
	}{
		"one":               {header: "a=1; sessionid=c; b=2", first: "c", last: "c"},
		"two":               {header: "sessionid=c; sessionid=d", first: "c", last: "d"},
		"other name":        {header: "sessionid2=c; xsessionid=d", err: session.ErrNone},
		"quoted":            {header: `sessionid="c\"<&"`, first: `"c\"<&"`, last: `"c\"<&"`},
		"signed":            {header: "sessionid=s%3Aabc.d+e/f==", first: "s%3Aabc.d+e/f==", last: "s%3Aabc.d+e/f=="},
		"empty":             {header: "sessionid=", err: session.ErrNone},
		"no equals":         {header: "sessionid", err: session.ErrNone},
		"not ASCII":         {header: "sessionid=\xc3\xa4", err: session.ErrInvalid},
		"control":           {header: "sessionid=a\x01b", err: session.ErrInvalid},
		"very long":         {header: "sessionid=" + strings.Repeat("x", 16<<10+1), err: session.ErrInvalid},
		"as long as may be": {header: "sessionid=" + strings.Repeat("x", 16<<10), first: strings.Repeat("x", 16<<10), last: strings.Repeat("x", 16<<10)},
	} {
		for pick, want := range map[session.Pick]string{session.PickFirst: test.first, session.PickLast: test.last} {
			t.Run(name+", "+string(pick), func(t *testing.T) {
				s := new(site)
				s.set(want, ada)
				store := newWebStore(t, s, func(o *session.WebOptions) { o.Pick = pick })
				_, err := store.Resolve(t.Context(), request(test.header))
				if !errors.Is(err, test.err) {
					t.Errorf("got %v, want %v", err, test.err)
				}
				var wanted [][]string
				if want != "" {
					wanted = [][]string{{want}}
				}
				if got := s.questions(); fmt.Sprint(got) != fmt.Sprint(wanted) {
					t.Errorf("asked %.100q, want %.100q", got, wanted)
				}
				if got := store.Ticket(request(test.header)); got != want {
					t.Errorf("the ticket is %.100q, want %.100q", got, want)
				}
			})
		}
	}
}

// TestWebStoreRecheck: what the site says now, held against what the connection was admitted with.
func TestWebStoreRecheck(t *testing.T) {
	held := session.Held{Ticket: "c", Identity: session.Identity{UserID: "7", Organization: testkit.Org(t, "acme"), Role: "admin", Expires: start.Add(time.Minute)}}
	for name, test := range map[string]struct {
		says string
		want session.Standing
	}{
		"stands":          {says: ada, want: session.Standing{Expires: time.Unix(1767229260, 0), Role: "admin"}},
		"another role":    {says: strings.Replace(ada, "admin", "viewer", 1), want: session.Standing{Expires: time.Unix(1767229260, 0), Role: "viewer"}},
		"logged out":      {says: `{"code":"none"}`, want: session.Standing{Err: session.ErrStale}},
		"expired":         {says: strings.Replace(ada, "1767229260", "1", 1), want: session.Standing{Err: session.ErrStale}},
		"shut out":        {says: `{"code":"forbidden"}`, want: session.Standing{Err: session.ErrDisabled}},
		"somebody else":   {says: strings.Replace(ada, "7", "8", 1), want: session.Standing{Err: session.ErrEnded}},
		"switched":        {says: strings.Replace(ada, "acme", "globex", 1), want: session.Standing{Err: session.ErrSwitched}},
		"no organization": {says: `{"code":"no_organization"}`, want: session.Standing{Err: session.ErrSwitched}},
		"null":            {says: strings.Replace(ada, `"acme"`, "null", 1), want: session.Standing{Err: session.ErrSwitched}},
	} {
		t.Run(name, func(t *testing.T) {
			s := new(site)
			s.set("c", test.says)
			got := newWebStore(t, s, nil).Recheck(t.Context(), []session.Held{held})[0]
			if !got.Expires.Equal(test.want.Expires) || got.Role != test.want.Role || !errors.Is(got.Err, test.want.Err) || (got.Err != nil) != (test.want.Err != nil) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestWebStoreAsksOnceAboutASession: connections that share a session share its question, and many sessions are asked
// about in batches of at most so many cookies and so many bytes.
func TestWebStoreAsksOnceAboutASession(t *testing.T) {
	s := new(site)
	store := newWebStore(t, s, func(o *session.WebOptions) { o.Batch = 10 })
	var held []session.Held
	for i := range 60 {
		held = append(held, session.Held{Ticket: fmt.Sprint("c", i%25)})
	}
	held = append(held, session.Held{}) // has no ticket
	for i, standing := range store.Recheck(t.Context(), held) {
		if !errors.Is(standing.Err, session.ErrStale) {
			t.Errorf("of %d: got %v", i, standing.Err)
		}
	}
	var sizes []int
	seen := make(map[string]bool)
	for _, cookies := range s.questions() {
		sizes = append(sizes, len(cookies))
		for _, c := range cookies {
			if seen[c] {
				t.Errorf("asked about %s twice", c)
			}
			seen[c] = true
		}
	}
	slices.Sort(sizes)
	if !slices.Equal(sizes, []int{5, 10, 10}) {
		t.Errorf("questions about %v cookies, want 5, 10 and 10", sizes)
	}

	long := new(site)
	store = newWebStore(t, long, nil)
	held = nil
	for i := range 100 {
		held = append(held, session.Held{Ticket: fmt.Sprintf("%0*d", 16<<10, i)})
	}
	store.Recheck(t.Context(), held)
	if n := len(long.questions()); n != 2 || long.longest > 900<<10+100 {
		t.Errorf("%d questions of at most %d bytes about 1.6 MB of cookies, want 2 of at most 900 KiB", n, long.longest)
	}
}

// TestWebStoreGathers: pages that come at the same time share questions, so that a site is asked a few times when
// all come back.
func TestWebStoreGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{takes: 25 * time.Millisecond}
		store := newWebStore(t, s, nil)
		var pages sync.WaitGroup
		for i := range 1000 {
			time.Sleep(200 * time.Microsecond) // 1,000 in 200 ms
			cookie := fmt.Sprint("c", i)
			s.set(cookie, strings.Replace(ada, "7", fmt.Sprint(i+1), 1))
			pages.Go(func() {
				id, err := store.Resolve(t.Context(), request("sessionid="+cookie))
				if want := fmt.Sprint(i + 1); err != nil || id.UserID != want {
					t.Errorf("got user %q, %v, want %s", id.UserID, err, want)
				}
			})
		}
		pages.Wait()
		if n := len(s.questions()); n > 10 {
			t.Errorf("%d questions, want at most 10", n)
		}
	})
}

// TestWebStoreOneSlowQuestion delays no other for long.
func TestWebStoreOneSlowQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{takes: time.Minute}
		store := newWebStore(t, s, nil)
		go func() { _, _ = store.Resolve(t.Context(), request("sessionid=slow")) }()
		time.Sleep(time.Second)
		begun := time.Now()
		go func() { _, _ = store.Resolve(t.Context(), request("sessionid=next")) }()
		for len(s.questions()) < 2 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		if waited := time.Since(begun); waited > 60*time.Millisecond {
			t.Errorf("asked after %v, want 50 ms", waited)
		}
	})
}

// TestWebStoreNeverTakesAnOlderAnswer: what was asked before a page came may have been answered before it was
// revoked.
func TestWebStoreNeverTakesAnOlderAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{takes: time.Second}
		s.set("c", ada)
		store := newWebStore(t, s, nil)
		var pages sync.WaitGroup
		pages.Go(func() {
			if _, err := store.Resolve(t.Context(), request("sessionid=c")); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(100 * time.Millisecond) // it is under way
		s.set("c", `{"code":"none"}`)
		pages.Go(func() {
			if _, err := store.Resolve(t.Context(), request("sessionid=c")); !errors.Is(err, session.ErrNone) {
				t.Errorf("got %v, want none", err)
			}
		})
		pages.Wait()
	})
}

// TestWebStoreAskerLeaves: a question that nobody waits for any more is not asked, and one that others wait for is.
func TestWebStoreAskerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(site)
		s.set("both", ada)
		store := newWebStore(t, s, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var pages sync.WaitGroup
		for _, cookie := range []string{"left", "both"} {
			pages.Go(func() {
				if _, err := store.Resolve(ctx, request("sessionid="+cookie)); !errors.Is(err, session.ErrUnavailable) {
					t.Errorf("%s: got %v, want unavailable", cookie, err)
				}
			})
		}
		synctest.Wait()
		pages.Go(func() {
			if _, err := store.Resolve(t.Context(), request("sessionid=both")); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		pages.Wait()
		if got := s.questions(); len(got) != 1 || !slices.Equal(got[0], []string{"both"}) {
			t.Errorf("asked %q, want one question about the cookie that someone waits for", got)
		}
	})
}

// TestWebStoreClose ends the wait of everybody and refuses further questions.
func TestWebStoreClose(t *testing.T) {
	s := new(site)
	store := newWebStore(t, s, nil)
	store.Close()
	if _, err := store.Resolve(t.Context(), request("sessionid=c")); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
}

// TestWebStoreBoundsQuestions: what strangers make it hold while the site does not answer has a bound in bytes.
func TestWebStoreBoundsQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{takes: time.Minute}
		store := newWebStore(t, s, nil)
		var pages sync.WaitGroup
		var mu sync.Mutex
		refused := 0
		for i := range 3000 { // 48 MB
			pages.Go(func() {
				_, err := store.Resolve(t.Context(), request(fmt.Sprintf("sessionid=%0*d", 16<<10, i)))
				if errors.Is(err, session.ErrUnavailable) && strings.Contains(err.Error(), "too many") {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			})
		}
		pages.Wait()
		if refused < 900 || refused > 1000 {
			t.Errorf("%d of 3000 were refused, want what exceeds 32 MiB", refused)
		}
	})
}

// FuzzWebAnswer: no answer makes a user of another one's cookie, and none brings the node down.
func FuzzWebAnswer(f *testing.F) {
	for _, seed := range []string{`{"identities":[` + ada + `]}`, `{"identities":[{"code":"none"}]}`, `{"identities":[null]}`, `{"identities":[]}`, `null`, `{`, `{"identities":[{"user_id":1e3,"expires_at":1}]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if body == "" {
			return // the site's own answer
		}
		store := newWebStore(t, &site{body: body}, nil)
		standing := store.Recheck(t.Context(), []session.Held{{Ticket: "c", Identity: session.Identity{UserID: "7", Organization: testkit.Org(t, "acme")}}})[0]
		if standing.Err == nil && !standing.Expires.After(start) {
			t.Errorf("%q: stands until %v", body, standing.Expires)
		}
		id, err := store.Resolve(t.Context(), request("sessionid=c"))
		if err == nil && (!orgctx.ValidUserID(id.UserID) || id.SessionID != session.DeriveID("c") || id.Role != "" && !orgctx.ValidRole(id.Role)) {
			t.Errorf("%q: got %+v", body, id)
		}
	})
}
