package event_test

import (
	"errors"
	"strings"
	"testing"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// groupNames says which names are valid.
var groupNames = map[string]bool{
	"a":                      true,
	"chat_0b7e4c1e-9f2a":     true,
	"user.42":                true,
	"A-Z.a-z_0-9":            true,
	".":                      true,
	"..":                     true,
	strings.Repeat("n", 100): true,
	strings.Repeat("n", 101): false,
	"":                       false,
	" ":                      false,
	"a b":                    false,
	"a:b":                    false,
	"a/b":                    false,
	"a*":                     false,
	"a?":                     false,
	"[a]":                    false,
	"{a}":                    false,
	"a}:group:b":             false,
	"é":                      false,
	"a\x00":                  false,
	"a\n":                    false,
	"\xff":                   false,
}

func TestGroupNames(t *testing.T) {
	org := mustID(t, "acme")
	for name, want := range groupNames {
		if got := event.ValidGroupName(name); got != want {
			t.Errorf("ValidGroupName(%q): got %v, want %v", name, got, want)
		}
		g, err := event.NewGroup(org, name)
		if want && err != nil || !want && !errors.Is(err, event.ErrInvalidGroup) {
			t.Errorf("NewGroup(%q): got %v, want it to be valid: %v", name, err, want)
		}
		if !want && !g.IsZero() {
			t.Errorf("NewGroup(%q): got %v, want the zero group", name, g)
		}
		if want && (g.Name() != name || g.Organization() != org || g.String() != "acme/"+name) {
			t.Errorf("NewGroup(%q): got %v", name, g)
		}
	}
}

func TestGroupNeedsOrganization(t *testing.T) {
	if g, err := event.NewGroup(orgctx.ID{}, "room"); !errors.Is(err, event.ErrInvalidGroup) || !g.IsZero() {
		t.Fatalf("got %v, %v, want the zero group and %v", g, err, event.ErrInvalidGroup)
	}
}

func TestZeroGroup(t *testing.T) {
	var g event.Group
	if !g.IsZero() || g.Name() != "" || !g.Organization().IsZero() || g.String() != "/" {
		t.Fatalf("got %v, %q, %v, %q", g.IsZero(), g.Name(), g.Organization(), g)
	}
}

func TestGroupsAreKeys(t *testing.T) {
	m := map[event.Group]int{mustGroup(t, "acme", "room"): 1, mustGroup(t, "rival", "room"): 2, mustGroup(t, "acme", "hall"): 3}
	if len(m) != 3 {
		t.Fatalf("groups: got %d, want 3 different ones", len(m))
	}
	if got := m[mustGroup(t, "rival", strings.Clone("room"))]; got != 2 {
		t.Fatalf("group made a second time: got %d, want 2", got)
	}
}

// FuzzGroupName checks that every group's channel parses back to the same group and that text
// outside the rule cannot name a group.
func FuzzGroupName(f *testing.F) {
	for name := range groupNames {
		f.Add("acme", name)
	}
	keys, err := keyspace.New(keyspace.DefaultPrefix)
	if err != nil {
		f.Fatal(err)
	}
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
	f.Fuzz(func(t *testing.T, orgText, name string) {
		org, err := orgctx.ParseID(orgText)
		if err != nil {
			return
		}
		g, err := event.NewGroup(org, name)
		want := name != "" && len(name) <= 100 && strings.Trim(name, allowed) == "" && !strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(allowed, r) })
		if (err == nil) != want {
			t.Fatalf("NewGroup(%q): got %v, want it to be valid: %v", name, err, want)
		}
		if err != nil {
			return
		}
		if back, ok := keys.ParseGroupChannel(keys.GroupChannel(g)); !ok || back != g {
			t.Fatalf("channel of %v parses to %v, %v", g, back, ok)
		}
	})
}
