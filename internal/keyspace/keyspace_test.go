package keyspace_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustKeyspace(tb testing.TB, prefix string) keyspace.Keyspace {
	tb.Helper()
	k, err := keyspace.New(prefix)
	if err != nil {
		tb.Fatalf("New(%q): %v", prefix, err)
	}
	return k
}

func mustID(tb testing.TB, text string) orgctx.ID {
	tb.Helper()
	id, err := orgctx.ParseID(text)
	if err != nil {
		tb.Fatalf("ParseID(%q): %v", text, err)
	}
	return id
}

func TestNewRefusesAmbiguousPrefixes(t *testing.T) {
	for _, prefix := range []string{"", "a:b", "a{", "}", "*", "é", "a b", strings.Repeat("a", 65)} {
		if _, err := keyspace.New(prefix); !errors.Is(err, keyspace.ErrInvalidPrefix) {
			t.Errorf("New(%q): got %v, want ErrInvalidPrefix", prefix, err)
		}
	}
}

// The names are used by other programs, so they do not change.
func TestNames(t *testing.T) {
	k := mustKeyspace(t, keyspace.DefaultPrefix)
	org := mustID(t, "7")
	g, err := event.NewGroup(org, "chat.x_1-2")
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		k.GroupChannel(g):                      "orgcast:{7}:group:chat.x_1-2",
		k.History(g):                           "orgcast:{7}:history:chat.x_1-2",
		k.Once(g, "order:1}"):                  "orgcast:{7}:once:chat.x_1-2:order:1}",
		k.Organization(org):                    "orgcast:{7}:org",
		k.Connections(org):                     "orgcast:{7}:connections",
		k.Connections(orgctx.ID{}):             "orgcast:{.none}:connections",
		k.Organization(orgctx.ID{}):            "orgcast:{.none}:org",
		k.Member(org, "u-1"):                   "orgcast:{7}:member:u-1",
		k.Object(org, "chat", "c-1"):           "orgcast:{7}:object:chat:c-1",
		k.Session("KEY"):                       "orgcast:session:KEY",
		k.Canary("node"):                       "orgcast:canary:node",
		k.GroupChannel(group(t, org, "group")): "orgcast:{7}:group:group",
		k.Tasks("crew"):                        "orgcast:tasks:crew",
		k.DeadTasks("crew"):                    "orgcast:tasks:crew:dead",
		k.TaskOnce(org, "crew", "c-1"):         "orgcast:once:{orgcast:tasks:crew}:7:c-1",
		k.TaskEnd(org, "crew", "t-1"):          "orgcast:{7}:task:crew:t-1",
		k.Ask(org, "e-1", 3):                   "orgcast:{7}:ask:e-1:3",
		k.Stored(org, "notes.x"):               "orgcast:{7}:store:notes.x",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func group(tb testing.TB, org orgctx.ID, name string) event.Group {
	tb.Helper()
	g, err := event.NewGroup(org, name)
	if err != nil {
		tb.Fatalf("NewGroup(%q): %v", name, err)
	}
	return g
}

func TestParseGroupChannelRefusesHostileNames(t *testing.T) {
	k := mustKeyspace(t, keyspace.DefaultPrefix)
	for _, channel := range []string{
		"",
		"orgcast",
		"orgcast:",
		"orgcast:{",
		"orgcast:{}:group:y",
		"orgcast:{a}:group:",
		"orgcast:{a}:group",
		"orgcast:{a}:history:y",
		"orgcast:{a}:org",
		"orgcast:{a}:member:u",
		"orgcast:session:{a}:group:y",
		"orgcast:control",
		"other:{a}:group:y",
		"ORGCAST:{a}:group:y",
		"orgcast:orgcast:{a}:group:y",
		" orgcast:{a}:group:y",
		"orgcast:{a}:group:y ",
		"orgcast:{a}:group:y\n",
		"orgcast:{a}:group:x}:group:y",
		"orgcast:{a}:group:{b}",
		"orgcast:{{a}:group:y",
		"orgcast:{a}}:group:y",
		"orgcast:{a:group:y",
		"orgcast:{a}:group:*",
		"orgcast:{*}:group:y",
		"orgcast:{a}:group:a/b",
		"orgcast:{é}:group:y",
		"orgcast:{a}:group:é",
		"orgcast:{" + strings.Repeat("a", 65) + "}:group:y",
		"orgcast:{a}:group:" + strings.Repeat("y", 101),
	} {
		if g, ok := k.ParseGroupChannel(channel); ok || !g.IsZero() {
			t.Errorf("ParseGroupChannel(%q): got %v, %v, want nothing", channel, g, ok)
		}
	}
}

var (
	ids        = rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`)
	groupNames = rapid.StringMatching(`[A-Za-z0-9_.-]{1,100}`)
)

func TestGroupChannelRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, err := keyspace.New(ids.Draw(t, "prefix"))
		if err != nil {
			t.Fatal(err)
		}
		org, err := orgctx.ParseID(ids.Draw(t, "org"))
		if err != nil {
			t.Fatal(err)
		}
		g, err := event.NewGroup(org, groupNames.Draw(t, "name"))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := k.ParseGroupChannel(k.GroupChannel(g)); !ok || got != g {
			t.Fatalf("got %v, %v, want %v", got, ok, g)
		}
	})
}

// Whatever two things names are made for, they are equal only if the things are.
func TestNamesNeverCollide(t *testing.T) {
	// Few and short values, so that a collision would come up.
	short := rapid.StringMatching(`[a_-]{1,3}|org|member|group|session|session-ended|user-disabled|control|canary|tasks|dead|once|task|ask|store|history`)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) (name, thing string) {
			prefix := short.Draw(t, label+" prefix")
			orgText := short.Draw(t, label+" org")
			rest := short.Draw(t, label+" rest")
			k, err := keyspace.New(prefix)
			if err != nil {
				t.Fatal(err)
			}
			org, err := orgctx.ParseID(orgText)
			if err != nil {
				t.Fatal(err)
			}
			more := short.Draw(t, label+" more")
			switch kind := rapid.IntRange(0, 16).Draw(t, label+" kind"); kind {
			case 0:
				g, err := event.NewGroup(org, rest)
				if err != nil {
					t.Fatal(err)
				}
				return k.GroupChannel(g), fmt.Sprint("group ", prefix, " ", orgText, " ", rest)
			case 1:
				return k.Organization(org), fmt.Sprint("organization ", prefix, " ", orgText)
			case 2:
				return k.Member(org, rest), fmt.Sprint("member ", prefix, " ", orgText, " ", rest)
			case 3:
				return k.Session(rest), fmt.Sprint("session ", prefix, " ", rest)
			case 16:
				return k.SessionEnded(rest), fmt.Sprint("session ended ", prefix, " ", rest)
			case 14:
				return k.UserDisabled(rest), fmt.Sprint("user disabled ", prefix, " ", rest)
			case 15:
				return k.Control(), fmt.Sprint("control ", prefix)
			case 4:
				return k.Tasks(rest), fmt.Sprint("tasks ", prefix, " ", rest)
			case 5:
				return k.DeadTasks(rest), fmt.Sprint("dead ", prefix, " ", rest)
			case 6:
				return k.TaskOnce(org, rest, more), fmt.Sprint("once ", prefix, " ", orgText, " ", rest, " ", more)
			case 7:
				return k.TaskEnd(org, rest, more), fmt.Sprint("end ", prefix, " ", orgText, " ", rest, " ", more)
			case 8:
				return k.Ask(org, rest, len(more)), fmt.Sprint("ask ", prefix, " ", orgText, " ", rest, " ", len(more))
			case 9:
				return k.Stored(org, rest), fmt.Sprint("store ", prefix, " ", orgText, " ", rest)
			case 10, 11:
				g, err := event.NewGroup(org, rest)
				if err != nil {
					t.Fatal(err)
				}
				if kind == 10 {
					return k.History(g), fmt.Sprint("history ", prefix, " ", orgText, " ", rest)
				}
				key := rapid.StringMatching(`[a:}-]{1,3}`).Draw(t, label+" key")
				return k.Once(g, key), fmt.Sprint("recorded once ", prefix, " ", orgText, " ", rest, " ", key)
			case 12:
				return k.Object(org, rest, more), fmt.Sprint("object ", prefix, " ", orgText, " ", rest, " ", more)
			default:
				return k.Canary(rest), fmt.Sprint("canary ", prefix, " ", rest)
			}
		}
		nameA, thingA := draw("a")
		nameB, thingB := draw("b")
		if (nameA == nameB) != (thingA == thingB) {
			t.Fatalf("%s is %q, %s is %q", thingA, nameA, thingB, nameB)
		}
	})
}

func FuzzParseGroupChannel(f *testing.F) {
	f.Add("orgcast:{a}:group:y")
	f.Add("orgcast:{a}:group:x}:group:y")
	f.Add("orgcast:{}:group:")
	f.Add("orgcast:{a}:group:{b}:group:c")
	f.Add("\xff")
	k := mustKeyspace(f, keyspace.DefaultPrefix)
	f.Fuzz(func(t *testing.T, channel string) {
		g, ok := k.ParseGroupChannel(channel)
		if !ok {
			if !g.IsZero() {
				t.Errorf("ParseGroupChannel(%q): got %v beside false", channel, g)
			}
			return
		}
		// A name that parses is the name of what it parses to, and of nothing else.
		if got := k.GroupChannel(g); got != channel {
			t.Errorf("ParseGroupChannel(%q) is %v, whose channel is %q", channel, g, got)
		}
	})
}
