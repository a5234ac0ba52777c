package orgctx_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestParseID(t *testing.T) {
	tests := map[string]struct {
		text string
		ok   bool
	}{
		"number":          {"7", true},
		"beyond 2^53":     {"9007199254740993", true},
		"UUID":            {"6e0c7f0e-1111-4222-8333-444455556666", true},
		"all kinds":       {"aZ09_-", true},
		"longest":         {strings.Repeat("a", orgctx.MaxIDLength), true},
		"empty":           {"", false},
		"too long":        {strings.Repeat("a", orgctx.MaxIDLength+1), false},
		"colon":           {"a:b", false},
		"closing brace":   {"a}", false},
		"opening brace":   {"{a", false},
		"glob":            {"*", false},
		"dot":             {"a.b", false},
		"slash":           {"a/b", false},
		"space":           {" a", false},
		"line end":        {"a\n", false},
		"NUL":             {"a\x00", false},
		"Latin letter":    {"é", false},
		"Cyrillic letter": {"а", false},
		"Arabic digit":    {"٧", false},
		"not UTF-8":       {"\xff", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			id, err := orgctx.ParseID(test.text)
			if orgctx.ValidID(test.text) != test.ok {
				t.Errorf("ValidID(%q): got %v, want %v", test.text, !test.ok, test.ok)
			}
			if !test.ok {
				if !errors.Is(err, orgctx.ErrInvalidID) || !id.IsZero() {
					t.Errorf("ParseID(%q): got %q, %v, want ErrInvalidID", test.text, id, err)
				}
				return
			}
			if err != nil || id.String() != test.text || id.IsZero() {
				t.Errorf("ParseID(%q): got %q, %v", test.text, id, err)
			}
			if id != testkit.Org(t, strings.Clone(test.text)) {
				t.Errorf("two IDs of %q differ", test.text)
			}
		})
	}
}

func TestIDAsText(t *testing.T) {
	got, err := json.Marshal(map[string]orgctx.ID{"some": testkit.Org(t, "acme"), "none": {}})
	if want := `{"none":"","some":"acme"}`; err != nil || string(got) != want {
		t.Errorf("Marshal: got %s, %v, want %s", got, err, want)
	}
}

func FuzzParseID(f *testing.F) {
	for _, seed := range []string{"", "7", "a:b", "a}", "é", "\x00", strings.Repeat("a", 64), strings.Repeat("a", 65), "a\n"} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`\A[A-Za-z0-9_-]{1,64}\z`)
	f.Fuzz(func(t *testing.T, text string) {
		id, err := orgctx.ParseID(text)
		if want := form.MatchString(text); (err == nil) != want {
			t.Fatalf("ParseID(%q): got %v, want ok %v", text, err, want)
		}
		if err == nil && id.String() != text || err != nil && !id.IsZero() {
			t.Errorf("ParseID(%q): got %q", text, id)
		}
	})
}

// from returns the organization of ctx as text, "" for none.
func from(ctx context.Context) string {
	id, ok := orgctx.From(ctx)
	if ok == id.IsZero() {
		return fmt.Sprintf("From says %v of %q", ok, id)
	}
	return id.String()
}

func TestContexts(t *testing.T) {
	acme, globex := testkit.Org(t, "acme"), testkit.Org(t, "globex")
	none := t.Context()
	outer := orgctx.With(none, acme)
	inner := orgctx.With(outer, globex)
	removed := orgctx.Without(inner)
	again := orgctx.With(removed, acme)
	child, cancel := context.WithCancel(outer)
	cancel()
	for name, test := range map[string]struct {
		ctx  context.Context //nolint:containedctx // what is tested
		want string
	}{
		"none": {none, ""}, "outer": {outer, "acme"}, "inner": {inner, "globex"},
		"removed": {removed, ""}, "again": {again, "acme"}, "ended child": {child, "acme"},
		"none removed": {orgctx.Without(none), ""},
	} {
		if got := from(test.ctx); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestWithRefusesNoOrganization(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("With(ctx, ID{}): got no panic, want one")
		}
	}()
	orgctx.With(t.Context(), orgctx.ID{})
}

var errUnknown = errors.New("unknown organization")

// directory knows the organizations that map to true.
type directory map[orgctx.ID]bool

func (d directory) OrganizationActive(_ context.Context, id orgctx.ID) error {
	if !d[id] {
		return errUnknown
	}
	return nil
}

func TestDo(t *testing.T) {
	acme := testkit.Org(t, "acme")
	errOwn := errors.New("own")
	tests := map[string]struct {
		id      orgctx.ID
		fnErr   error
		wantErr error
		runs    bool
	}{
		"known":           {acme, nil, nil, true},
		"unknown":         {testkit.Org(t, "globex"), nil, errUnknown, false},
		"no organization": {orgctx.ID{}, nil, orgctx.ErrNoOrganization, false},
		"error of fn":     {acme, errOwn, errOwn, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			runs := false
			err := orgctx.Do(t.Context(), directory{acme: true}, test.id, func(ctx context.Context) error {
				runs = true
				if got := from(ctx); got != test.id.String() {
					t.Errorf("in fn: got %q, want %q", got, test.id)
				}
				return test.fnErr
			})
			if !errors.Is(err, test.wantErr) || runs != test.runs {
				t.Errorf("got %v, ran %v, want %v, %v", err, runs, test.wantErr, test.runs)
			}
			if test.fnErr != nil && err != test.fnErr { //nolint:errorlint // the very error must come back
				t.Errorf("got %v, want the error of fn itself", err)
			}
		})
	}
}

