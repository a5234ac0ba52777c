package consumer_test

import (
	"strings"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var signingKey = []byte("fedcba9876543210fedcba9876543210")

func mustPolicy(tb testing.TB, text string) *consumer.Policy {
	tb.Helper()
	p, err := consumer.ParsePolicy(text, signingKey)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestParsePolicy(t *testing.T) {
	for text, good := range map[string]bool{
		consumer.DefaultPolicy:               true,
		"all=member":                         true,
		" all=member , b.*=self ":            true,
		"*=signed":                           true,
		"a=role:admin":                       true,
		"":                                   false,
		"all":                                false,
		"all=":                               false,
		"=member":                            false,
		"all=everyone":                       false,
		"all=Member":                         false,
		"all= member":                        false,
		"all=role:":                          false,
		"all=role:a b":                       false,
		"a**=member":                         false,
		"*a=member":                          false,
		"ü=member":                           false,
		"a=member,":                          false,
		"a=member,,b=member":                 false,
		"a=member=self":                      false,
		"}:group:=member":                    false,
		strings.Repeat("a", 101) + "=member": false,
	} {
		if _, err := consumer.ParsePolicy(text, nil); (err == nil) != good {
			t.Errorf("ParsePolicy(%q): got %v, want good: %t", text, err, good)
		}
	}
}

func TestPolicyAllows(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	secret := testkit.Group(t, "acme", "secret")
	good := consumer.SignGroup(signingKey, secret, now.Add(time.Minute))
	tests := map[string]struct {
		policy       string // default consumer.DefaultPolicy
		user, role   string // default user 4
		group        string
		organization string // of the group; default acme
		token        string
		want         bool
	}{
		"member":                       {group: "all", want: true},
		"below a prefix":               {group: "room.7", want: true},
		"the prefix itself":            {group: "room.", want: true},
		"not quite the prefix":         {group: "roomy", token: ""},
		"exact is exact":               {group: "all.more"},
		"foreign organization":         {group: "all", organization: "globex"},
		"foreign, signed":              {group: "secret", organization: "globex", token: consumer.SignGroup(signingKey, testkit.Group(t, "globex", "secret"), now.Add(time.Minute))},
		"self":                         {group: "user.4", want: true},
		"self, below":                  {group: "user.4.drafts", want: true},
		"self is no prefix":            {group: "user.42"},
		"self is no prefix, other way": {user: "42", group: "user.4"},
		"self, dash":                   {group: "user.4-2"},
		"self, no user":                {group: "user."},
		"self, hashed":                 {user: "ada.inbox", group: "user..WdEKm10ZDdmtgGyiIDQkfxZfCxdI9rIfBTOindRa5K4", want: true},
		"self, below the hash":         {user: "ada.inbox", group: "user..WdEKm10ZDdmtgGyiIDQkfxZfCxdI9rIfBTOindRa5K4.x", want: true},
		"self, hash of another":        {user: "ada", group: "user..WdEKm10ZDdmtgGyiIDQkfxZfCxdI9rIfBTOindRa5K4"},
		"self, cut hash":               {user: "ada.inbox", group: "user..WdEKm10ZDdmtgGyiIDQkfxZfCxdI9rIfBTOindRa5K"},
		"self, id with a dot":          {user: "ada.inbox", group: "user.ada.inbox"},
		"self, id of dots":             {user: "..", group: "user.."},
		"self, id that is a hash":      {user: ".WdEKm10ZDdmtgGyiIDQkfxZfCxdI9rIfBTOindRa5K4", group: "user..WdEKm10ZDdmtgGyiIDQkfxZfCxdI9rIfBTOindRa5K4"},
		"role of a provider":           {policy: "a=role:org:admin.eu, *=member", role: "org:admin.eu", group: "a", want: true},
		"role of a provider, cut":      {policy: "a=role:org:admin.eu, *=member", role: "org:admin", group: "a"},
		"self outside user.":           {policy: "*=self", group: "4"},
		"role":                         {role: "admin", group: "role.admin", want: true},
		"no role":                      {group: "role.admin"},
		"other role":                   {role: "admins", group: "role.admin"},
		"role in capitals":             {role: "Admin", group: "role.admin"},
		"first rule decides":           {policy: "a=role:x, *=member", group: "a"},
		"no rule":                      {policy: "all=member", group: "other"},
		"signed":                       {group: "secret", token: good, want: true},
		"signed, no token":             {group: "secret"},
		"signed, other group":          {group: "secret2", token: good},
		"signed, shorter name":         {group: "secre", token: good},
		"signed, at its end":           {group: "secret", token: consumer.SignGroup(signingKey, secret, now)},
		"signed, expired":              {group: "secret", token: consumer.SignGroup(signingKey, secret, now.Add(-time.Second))},
		"signed, in milliseconds":      {group: "secret", token: consumer.SignGroup(signingKey, secret, time.Unix(now.UnixMilli()+60_000, 0))},
		"signed, wrong key":            {group: "secret", token: consumer.SignGroup([]byte("another key of thirty-two bytes!"), secret, now.Add(time.Minute))},
		"signed, cut":                  {group: "secret", token: good[:len(good)-2]},
		"signed, cut in the middle":    {group: "secret", token: good[:len(good)/2]},
		"signed, longer":               {group: "secret", token: good + "00"},
		"signed, no dot":               {group: "secret", token: strings.ReplaceAll(good, ".", "")},
		"signed, later":                {group: "secret", token: "9" + good},
		"signed, zero in front":        {group: "secret", token: "0" + good},
		"signed, plus in front":        {group: "secret", token: "+" + good},
		"signed, only time":            {group: "secret", token: "99999999999."},
		"signed, time too large":       {group: "secret", token: "99999999999999999999.00"},
		"signed, newline":              {group: "secret", token: good + "\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			policy := test.policy
			if policy == "" {
				policy = consumer.DefaultPolicy
			}
			who := session.Identity{UserID: "4", Role: test.role, Organization: secret.Organization()}
			if test.user != "" {
				who.UserID = test.user
			}
			org := "acme"
			if test.organization != "" {
				org = test.organization
			}
			g := testkit.Group(t, org, test.group)
			if got := mustPolicy(t, policy).Allows(who, g, test.token, now); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
	t.Run("no organization", func(t *testing.T) {
		if mustPolicy(t, "*=member").Allows(session.Identity{UserID: "4"}, secret, "", now) {
			t.Error("got true, want false")
		}
	})
	t.Run("no key, no token is good", func(t *testing.T) {
		p, err := consumer.ParsePolicy("*=signed", nil)
		if err != nil {
			t.Fatal(err)
		}
		who := session.Identity{UserID: "4", Organization: secret.Organization()}
		if p.Allows(who, secret, consumer.SignGroup(nil, secret, now.Add(time.Minute)), now) {
			t.Error("a token under the empty key: got true, want false")
		}
	})
}

// TestSignGroupVector fixes the form of tokens, because back ends in other languages compute them:
// printf 'orgcast.v1.group\nacme\nsecret\n1800000000' | openssl dgst -sha256 -hmac KEY.
func TestSignGroupVector(t *testing.T) {
	const want = "1800000000.ad264f2461ea23e228effac4a5a5ed8c0f88b8a3c39c3a272db907aa8ff12244"
	if got := consumer.SignGroup(signingKey, testkit.Group(t, "acme", "secret"), time.Unix(1_800_000_000, 0)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzParsePolicy(f *testing.F) {
	for _, seed := range []string{consumer.DefaultPolicy, "", "a=b", "*=member", "a*=role:x,b=self", "=", ",", "\x00=member"} {
		f.Add(seed, "all")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := consumer.ParsePolicy(text, signingKey)
		if (p == nil) != (err != nil) {
			t.Fatalf("got %v and %v", p, err)
		}
		if err != nil || !event.ValidGroupName(name) {
			return
		}
		who := session.Identity{UserID: "4", Organization: testkit.Group(t, "acme", "all").Organization()}
		if p.Allows(who, testkit.Group(t, "globex", name), "", time.Now()) {
			t.Errorf("policy %q lets acme into globex", text)
		}
	})
}

func FuzzToken(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	secret := testkit.Group(f, "acme", "secret")
	good := consumer.SignGroup(signingKey, secret, now.Add(time.Minute))
	for _, seed := range []string{good, "", ".", "1.", ".00", good + "0", strings.ToUpper(good), "-1.00"} {
		f.Add(seed)
	}
	p := mustPolicy(f, "*=signed")
	who := session.Identity{UserID: "4", Organization: secret.Organization()}
	f.Fuzz(func(t *testing.T, token string) {
		if got, want := p.Allows(who, secret, token, now), strings.ToLower(token) == good; got != want {
			t.Errorf("token %q: got %t, want %t", token, got, want)
		}
	})
}

func TestRegistry(t *testing.T) {
	routes := new(consumer.Registry)
	for _, pattern := range []string{"/ws/events", "/ws/connection_test/", "/ws/research/{research:int}/", "/ws/crew/{crew:id}/kanban/", "/ws/any/{what}", "/ws/any/first"} {
		if err := routes.Add(consumer.Route{Pattern: pattern, New: func() consumer.OrganizationAwareConsumer { return nil }}); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/ws/events":                        "/ws/events",
		"/ws/events/":                       "",
		"/ws/Events":                        "",
		"ws/events":                         "",
		"":                                  "",
		"/":                                 "",
		"/ws/connection_test/":              "/ws/connection_test/",
		"/ws/connection_test":               "",
		"/ws/connection_test//":             "",
		"/ws/research/7/":                   "/ws/research/{research:int}/",
		"/ws/research/9223372036854775807/": "/ws/research/{research:int}/",
		"/ws/research/9223372036854775808/": "",
		"/ws/research/-7/":                  "",
		"/ws/research/+7/":                  "",
		"/ws/research/07/":                  "",
		"/ws/research/٧/":                   "",
		"/ws/research/7 /":                  "",
		"/ws/research//":                    "",
		"/ws/crew/a_B-9/kanban/":            "/ws/crew/{crew:id}/kanban/",
		"/ws/crew/a.b/kanban/":              "",
		"/ws/crew/a/kanban":                 "",
		"/ws/crew/a/b/kanban/":              "",
		"/ws/any/x y":                       "/ws/any/{what}",
		"/ws/any/first":                     "/ws/any/{what}", // the earlier route wins
		"/ws/any/":                          "",
		"/ws/any/.":                         "",
		"/ws/any/..":                        "",
		"/ws/events\x00":                    "",
	} {
		route, params, ok := routes.Match(path)
		if !ok {
			if want != "" {
				t.Errorf("Match(%q): got nothing, want %s", path, want)
			}
			continue
		}
		if route.Pattern != want {
			t.Errorf("Match(%q): got %s, want %q", path, route.Pattern, want)
		}
		if path == "/ws/research/7/" && (params.Get("research") != "7" || params.Get("other") != "") {
			t.Errorf("params: got %v", params)
		}
	}
	for _, bad := range []string{"", "ws", "/a/{b", "/a/{}", "/a/{b:uuid}", "/a/{:int}"} {
		if err := new(consumer.Registry).Add(consumer.Route{Pattern: bad, New: func() consumer.OrganizationAwareConsumer { return nil }}); err == nil {
			t.Errorf("Add(%q): got nil, want an error", bad)
		}
	}
	if err := new(consumer.Registry).Add(consumer.Route{Pattern: "/a"}); err == nil {
		t.Error("Add without New: got nil, want an error")
	}
}

// TestEncodedPathIsAnotherPath: a proxy in front may refuse a path, or pass on only some. A path
// that is different to the proxy must be different here too, and each text of a parameter has one
// spelling.
func TestEncodedPathIsAnotherPath(t *testing.T) {
	routes := namedRoutes(t)
	for _, path := range []string{
		"/ws%2fevents", "/ws%2Fevents", "/ws/%65vents", "/%77s/events", "/ws/events%2f", "/ws/x%2f..%2fevents", "/ws/%2e/events", "/ws/./events",
		"/ws//events", "/ws/events%00", "/ws/events%20", "/ws/any%2ffirst", "/ws/number/%37", "/ws/number/7%2f8", "/ws/id/%61", "/ws/any/a%2fb", "/ws/any/a%5cb",
		"/ws/any/%2e", "/ws/any/%2e%2e", "/ws/any/.%2e", "/ws/any/%61", "/ws/any/a%00", "/ws/any/a%7f", "/ws/any/%ff", "/ws/any/%", "/ws/any/%4", "/ws/any/%zz",
	} {
		if route, params, ok := routes.Match(path); ok {
			t.Errorf("Match(%q): got %s with %v, want nothing", path, route.Pattern, params)
		}
	}
	for path, want := range map[string]string{
		"/ws/any/x%20y": "x y", "/ws/any/100%25": "100%", "/ws/any/%c3%bc": "ü", "/ws/any/%C3%BC": "ü", "/ws/any/a+b": "a+b", "/ws/any/what%3F": "what?",
	} {
		if _, params, ok := routes.Match(path); !ok || params.Get("what") != want {
			t.Errorf("Match(%q): got %v, %t, want %q", path, params, ok, want)
		}
	}
}

// namedRoutes are routes with a parameter of each form.
func namedRoutes(tb testing.TB) *consumer.Registry {
	tb.Helper()
	routes := new(consumer.Registry)
	for _, pattern := range []string{"/ws/events", "/ws/number/{n:int}", "/ws/id/{id:id}", "/ws/any/{what}"} {
		if err := routes.Add(consumer.Route{Pattern: pattern, New: func() consumer.OrganizationAwareConsumer { return nil }}); err != nil {
			tb.Fatal(err)
		}
	}
	return routes
}
