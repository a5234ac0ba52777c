package testkit

import (
	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// TB is the part of a test that names need. The cases of rapid have it too.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Org parses the id of an organization, or fails the test.
func Org(tb TB, text string) orgctx.ID {
	tb.Helper()
	id, err := orgctx.ParseID(text)
	if err != nil {
		tb.Fatalf("ParseID(%q): %v", text, err)
	}
	return id
}

// Group returns a group of an organization, or fails the test.
func Group(tb TB, org, name string) event.Group {
	tb.Helper()
	g, err := event.NewGroup(Org(tb, org), name)
	if err != nil {
		tb.Fatalf("NewGroup(%q, %q): %v", org, name, err)
	}
	return g
}

// Keys returns the names in Redis that a gateway uses without settings.
func Keys(tb TB) keyspace.Keyspace {
	tb.Helper()
	return KeysUnder(tb, keyspace.DefaultPrefix)
}

// KeysUnder returns the names in Redis under a prefix, or fails the test.
func KeysUnder(tb TB, prefix string) keyspace.Keyspace {
	tb.Helper()
	keys, err := keyspace.New(prefix)
	if err != nil {
		tb.Fatalf("keyspace.New(%q): %v", prefix, err)
	}
	return keys
}