func TestDoNests(t *testing.T) {
	acme, globex := testkit.Org(t, "acme"), testkit.Org(t, "globex")
	dir := directory{acme: true, globex: true}
	var seen []string
	err := orgctx.Do(t.Context(), dir, acme, func(outer context.Context) error {
		err := orgctx.Do(outer, dir, globex, func(inner context.Context) error {
			seen = append(seen, from(inner), from(outer))
			return nil
		})
		seen = append(seen, from(outer))
		return err
	})
	if got, want := fmt.Sprint(seen), "[globex acme acme]"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if got := from(t.Context()); got != "" {
		t.Errorf("after: got %q, want none", got)
	}
}

// The original left the organization of one task behind for the next when the task raised.
func TestPanicLeavesNoOrganizationBehind(t *testing.T) {
	acme, globex := testkit.Org(t, "acme"), testkit.Org(t, "globex")
	ctx := orgctx.With(t.Context(), globex)
	func() {
		defer func() {
			if got := recover(); got != "boom" {
				t.Errorf("recover: got %v, want boom", got)
			}
		}()
		_ = orgctx.Do(ctx, directory{acme: true}, acme, func(context.Context) error { panic("boom") })
	}()
	if got := from(ctx); got != "globex" {
		t.Errorf("after the panic: got %q, want globex", got)
	}
}

func TestMiddlewareAndGuard(t *testing.T) {
	acme, globex := testkit.Org(t, "acme"), testkit.Org(t, "globex")
	tests := map[string]struct {
		incoming   context.Context //nolint:containedctx // what is tested
		resolve    func(*http.Request) (orgctx.ID, bool)
		want       string
		wantStatus int
	}{
		"found":              {t.Context(), func(*http.Request) (orgctx.ID, bool) { return acme, true }, "acme", http.StatusOK},
		"not found":          {t.Context(), func(*http.Request) (orgctx.ID, bool) { return orgctx.ID{}, false }, "", http.StatusForbidden},
		"found, yet zero":    {t.Context(), func(*http.Request) (orgctx.ID, bool) { return orgctx.ID{}, true }, "", http.StatusForbidden},
		"not ok, yet filled": {t.Context(), func(*http.Request) (orgctx.ID, bool) { return acme, false }, "", http.StatusForbidden},
		"another from before": {
			orgctx.With(t.Context(), globex), func(*http.Request) (orgctx.ID, bool) { return orgctx.ID{}, false }, "", http.StatusForbidden,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reached, guarded := "not reached", false
			next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				reached = from(r.Context())
				orgctx.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { guarded = true })).ServeHTTP(w, r)
			})
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(test.incoming, http.MethodGet, "/", http.NoBody)
			before := from(r.Context())
			orgctx.Middleware(test.resolve)(next).ServeHTTP(w, r)
			if reached != test.want {
				t.Errorf("handler: got %q, want %q", reached, test.want)
			}
			if w.Code != test.wantStatus || guarded != (test.wantStatus == http.StatusOK) {
				t.Errorf("guard: got status %d, passed %v, want %d", w.Code, guarded, test.wantStatus)
			}
			if got := from(r.Context()); got != before {
				t.Errorf("the caller's request: got %q, want %q", got, before)
			}
		})
	}
}

func ExampleDo() {
	acme, err := orgctx.ParseID("acme")
	if err != nil {
		fmt.Println(err)
		return
	}
	dir := directory{acme: true}
	err = orgctx.Do(context.Background(), dir, acme, func(ctx context.Context) error {
		id, _ := orgctx.From(ctx)
		fmt.Println("running for", id)
		return nil
	})
	fmt.Println(err)

	unknown, _ := orgctx.ParseID("unknown")
	err = orgctx.Do(context.Background(), dir, unknown, func(context.Context) error {
		fmt.Println("never printed")
		return nil
	})
	fmt.Println(err)
	// Output:
	// running for acme
	// <nil>
	// organization unknown: unknown organization
}

func ExampleMiddleware() {
	resolve := func(r *http.Request) (orgctx.ID, bool) {
		id, err := orgctx.ParseID(r.Header.Get("X-Test-Organization")) // a program would look at the session
		return id, err == nil
	}
	handler := orgctx.Middleware(resolve)(orgctx.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := orgctx.From(r.Context())
		fmt.Fprintf(w, "hello, %s", id)
	})))
	for _, organization := range []string{"acme", ""} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header.Set("X-Test-Organization", organization)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// 200 hello, acme
	// 403 no organization
}
