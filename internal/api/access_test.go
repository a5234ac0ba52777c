package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"orgcast/internal/api"
)

const adminKey = "admin-key-of-thirty-two-bytes-ok"

// asked returns a request of a program on this machine, changed by the headers. Host and Remote
// are not headers, but stand there too.
func asked(headers map[string]string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v1/connections", http.NoBody)
	r.Host, r.RemoteAddr = "127.0.0.1:9090", "127.0.0.1:40000"
	for name, value := range headers {
		switch name {
		case "Host":
			r.Host = value
		case "Remote":
			r.RemoteAddr = value
		default:
			r.Header.Set(name, value)
		}
	}
	return r
}

// TestWithoutAdminKeyOnlyThisMachineReads: each of these gets through to a listener on a loopback
// address, and must not read anything.
func TestWithoutAdminKeyOnlyThisMachineReads(t *testing.T) {
	for name, test := range map[string]struct {
		public  bool // the listener is not a loopback address
		headers map[string]string
		want    string
	}{
		"a program on this machine":           {},
		"localhost":                           {headers: map[string]string{"Host": "localhost:9090"}},
		"LOCALHOST without a port":            {headers: map[string]string{"Host": "LOCALHOST"}},
		"IPv6":                                {headers: map[string]string{"Host": "[::1]:9090", "Remote": "[::1]:40000"}},
		"IPv6 without a port":                 {headers: map[string]string{"Host": "[::1]", "Remote": "[::1]:40000"}},
		"IPv4 in IPv6":                        {headers: map[string]string{"Remote": "[::ffff:127.0.0.1]:40000"}},
		"the gateway's own page":              {headers: map[string]string{"Origin": "http://127.0.0.1:9090", "Sec-Fetch-Site": "same-origin"}},
		"typed into a browser":                {headers: map[string]string{"Sec-Fetch-Site": "none"}},
		"with a key that is not set":          {headers: map[string]string{"Authorization": "Bearer " + adminKey}},
		"public listener":                     {public: true, want: "admin_key_required"},
		"public listener with an empty key":   {public: true, headers: map[string]string{"Authorization": "Bearer "}, want: "admin_key_required"},
		"public listener and the publish key": {public: true, headers: map[string]string{"Authorization": "Bearer publish-key"}, want: "admin_key_required"},
		"public listener and a loopback Host": {public: true, headers: map[string]string{"Host": "localhost"}, want: "admin_key_required"},
		"another machine":                     {headers: map[string]string{"Remote": "10.1.2.3:40000"}, want: "admin_key_required"},
		"proxy on this machine":               {headers: map[string]string{"X-Forwarded-For": "203.0.113.7"}, want: "admin_key_required"},
		"proxy that says Forwarded":           {headers: map[string]string{"Forwarded": "for=203.0.113.7"}, want: "admin_key_required"},
		"proxy that says Via":                 {headers: map[string]string{"Via": "1.1 proxy"}, want: "admin_key_required"},
		"proxy that says X-Real-IP":           {headers: map[string]string{"X-Real-IP": "203.0.113.7"}, want: "admin_key_required"},
		"DNS rebinding":                       {headers: map[string]string{"Host": "evil.example:9090"}, want: "host_not_loopback"},
		"DNS rebinding, same origin":          {headers: map[string]string{"Host": "evil.example:9090", "Origin": "http://evil.example:9090", "Sec-Fetch-Site": "same-origin"}, want: "host_not_loopback"},
		"a name that begins like an address":  {headers: map[string]string{"Host": "127.0.0.1.evil.example:9090"}, want: "host_not_loopback"},
		"a name that ends like localhost":     {headers: map[string]string{"Host": "evil-localhost:9090"}, want: "host_not_loopback"},
		"a name below localhost":              {headers: map[string]string{"Host": "evil.localhost:9090"}, want: "host_not_loopback"},
		"any address":                         {headers: map[string]string{"Host": "0.0.0.0:9090"}, want: "host_not_loopback"},
		"no host":                             {headers: map[string]string{"Host": ""}, want: "host_not_loopback"},
		"page of another site":                {headers: map[string]string{"Sec-Fetch-Site": "cross-site"}, want: "page_not_allowed"},
		"page of another port":                {headers: map[string]string{"Sec-Fetch-Site": "same-site"}, want: "page_not_allowed"},
		"old browser, another site":           {headers: map[string]string{"Origin": "https://evil.example"}, want: "page_not_allowed"},
		"old browser, another port":           {headers: map[string]string{"Origin": "http://127.0.0.1:3000"}, want: "page_not_allowed"},
		"page without an origin":              {headers: map[string]string{"Origin": "null"}, want: "page_not_allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := api.OpensAdmin(api.NewKey(""), !test.public, asked(test.headers)); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestAdminKeyOpens: with an admin key, that key counts and nothing else: neither the publish key
// nor the place of the caller.
func TestAdminKeyOpens(t *testing.T) {
	for name, test := range map[string]struct {
		headers map[string]string
		want    string
	}{
		"the key":                    {headers: map[string]string{"Authorization": "Bearer " + adminKey}},
		"from elsewhere":             {headers: map[string]string{"Authorization": "Bearer " + adminKey, "Host": "gateway-1:9090", "Remote": "10.1.2.3:1", "X-Forwarded-For": "10.1.2.4"}},
		"no key on this machine":     {want: "unauthenticated"},
		"the publish key":            {headers: map[string]string{"Authorization": "Bearer publish-key"}, want: "unauthenticated"},
		"another key":                {headers: map[string]string{"Authorization": "Bearer " + adminKey + "x"}, want: "unauthenticated"},
		"the beginning of the key":   {headers: map[string]string{"Authorization": "Bearer " + adminKey[:31]}, want: "unauthenticated"},
		"the key without its scheme": {headers: map[string]string{"Authorization": adminKey}, want: "unauthenticated"},
		"another scheme":             {headers: map[string]string{"Authorization": "Basic " + adminKey}, want: "unauthenticated"},
		"an empty key":               {headers: map[string]string{"Authorization": "Bearer "}, want: "unauthenticated"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, local := range []bool{true, false} {
				if got := api.OpensAdmin(api.NewKey(adminKey), local, asked(test.headers)); got != test.want {
					t.Errorf("local=%t: got %q, want %q", local, got, test.want)
				}
			}
		})
	}
}

// TestAdminKeyIsReplaced: a reload that sets the key closes the paths for programs without it at
// once, and the previous key is good no more.
func TestAdminKeyIsReplaced(t *testing.T) {
	k := api.NewKey("")
	check := func(want map[string]string) {
		t.Helper()
		for token, code := range want {
			if got := api.OpensAdmin(k, true, asked(map[string]string{"Authorization": "Bearer " + token})); got != code {
				t.Errorf("with %q: got %q, want %q", token, got, code)
			}
		}
	}
	check(map[string]string{"": "", "old": "", "new": ""})
	k.Set("old")
	check(map[string]string{"": "unauthenticated", "old": "", "new": "unauthenticated"})
	k.Set("new")
	check(map[string]string{"": "unauthenticated", "old": "unauthenticated", "new": ""})
}

// TestWhichKeyOpensWhat: publishing needs the publish key, revoking either. The admin key publishes
// nothing, and programs on this machine need a key for both.
func TestWhichKeyOpensWhat(t *testing.T) {
	const neither, publish, admin = "", "publish", "admin"
	bodies := map[string]string{"/v1/publish": `[]`, "/v1/revoke": `{"type":"user.disabled","user_id":"ada"}`}
	for name, test := range map[string]struct {
		set  map[string]string // the keys that the gateway has
		want map[string]int    // path and shown key → status
	}{
		"both": {map[string]string{publish: key, admin: adminKey}, map[string]int{
			"/v1/publish publish": 200, "/v1/publish admin": 401, "/v1/publish ": 401, "/v1/revoke publish": 200, "/v1/revoke admin": 200, "/v1/revoke ": 401,
		}},
		"publish key": {map[string]string{publish: key}, map[string]int{
			"/v1/publish publish": 200, "/v1/publish admin": 401, "/v1/publish ": 401, "/v1/revoke publish": 200, "/v1/revoke admin": 401, "/v1/revoke ": 401,
		}},
		"admin key": {map[string]string{admin: adminKey}, map[string]int{
			"/v1/publish publish": 404, "/v1/publish admin": 404, "/v1/publish ": 404, "/v1/revoke publish": 401, "/v1/revoke admin": 200, "/v1/revoke ": 401,
		}},
		"none": {nil, map[string]int{
			"/v1/publish publish": 404, "/v1/publish admin": 404, "/v1/publish ": 404, "/v1/revoke publish": 404, "/v1/revoke admin": 404, "/v1/revoke ": 404,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := api.New(api.Options{
				PublishKey: api.NewKey(test.set[publish]), AdminKey: api.NewKey(test.set[admin]), Local: true,
				Publisher: new(recorder), Revoker: &revoker{recorded: true}, Log: nop,
			})
			shown := map[string]string{neither: "", publish: key, admin: adminKey}
			for request, want := range test.want {
				path, who, _ := strings.Cut(request, " ")
				r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(bodies[path]))
				r.Host, r.RemoteAddr = "127.0.0.1:9090", "127.0.0.1:40000"
				r.Header.Set("Authorization", "Bearer "+shown[who])
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != want {
					t.Errorf("%s: got %d %s, want %d", request, w.Code, w.Body, want)
				}
			}
		})
	}
}
