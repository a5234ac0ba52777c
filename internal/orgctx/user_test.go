package orgctx_test

import (
	"context"
	"fmt"
	"testing"

	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

// userOf returns organization and user of ctx as text, "" for none.
func userOf(ctx context.Context) string {
	user, ok := orgctx.UserFrom(ctx)
	if ok != (user != "") {
		return fmt.Sprintf("UserFrom says %v of %q", ok, user)
	}
	return from(ctx) + " " + string(user)
}

// TestCurrentUser: the user stands next to the organization, and goes with it.
func TestCurrentUser(t *testing.T) {
	acme, globex := testkit.Org(t, "acme"), testkit.Org(t, "globex")
	none := t.Context()
	ada := orgctx.WithUser(orgctx.With(none, acme), "ada")
	child, cancel := context.WithCancel(ada)
	cancel()
	for name, test := range map[string]struct {
		ctx  context.Context //nolint:containedctx // what is tested
		want string
	}{
		"none":                         {none, " "},
		"organization alone":           {orgctx.With(none, acme), "acme "},
		"both":                         {ada, "acme ada"},
		"user alone":                   {orgctx.WithUser(none, "ada"), " ada"},
		"id of another system":         {orgctx.WithUser(ada, "auth0|123"), "acme auth0|123"},
		"ended child":                  {child, "acme ada"},
		"user removed":                 {orgctx.WithoutUser(ada), "acme "},
		"organization removed":         {orgctx.Without(ada), " "},
		"another organization":         {orgctx.With(ada, globex), "globex "},
		"the same organization":        {orgctx.With(ada, acme), "acme "},
		"another organization, a user": {orgctx.WithUser(orgctx.With(ada, globex), "grace"), "globex grace"},
		"a member":                     {orgctx.WithMember(none, acme, "ada"), "acme ada"},
		"a member, before another":     {orgctx.WithMember(ada, globex, "grace"), "globex grace"},
		"a user of no organization":    {orgctx.WithMember(ada, orgctx.ID{}, "grace"), " grace"},
		"a member removed":             {orgctx.WithoutUser(orgctx.WithMember(none, acme, "ada")), "acme "},
		"a member's child":             {context.WithoutCancel(orgctx.WithMember(none, acme, "ada")), "acme ada"},
		"not canceled":                 {context.WithoutCancel(child), "acme ada"},
	} {
		if got := userOf(test.ctx); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestWithUserRefusesNoUser(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error(`WithUser(ctx, ""): got no panic, want one`)
		}
	}()
	orgctx.WithUser(t.Context(), "")
}

// TestDoHasNoUser: work for an organization does not run as the user of the caller's.
func TestDoHasNoUser(t *testing.T) {
	acme, globex := testkit.Org(t, "acme"), testkit.Org(t, "globex")
	ctx := orgctx.WithUser(orgctx.With(t.Context(), acme), "ada")
	err := orgctx.Do(ctx, directory{globex: true}, globex, func(inner context.Context) error {
		if got := userOf(inner); got != "globex " {
			t.Errorf("inside: got %q, want %q", got, "globex ")
		}
		return nil
	})
	if got := userOf(ctx); err != nil || got != "acme ada" {
		t.Errorf("outside: got %q, %v, want %q", got, err, "acme ada")
	}
}

func ExampleWithUser() {
	acme, _ := orgctx.ParseID("acme")
	ctx := orgctx.WithUser(orgctx.With(context.Background(), acme), "ada")
	org, _ := orgctx.From(ctx)
	user, _ := orgctx.UserFrom(ctx)
	fmt.Println(user, "of", org)
	// Output: ada of acme
}
